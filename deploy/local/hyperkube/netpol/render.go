// render.go turns a snapshot of pods, namespaces and policies into the text of one nftables table. It is pure.

package netpol

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Table is the nftables table (family ip) that Render writes and nothing else touches.
const Table = "devplane-netpol"

// State is what a table is rendered from. Pods holds only pods with an address on the pod network.
type State struct {
	Pods            []*corev1.Pod
	Policies        []*netv1.NetworkPolicy
	NamespaceLabels map[string]labels.Set
}

// Render returns a script for `nft -f -` that replaces the table in one transaction.
//
// Each isolated pod gets a chain per direction that returns on a match and drops at its end. Replies are let through
// first; every packet in a connection's original direction is judged anew, so that a policy which comes later also cuts
// the connections that it forbids.
func Render(state State) string {
	pods := slices.Clone(state.Pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	state.Pods = pods
	policies := slices.Clone(state.Policies)
	slices.SortFunc(policies, func(a, b *netv1.NetworkPolicy) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})

	var chains strings.Builder
	var egress, ingress []string
	for n, pod := range pods {
		ip := pod.Status.PodIP
		isolatedOut, isolatedIn := false, false
		var out, in []string
		for _, policy := range policies {
			if policy.Namespace != pod.Namespace || !selects(&policy.Spec.PodSelector, pod.Labels) {
				continue
			}
			if slices.Contains(policy.Spec.PolicyTypes, netv1.PolicyTypeEgress) {
				isolatedOut = true
				for _, rule := range policy.Spec.Egress {
					out = append(out, state.matches("daddr", policy.Namespace, rule.To, rule.Ports, nil)...)
				}
			}
			if slices.Contains(policy.Spec.PolicyTypes, netv1.PolicyTypeIngress) {
				isolatedIn = true
				for _, rule := range policy.Spec.Ingress {
					in = append(in, state.matches("saddr", policy.Namespace, rule.From, rule.Ports, pod)...)
				}
			}
		}
		if isolatedOut {
			writeChain(&chains, fmt.Sprintf("out%d", n), "from", pod, out)
			egress = append(egress, fmt.Sprintf("%s : jump out%d", ip, n))
		}
		if isolatedIn {
			writeChain(&chains, fmt.Sprintf("in%d", n), "to", pod, in)
			ingress = append(ingress, fmt.Sprintf("%s : jump in%d", ip, n))
		}
	}

	var script strings.Builder
	fmt.Fprintf(&script, "add table ip %[1]s\ndelete table ip %[1]s\ntable ip %[1]s {\n%[2]s", Table, chains.String())
	writeHook(&script, "forward", dispatch("saddr", egress), dispatch("daddr", ingress))
	// What a pod sends to the node itself (the API server's Service ends there) passes the input hook instead.
	writeHook(&script, "input", dispatch("saddr", egress))
	script.WriteString("}\n")
	return script.String()
}

func writeChain(w *strings.Builder, name, direction string, pod *corev1.Pod, matches []string) {
	fmt.Fprintf(w, "\tchain %s { # %s %s/%s\n", name, direction, pod.Namespace, pod.Name)
	// A pod always reaches itself, also by way of its own Service.
	fmt.Fprintf(w, "\t\tip saddr %[1]s ip daddr %[1]s return\n", pod.Status.PodIP)
	for _, match := range matches {
		fmt.Fprintf(w, "\t\t%s return\n", match)
	}
	w.WriteString("\t\tcounter drop\n\t}\n")
}

func writeHook(w *strings.Builder, hook string, dispatches ...string) {
	fmt.Fprintf(w, "\tchain %[1]s {\n\t\ttype filter hook %[1]s priority -5; policy accept;\n", hook)
	w.WriteString("\t\tct direction reply ct state established,related accept\n\t\tct state related accept\n")
	for _, line := range dispatches {
		w.WriteString(line)
	}
	w.WriteString("\t}\n")
}

func dispatch(field string, jumps []string) string {
	if len(jumps) == 0 {
		return ""
	}
	return fmt.Sprintf("\t\tip %s vmap { %s }\n", field, strings.Join(jumps, ", "))
}

func selects(selector *metav1.LabelSelector, set labels.Set) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(set)
}

// matches renders what one rule lets through. field is the far end's address. An ingress rule's named ports are those
// of the selected pod, target; an egress rule's (target nil) are those of each destination.
func (s State) matches(field, namespace string, peers []netv1.NetworkPolicyPeer, ports []netv1.NetworkPolicyPort, target *corev1.Pod) []string {
	if len(peers) == 0 {
		if target == nil && hasNamedPort(ports) { // to anywhere, on a port by name: only pods have names for ports
			return append(withPorts("", fixedPorts(ports), len(ports) == 0), s.namedPortMatches(field, s.Pods, ports)...)
		}
		return withPorts("", resolvedPorts(ports, target), len(ports) == 0)
	}
	var out []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if address := blockMatch(field, peer.IPBlock); address != "" {
				out = append(out, withPorts(address, resolvedPorts(ports, target), len(ports) == 0)...)
			}
			continue
		}
		pods := s.selected(namespace, peer)
		if len(pods) == 0 {
			continue
		}
		out = append(out, withPorts(podsMatch(field, pods), resolvedPorts(ports, target), len(ports) == 0)...)
		if target == nil {
			out = append(out, s.namedPortMatches(field, pods, ports)...)
		}
	}
	return out
}

func (s State) namedPortMatches(field string, pods []*corev1.Pod, ports []netv1.NetworkPolicyPort) []string {
	var out []string
	for _, pod := range pods {
		out = append(out, withPorts(podsMatch(field, []*corev1.Pod{pod}), namedPorts(ports, pod), false)...)
	}
	return out
}

func (s State) selected(namespace string, peer netv1.NetworkPolicyPeer) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range s.Pods {
		if peer.NamespaceSelector == nil && pod.Namespace != namespace {
			continue
		}
		if peer.NamespaceSelector != nil {
			set, known := s.NamespaceLabels[pod.Namespace]
			if !known || !selects(peer.NamespaceSelector, set) {
				continue
			}
		}
		if peer.PodSelector == nil || selects(peer.PodSelector, pod.Labels) {
			out = append(out, pod)
		}
	}
	return out
}

func podsMatch(field string, pods []*corev1.Pod) string {
	addresses := make([]string, 0, len(pods))
	for _, pod := range pods {
		addresses = append(addresses, pod.Status.PodIP)
	}
	slices.Sort(addresses)
	return fmt.Sprintf("ip %s { %s }", field, strings.Join(slices.Compact(addresses), ", "))
}

// blockMatch is empty for a block that can match no IPv4 packet.
func blockMatch(field string, block *netv1.IPBlock) string {
	cidr, err := netip.ParsePrefix(block.CIDR)
	if err != nil || !cidr.Addr().Is4() {
		return ""
	}
	match := ""
	if cidr.Bits() > 0 { // nft refuses a /0 as a match that is always true
		match = fmt.Sprintf("ip %s %s", field, cidr.Masked())
	}
	for _, text := range block.Except {
		except, err := netip.ParsePrefix(text)
		if err != nil || !except.Addr().Is4() {
			continue
		}
		// One match each: nft refuses a set whose intervals overlap.
		match += fmt.Sprintf(" ip %s != %s", field, except.Masked())
	}
	if match == "" {
		return "meta nfproto ipv4"
	}
	return strings.TrimSpace(match)
}
