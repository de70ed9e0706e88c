// Package netpol turns the NetworkPolicies of a one-node cluster into nftables tables, one for IPv4 and one for IPv6.
//
// It is for local use and tests. It watches Pods, Namespaces and NetworkPolicies and, at each change, replaces its tables
// as a whole in one transaction, so that no packet ever meets half a policy. Limits:
//   - one node;
//   - link-local addresses are not judged: the local cluster lets nothing but the search for neighbours go by them;
//   - a pod is filtered from the moment the kubelet reports its address, which is a little after its containers start;
//   - what the node itself sends to a pod is never filtered (the kubelet's probes need that);
//   - policies select pods of the pod network; host-network pods are the node.
package netpol

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	netlisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// settle is how long a burst of changes may go on before it is applied; retry, how soon a failed change is tried again.
const (
	settle = 50 * time.Millisecond
	retry  = time.Second
)

type engine struct {
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   netlisters.NetworkPolicyLister
	applied    string
}

// Run enforces the policies of the kubeconfig's cluster until ctx ends. It leaves its tables in place: policies that
// hold while it restarts are safer than none.
func Run(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client from %s: %w", kubeconfig, err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces, policies := factory.Core().V1().Pods(), factory.Core().V1().Namespaces(), factory.Networking().V1().NetworkPolicies()
	e := &engine{pods: pods.Lister(), namespaces: namespaces.Lister(), policies: policies.Lister()}

	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default: // one is pending already, and it will see this change too
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { poke() },
		UpdateFunc: func(any, any) { poke() },
		DeleteFunc: func(any) { poke() },
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	poke()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			pause := settle
			if err := e.sync(ctx); err != nil {
				slog.Error("policies not applied, the previous ones stay", "error", err)
				poke()
				pause = retry
			}
			time.Sleep(pause)
		}
	}
}

func (e *engine) sync(ctx context.Context) error {
	state, err := e.snapshot()
	if err != nil {
		return err
	}
	script := Render(state)
	if script == e.applied {
		return nil
	}
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(script)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	e.applied = script
	slog.Info("policies applied", "policies", len(state.Policies), "pods", len(state.Pods))
	return nil
}

func (e *engine) snapshot() (State, error) {
	pods, err := e.pods.List(labels.Everything())
	if err != nil {
		return State{}, fmt.Errorf("list pods: %w", err)
	}
	policies, err := e.policies.List(labels.Everything())
	if err != nil {
		return State{}, fmt.Errorf("list policies: %w", err)
	}
	namespaces, err := e.namespaces.List(labels.Everything())
	if err != nil {
		return State{}, fmt.Errorf("list namespaces: %w", err)
	}
	state := State{Policies: policies, NamespaceLabels: make(map[string]labels.Set, len(namespaces))}
	for _, namespace := range namespaces {
		state.NamespaceLabels[namespace.Name] = namespace.Labels
	}
	for _, pod := range pods {
		if onPodNetwork(pod) {
			state.Pods = append(state.Pods, pod)
		}
	}
	return state, nil
}

// A finished pod's address may already belong to another pod.
func onPodNetwork(pod *corev1.Pod) bool {
	return pod.Status.PodIP != "" && !pod.Spec.HostNetwork &&
		pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}
