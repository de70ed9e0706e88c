// Command policy-oracle turns policies and traffic into what github.com/mattfenwick/cyclonus says of them.
//
// Each line of its input is {"policies": [NetworkPolicy...], "traffic": [matcher.Traffic...]}, each line of its output a letter for each
// of the traffic: + is allowed and - refused.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	netv1 "k8s.io/api/networking/v1"
)

type query struct {
	Policies []*netv1.NetworkPolicy `json:"policies"`
	Traffic  []*matcher.Traffic     `json:"traffic"`
}

func main() {
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), bufio.NewWriter(os.Stdout)
	for in.More() {
		var q query
		if err := in.Decode(&q); err != nil {
			fmt.Fprintf(os.Stderr, "error: the input is not as expected: %v\n", err)
			os.Exit(65)
		}
		// Not simplified: what was rendered is judged, not what it is thought to be equal to.
		policy := matcher.BuildNetworkPolicies(false, q.Policies)
		for _, traffic := range q.Traffic {
			verdict := byte('-')
			if policy.IsTrafficAllowed(traffic).IsAllowed() {
				verdict = '+'
			}
			out.WriteByte(verdict)
		}
		out.WriteByte('\n')
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintf(os.Stderr, "error: the output can't be written: %v\n", err)
		os.Exit(74)
	}
}
