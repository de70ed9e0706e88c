// Command cilium-oracle turns policies and traffic into what Cilium's own policy engine (github.com/cilium/cilium, pkg/policy) says of them.
//
// Each line of its input is {"policies": [NetworkPolicy...], "ciliumPolicies": [CiliumNetworkPolicy...], "traffic": [...]}, each line of its output a
// letter for each of the traffic: + is allowed and - refused. A policy that Cilium would not take is an error.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/cilium/cilium/pkg/crypto/certificatemanager"
	envoy "github.com/cilium/cilium/pkg/envoy/policy"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/identity/identitymanager"
	"github.com/cilium/cilium/pkg/k8s"
	cilium "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	corev1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/core/v1"
	netv1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/networking/v1"
	metav1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/apis/meta/v1"
	k8sutils "github.com/cilium/cilium/pkg/k8s/utils"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/policy/types"
	"github.com/cilium/cilium/pkg/policy/utils"
	fakecertificates "github.com/cilium/cilium/pkg/testutils/certificatemanager"
	fakemetrics "github.com/cilium/cilium/pkg/testutils/policy"
	"github.com/cilium/cilium/pkg/u8proto"
)

// Cilium's name of a cluster that was given none.
const cluster = "default"

type query struct {
	Policies       []*netv1.NetworkPolicy        `json:"policies"`
	CiliumPolicies []*cilium.CiliumNetworkPolicy `json:"ciliumPolicies"`
	Traffic        []traffic                     `json:"traffic"`
}

type traffic struct {
	Source, Destination end
	ResolvedPort        uint16
	Protocol            string
}

// end is a pod, or an address outside of the cluster; perhaps one that the workspace was told for a name.
type end struct {
	Internal *pod
	IP       netip.Addr
	Name     string
}

type pod struct {
	Namespace                  string
	NamespaceLabels, PodLabels map[string]string
}

// labels are those of the identity that Cilium would give it.
func (e end) labels(names []api.FQDNSelector) (labels.LabelArray, error) {
	if e.Internal != nil {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Internal.Namespace, Labels: e.Internal.NamespaceLabels}}
		return labels.Map2Labels(k8sutils.SanitizePodLabels(e.Internal.PodLabels, namespace, "", cluster), labels.LabelSourceK8s).LabelArray(), nil
	}
	all := labels.GetCIDRLabels(netip.PrefixFrom(e.IP, e.IP.BitLen()))
	for _, selector := range names {
		pattern, err := selector.ToRegex()
		if err != nil {
			return nil, err
		}
		// A name ends with a dot there.
		if e.Name != "" && pattern.MatchString(e.Name+".") {
			label := selector.IdentityLabel()
			all[label.Key] = label
		}
	}
	return all.LabelArray(), nil
}

func (q query) judge(log *slog.Logger) ([]byte, error) {
	var entries types.PolicyEntries
	var names []api.FQDNSelector
	for _, policy := range q.Policies {
		parsed, err := k8s.ParseNetworkPolicy(log, cluster, policy)
		if err != nil {
			return nil, fmt.Errorf("NetworkPolicy %s: %w", policy.Name, err)
		}
		entries = append(entries, parsed...)
	}
	for _, policy := range q.CiliumPolicies {
		rules, err := policy.Parse(log, cluster)
		if err != nil {
			return nil, fmt.Errorf("CiliumNetworkPolicy %s: %w", policy.Name, err)
		}
		for _, rule := range rules {
			for _, egress := range rule.Egress {
				names = append(names, egress.ToFQDNs...)
			}
		}
		entries = append(entries, utils.RulesToPolicyEntries(rules)...)
	}

	var flows []types.Flow
	identities := identity.IdentityMap{}
	known := map[string]*identity.Identity{}
	identify := func(e end) (*identity.Identity, error) {
		array, err := e.labels(names)
		if err != nil {
			return nil, err
		}
		key := array.String()
		if known[key] == nil {
			number := identity.NumericIdentity(1000 + len(known))
			known[key] = identity.NewIdentity(number, array.Labels())
			identities[number] = array
		}
		return known[key], nil
	}
	for _, t := range q.Traffic {
		from, err := identify(t.Source)
		if err != nil {
			return nil, err
		}
		to, err := identify(t.Destination)
		if err != nil {
			return nil, err
		}
		protocol, err := u8proto.ParseProtocol(t.Protocol)
		if err != nil {
			return nil, err
		}
		flows = append(flows, types.Flow{From: from, To: to, Proto: protocol, Dport: t.ResolvedPort})
	}

	manager := identitymanager.NewIDManager(log)
	translator := envoy.NewEnvoyL7RulesTranslator(log, certificatemanager.NewMockSecretManagerInline())
	repository := policy.NewPolicyRepository(log, identities, &fakecertificates.Fake{}, translator, manager, fakemetrics.NewPolicyMetricsNoop())
	repository.UpdateIdentities(identities, nil)
	repository.MustAddPolicyEntries(entries)
	verdicts := make([]byte, 0, len(flows))
	for _, flow := range flows {
		result, _, _, err := policy.LookupFlow(log, repository, manager, flow)
		if err != nil {
			return nil, err
		}
		verdict := byte('-')
		if result.Allowed() {
			verdict = '+'
		}
		verdicts = append(verdicts, verdict)
	}
	return verdicts, nil
}

func main() {
	log := slog.New(slog.DiscardHandler)
	option.Config.EnableIPv4, option.Config.EnableIPv6 = true, true
	option.Config.EnableL7Proxy = true
	policy.SetPolicyEnabled(option.DefaultEnforcement)
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), bufio.NewWriter(os.Stdout)
	for in.More() {
		var q query
		if err := in.Decode(&q); err != nil {
			fmt.Fprintf(os.Stderr, "error: the input is not as expected: %v\n", err)
			os.Exit(65)
		}
		verdicts, err := q.judge(log)
		if err != nil {
			fmt.Fprintf(os.Stderr, "error: Cilium does not take it: %v\n", err)
			os.Exit(65)
		}
		out.Write(append(verdicts, '\n'))
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintf(os.Stderr, "error: the output can't be written: %v\n", err)
		os.Exit(74)
	}
}
