// render.go turns a snapshot of pods, namespaces and policies into the text of two nftables tables, one for each family. It is pure.

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

// Table is what the nftables tables are called that Render writes (families ip and ip6) and nothing else touches.
const Table = "devplane-netpol"

// family is IPv4 or IPv6, by nftables' names for it.
type family struct {
	table, protocol string
	// always stands before everything else in a hook.
	always string
}

var families = []family{
	{table: "ip", protocol: "ipv4"},
	// Without these no neighbour is found (RFC 4861); for IPv4, that is ARP's, which passes no hook of ours.
	{table: "ip6", protocol: "ipv6", always: "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"},
}

func (f family) holds(address netip.Addr) bool { return address.Is4() == (f.table == "ip") }

// addressOf is empty for a pod without an address of this family.
func (f family) addressOf(pod *corev1.Pod) string {
	for _, ip := range pod.Status.PodIPs {
		if address, err := netip.ParseAddr(ip.IP); err == nil && f.holds(address) {
			return address.String()
		}
	}
	return ""
}

// State is what a table is rendered from. Pods holds only pods with an address on the pod network.
type State struct {
	Pods            []*corev1.Pod
	Policies        []*netv1.NetworkPolicy
	NamespaceLabels map[string]labels.Set
}

// snapshot is what one family's table is rendered from.
type snapshot struct {
	State
	family
}

// Render returns a script for `nft -f -` that replaces both tables in one transaction.
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
	state.Policies = policies

	var script strings.Builder
	for _, family := range families {
		snapshot{state, family}.render(&script)
	}
	return script.String()
}

func (s snapshot) render(script *strings.Builder) {
	var chains strings.Builder
	var egress, ingress []string
	for n, pod := range s.Pods {
		ip := s.addressOf(pod)
		if ip == "" {
			continue
		}
		isolatedOut, isolatedIn := false, false
		var out, in []string
		for _, policy := range s.Policies {
			if policy.Namespace != pod.Namespace || !selects(&policy.Spec.PodSelector, pod.Labels) {
				continue
			}
			if slices.Contains(policy.Spec.PolicyTypes, netv1.PolicyTypeEgress) {
				isolatedOut = true
				for _, rule := range policy.Spec.Egress {
					out = append(out, s.matches("daddr", policy.Namespace, rule.To, rule.Ports, nil)...)
				}
			}
			if slices.Contains(policy.Spec.PolicyTypes, netv1.PolicyTypeIngress) {
				isolatedIn = true
				for _, rule := range policy.Spec.Ingress {
					in = append(in, s.matches("saddr", policy.Namespace, rule.From, rule.Ports, pod)...)
				}
			}
		}
		if isolatedOut {
			s.writeChain(&chains, fmt.Sprintf("out%d", n), "from", pod, out)
			egress = append(egress, fmt.Sprintf("%s : jump out%d", ip, n))
		}
		if isolatedIn {
			s.writeChain(&chains, fmt.Sprintf("in%d", n), "to", pod, in)
			ingress = append(ingress, fmt.Sprintf("%s : jump in%d", ip, n))
		}
	}

	fmt.Fprintf(script, "add table %[1]s %[2]s\ndelete table %[1]s %[2]s\ntable %[1]s %[2]s {\n%[3]s", s.table, Table, chains.String())
	s.writeHook(script, "forward", s.dispatch("saddr", egress), s.dispatch("daddr", ingress))
	// What a pod sends to the node itself (the API server's Service ends there) passes the input hook instead.
	s.writeHook(script, "input", s.dispatch("saddr", egress))
	script.WriteString("}\n")
}

func (s snapshot) writeChain(w *strings.Builder, name, direction string, pod *corev1.Pod, matches []string) {
	fmt.Fprintf(w, "\tchain %s { # %s %s/%s\n", name, direction, pod.Namespace, pod.Name)
	// A pod always reaches itself, also by way of its own Service.
	fmt.Fprintf(w, "\t\t%[1]s saddr %[2]s %[1]s daddr %[2]s return\n", s.table, s.addressOf(pod))
	for _, match := range matches {
		fmt.Fprintf(w, "\t\t%s return\n", match)
	}
	w.WriteString("\t\tcounter drop\n\t}\n")
}

