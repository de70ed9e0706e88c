# shellcheck shell=bash
# Turns the machine into a node whose pods reach one another and nothing outside it.

NETWORK_TABLE=devplane-local

# Whether pods have addresses of IPv6 too. Asked once: the ranges of a Node and of Services stay as they were made.
decide_families() {
  [ ! -s "$STATE/ipv6" ] || return 0
  local why=
  if [ -d "$STATE/etcd" ]; then
    why='this cluster was made without'
  elif [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null)" != 0 ]; then
    why='the kernel has it off'
  elif [ ! -e /proc/sys/net/bridge/bridge-nf-call-ip6tables ]; then
    why='the kernel passes no bridged packet of it to policies'
  # A kernel that begins to forward forgets the routes that a router has told it (Linux, ip-sysctl: accept_ra).
  elif [ "$(cat /proc/sys/net/ipv6/conf/all/forwarding)" = 0 ] && [ -n "$(ip -6 route show proto ra)" ]; then
    why='this machine has its own routes from a router, and would lose them'
  elif [ "$(cat /proc/sys/net/ipv6/conf/all/forwarding)" = 0 ] && [ -n "$(ip -6 -o address show scope global dynamic)" ]; then
    why='this machine has an address from a router, and would lose it'
  # The setting for all is written to each: none could be put back as it was.
  elif [ "$(cat /proc/sys/net/ipv6/conf/*/forwarding | sort -u | wc -l)" != 1 ]; then
    why='the interfaces of this machine forward differently, and would not any more'
  fi
  [ -z "$why" ] || note "without IPv6: $why"
  IPV6=yes
  [ -z "$why" ] || IPV6=no
  echo "$IPV6" >"$STATE/ipv6"
}

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
  decide_families
  local setting settings=(net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables)
  [ "$IPV6" = no ] || settings+=(net.ipv6.conf.all.forwarding net.bridge.bridge-nf-call-ip6tables)
  [ -s "$STATE/sysctl-before" ] || sysctl "${settings[@]}" | tr -d ' ' >"$STATE/sysctl-before"
  for setting in "${settings[@]}"; do sysctl -qw "$setting=1"; done

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
  [ "$IPV6" = no ] || make_network_of_ipv6
}

make_network_of_ipv6() {
  ip address replace "$NODE_IP6/128" dev "$NODE_BRIDGE" nodad
  ip -6 route replace "$SERVICE_CIDR6" dev "$NODE_BRIDGE"
  # Pods are on one bridge, where each could speak with the next, and with the node, by addresses that no policy knows. By those goes the search for
  # neighbours (RFC 4861) and nothing else.
  nft -f - <<EOF || fail "nft refused the local cluster's table for IPv6" "the kernel needs nf_tables; 'nft list ruleset' shows whether it works"
add table ip6 $NETWORK_TABLE
delete table ip6 $NETWORK_TABLE
table ip6 $NETWORK_TABLE {
  chain beside {
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } return
    ip6 saddr fe80::/10 counter drop
    ip6 daddr { fe80::/10, ff00::/8 } counter drop
  }
  chain forward {
    type filter hook forward priority mangle; policy accept;
    iifname "$POD_BRIDGE" jump beside
    ip6 saddr $POD_CIDR6 oifname != "devplane*" counter drop comment "nothing of the cluster leaves the machine"
    ip6 daddr $POD_CIDR6 iifname != "devplane*" counter drop comment "nothing from outside reaches a pod"
  }
  chain input {
    type filter hook input priority mangle; policy accept;
    iifname "$POD_BRIDGE" jump beside
  }
}
EOF
}
