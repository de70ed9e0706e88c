// ports.go turns the ports of a policy rule into nftables matches, with ranges merged and names looked up.

package netpol

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

type portRange struct {
	protocol    string
	first, last int32
}

const lastPort = 65535

// withPorts joins an address match with one match per protocol. Without any port, everything at the address matches.
func withPorts(address string, ranges []portRange, anyPort bool) []string {
	if anyPort {
		return []string{strings.TrimSpace(address + " counter")}
	}
	var out []string
	for _, protocol := range []string{"tcp", "udp", "sctp"} {
		if set := portSet(protocol, ranges); set != "" {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s dport %s counter", address, protocol, set)))
		}
	}
	return out
}

// portSet merges what overlaps or touches: nft refuses a set whose intervals overlap.
func portSet(protocol string, ranges []portRange) string {
	var own []portRange
	for _, r := range ranges {
		if r.protocol == protocol {
			own = append(own, r)
		}
	}
	slices.SortFunc(own, func(a, b portRange) int { return int(a.first - b.first) })
	var merged []portRange
	for _, r := range own {
		if n := len(merged); n > 0 && r.first <= merged[n-1].last+1 {
			merged[n-1].last = max(merged[n-1].last, r.last)
			continue
		}
		merged = append(merged, r)
	}
	var elements []string
	for _, r := range merged {
		if r.first == r.last {
			elements = append(elements, fmt.Sprint(r.first))
		} else {
			elements = append(elements, fmt.Sprintf("%d-%d", r.first, r.last))
		}
	}
	if len(elements) == 0 {
		return ""
	}
	return "{ " + strings.Join(elements, ", ") + " }"
}

// resolvedPorts are the numbered ports, and the named ones too when the pod that names them is known.
func resolvedPorts(ports []netv1.NetworkPolicyPort, pod *corev1.Pod) []portRange {
	return append(fixedPorts(ports), namedPorts(ports, pod)...)
}

func fixedPorts(ports []netv1.NetworkPolicyPort) []portRange {
	var out []portRange
	for _, p := range ports {
		switch {
		case p.Port == nil:
			out = append(out, portRange{protocolOf(p.Protocol), 0, lastPort})
		case p.Port.Type == intstr.Int && p.EndPort != nil:
			out = append(out, portRange{protocolOf(p.Protocol), p.Port.IntVal, *p.EndPort})
		case p.Port.Type == intstr.Int:
			out = append(out, portRange{protocolOf(p.Protocol), p.Port.IntVal, p.Port.IntVal})
		}
	}
	return out
}

// namedPorts finds each named port among the containers of pod, those of restartable init containers included.
func namedPorts(ports []netv1.NetworkPolicyPort, pod *corev1.Pod) []portRange {
	if pod == nil {
		return nil
	}
	var out []portRange
	for _, p := range ports {
		if p.Port == nil || p.Port.Type != intstr.String {
			continue
		}
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			for _, port := range container.Ports {
				if port.Name == p.Port.StrVal && protocolOf(&port.Protocol) == protocolOf(p.Protocol) {
					out = append(out, portRange{protocolOf(p.Protocol), port.ContainerPort, port.ContainerPort})
				}
			}
		}
	}
	return out
}

func hasNamedPort(ports []netv1.NetworkPolicyPort) bool {
	return slices.ContainsFunc(ports, func(p netv1.NetworkPolicyPort) bool {
		return p.Port != nil && p.Port.Type == intstr.String
	})
}

func protocolOf(protocol *corev1.Protocol) string {
	if protocol == nil || *protocol == "" {
		return "tcp"
	}
	return strings.ToLower(string(*protocol))
}
