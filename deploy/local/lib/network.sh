# shellcheck shell=bash
# Turns the machine into a node whose pods reach one another and nothing outside it.

NETWORK_TABLE=devplane-local

make_network() {
  # The first `ip netns add` bind-mounts /run/netns over itself. A pod started before that could never be removed (EBUSY).
  mkdir -p /run/netns
  if ! mountpoint -q /run/netns; then
    mount --bind /run/netns /run/netns
    echo yes >"$RUN/mounted-netns"
  fi
  mount --make-shared /run/netns

  ip link show "$NODE_BRIDGE" >/dev/null 2>&1 || ip link add "$NODE_BRIDGE" type bridge
  ip address replace "$NODE_IP/32" dev "$NODE_BRIDGE"
  ip link set "$NODE_BRIDGE" up
  # Packets to a Service without endpoints would otherwise follow the default route out of the machine.
  ip route replace "$SERVICE_CIDR" dev "$NODE_BRIDGE" src "$NODE_IP"

  # Between two pods on one bridge, Services and NetworkPolicies work only when bridged packets pass the IP hooks.
  [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || modprobe br_netfilter 2>/dev/null || true
  [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] ||
    fail "the kernel has no br_netfilter, and NetworkPolicies between pods need it" "load it with 'modprobe br_netfilter'"
  local setting
  [ -s "$STATE/sysctl-before" ] || sysctl net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables | tr -d ' ' >"$STATE/sysctl-before"
  for setting in net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1; do sysctl -qw "$setting"; done

  # The one rule that keeps the cluster on this machine: pods may be forwarded to interfaces of ours, all named devplane*.
  nft -f - <<EOF || fail "nft refused the local cluster's table" "the kernel needs nf_tables; 'nft list ruleset' shows whether it works"
add table ip $NETWORK_TABLE
delete table ip $NETWORK_TABLE
table ip $NETWORK_TABLE {
  chain forward {
    type filter hook forward priority mangle; policy accept;
    ip saddr $POD_CIDR oifname != "devplane*" counter drop comment "nothing of the cluster leaves the machine"
    ip daddr $POD_CIDR iifname != "devplane*" counter drop comment "nothing from outside reaches a pod"
  }
}
EOF
}