func (s snapshot) writeHook(w *strings.Builder, hook string, dispatches ...string) {
	fmt.Fprintf(w, "\tchain %[1]s {\n\t\ttype filter hook %[1]s priority -5; policy accept;\n", hook)
	w.WriteString(s.always)
	w.WriteString("\t\tct direction reply ct state established,related accept\n\t\tct state related accept\n")
	for _, line := range dispatches {
		w.WriteString(line)
	}
	w.WriteString("\t}\n")
}

func (s snapshot) dispatch(field string, jumps []string) string {
	if len(jumps) == 0 {
		return ""
	}
	return fmt.Sprintf("\t\t%s %s vmap { %s }\n", s.table, field, strings.Join(jumps, ", "))
}

func selects(selector *metav1.LabelSelector, set labels.Set) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(set)
}

// matches renders what one rule lets through. field is the far end's address. An ingress rule's named ports are those
// of the selected pod, target; an egress rule's (target nil) are those of each destination.
func (s snapshot) matches(field, namespace string, peers []netv1.NetworkPolicyPeer, ports []netv1.NetworkPolicyPort, target *corev1.Pod) []string {
	if len(peers) == 0 {
		if target == nil && hasNamedPort(ports) { // to anywhere, on a port by name: only pods have names for ports
			return append(withPorts("", fixedPorts(ports), len(ports) == 0), s.namedPortMatches(field, s.Pods, ports)...)
		}
		return withPorts("", resolvedPorts(ports, target), len(ports) == 0)
	}
	var out []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if address := s.blockMatch(field, peer.IPBlock); address != "" {
				out = append(out, withPorts(address, resolvedPorts(ports, target), len(ports) == 0)...)
			}
			continue
		}
		pods := s.selected(namespace, peer)
		if len(pods) == 0 {
			continue
		}
		out = append(out, withPorts(s.podsMatch(field, pods), resolvedPorts(ports, target), len(ports) == 0)...)
		if target == nil {
			out = append(out, s.namedPortMatches(field, pods, ports)...)
		}
	}
	return out
}

func (s snapshot) namedPortMatches(field string, pods []*corev1.Pod, ports []netv1.NetworkPolicyPort) []string {
	var out []string
	for _, pod := range pods {
		if s.addressOf(pod) == "" {
			continue
		}
		out = append(out, withPorts(s.podsMatch(field, []*corev1.Pod{pod}), namedPorts(ports, pod), false)...)
	}
	return out
}

func (s snapshot) selected(namespace string, peer netv1.NetworkPolicyPeer) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range s.Pods {
		if s.addressOf(pod) == "" {
			continue
		}
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

func (s snapshot) podsMatch(field string, pods []*corev1.Pod) string {
	addresses := make([]string, 0, len(pods))
	for _, pod := range pods {
		addresses = append(addresses, s.addressOf(pod))
	}
	slices.Sort(addresses)
	return fmt.Sprintf("%s %s { %s }", s.table, field, strings.Join(slices.Compact(addresses), ", "))
}

// blockMatch is empty for a block of the other family.
func (s snapshot) blockMatch(field string, block *netv1.IPBlock) string {
	cidr, err := netip.ParsePrefix(block.CIDR)
	if err != nil || !s.holds(cidr.Addr()) {
		return ""
	}
	match := ""
	if cidr.Bits() > 0 { // nft refuses a /0 as a match that is always true
		match = fmt.Sprintf("%s %s %s", s.table, field, cidr.Masked())
	}
	for _, text := range block.Except {
		except, err := netip.ParsePrefix(text)
		if err != nil || !s.holds(except.Addr()) {
			continue
		}
		// One match each: nft refuses a set whose intervals overlap.
		match += fmt.Sprintf(" %s %s != %s", s.table, field, except.Masked())
	}
	if match == "" {
		return "meta nfproto " + s.protocol
	}
	return strings.TrimSpace(match)
}
