# shellcheck shell=bash
# Turns a running cluster into a stopped one and into nothing: every process, mount, link and rule that up.sh made, no other.

stop_node() { stop local-path kube-proxy kubelet; }

stop_containers() {
  local task tasks
  if [ -S "$RUN/containerd.sock" ] && running containerd; then
    tasks=$(timeout 20 ctr --address "$RUN/containerd.sock" --namespace k8s.io tasks ls -q 2>/dev/null || true)
    for task in $tasks; do timeout 10 ctr --address "$RUN/containerd.sock" --namespace k8s.io tasks kill -s SIGKILL "$task" 2>/dev/null || true; done
    for task in $tasks; do timeout 10 ctr --address "$RUN/containerd.sock" --namespace k8s.io tasks rm -f "$task" >/dev/null 2>&1 || true; done
  fi
  # After a crash there may be shims and containers that no containerd knows of: both carry our own paths.
  end_processes shims
  end_processes contained
  local netns
  for netns in $(ip netns list 2>/dev/null | awk '/^cni-/ { print $1 }'); do
    ! ours_netns "$netns" || ip netns delete "$netns" 2>/dev/null || true
  done
}

# A pod's namespace is ours when its eth0 is an end of a veth on our bridge, or it has no eth0 left while our bridge is the only one.
ours_netns() {
  local address
  address=$(ip -n "$1" -4 -o address show dev eth0 2>/dev/null | awk '{ print $4 }')
  case $address in
    10.244.0.* | '') return 0 ;;
    *) return 1 ;;
  esac
}

# our_processes KIND: pids. A shim has our socket in its arguments; a contained process is in a cgroup of a pod of ours.
our_processes() {
  local dir pid
  for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    case $1 in
      shims) { tr "\0" " " <"$dir/cmdline"; } 2>/dev/null | grep -q "containerd-shim-runc-v2 .*-address $RUN/containerd.sock" && echo "$pid" ;;
      contained) grep -Eq ':/kubepods(/|$)' "$dir/cgroup" 2>/dev/null && echo "$pid" ;;
    esac
  done
  return 0
}

end_processes() {
  local pid tries
  for pid in $(our_processes "$1"); do kill -KILL "$pid" 2>/dev/null || true; done
  for ((tries = 50; tries > 0; tries--)); do
    [ -n "$(our_processes "$1")" ] || return 0
    sleep 0.1
  done
}

our_mounts() { awk -v a="$STATE/" -v b="$RUN/" '{ m = $2; gsub(/\\040/, " ", m) } index(m, a) == 1 || index(m, b) == 1 { print m }' /proc/mounts | sort -ru; }

release_mounts() {
  local mount
  while read -r mount; do
    [ -z "$mount" ] || umount -l "$mount" 2>/dev/null || true
  done <<<"$(our_mounts)"
}

NFT_TABLES=({ip,ip6}" $NETWORK_TABLE" {ip,ip6}" devplane-netpol" {ip,ip6}" kube-proxy")

remove_everything() {
  local table link setting
  for table in "${NFT_TABLES[@]}"; do
    # shellcheck disable=SC2086
    nft delete table $table 2>/dev/null || true
  done
  remove_outside
  for link in "$POD_BRIDGE" "$NODE_BRIDGE"; do ip link delete "$link" 2>/dev/null || true; done
  if [ -s "$STATE/sysctl-before" ]; then
    while read -r setting; do sysctl -qw "$setting" 2>/dev/null || true; done <"$STATE/sysctl-before"
  fi
  # Only when up.sh made that mount, and no other namespace lives in it.
  if [ -e "$RUN/mounted-netns" ] && [ -z "$(ls /run/netns)" ]; then umount /run/netns 2>/dev/null || true; fi
  remove_cgroups
  rm -rf "$STATE"
  # The lock is held by this very process; the file may go.
  rm -rf "$RUN"
}

remove_cgroups() {
  find /sys/fs/cgroup -depth -type d \( -path '*/kubepods' -o -path '*/kubepods/*' -o -path '*/k8s.io' -o -path '*/k8s.io/*' \) \
    -exec rmdir {} + 2>/dev/null || true
}

remove_cache() {
  rm -rf "$BIN" "$CACHE/rootfs" "$CACHE"/oidc-provider-*
  if command -v buildah >/dev/null; then buildah rmi "$BASE_IMAGE" >/dev/null 2>&1 || true; fi
}

check_nothing_left() {
  local left=() table name
  [ -z "$(our_processes shims)$(our_processes contained)" ] || left+=("processes: $(our_processes shims) $(our_processes contained)")
  for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy containerd netpol local-path oidc-provider forward-loopback forward-node; do
    ! running "$name" || left+=("process: $name")
  done
  # What runs without a pid file that knows it: its arguments name the state directory.
  local dir
  for dir in /proc/[0-9]*; do
    [ "${dir#/proc/}" != $$ ] || continue
    if { tr "\0" "\n" <"$dir/cmdline"; } 2>/dev/null | grep -qF -e "$STATE/conf/" -e "$STATE/pki/" -e "$STATE/identity/" -e "$RUN/"; then
      left+=("process ${dir#/proc/}: $({ tr "\0" " " <"$dir/cmdline"; } 2>/dev/null | cut -c1-80)")
    fi
  done
  [ -z "$(our_mounts)" ] || left+=("mounts: $(our_mounts | tr '\n' ' ')")
  for name in "$NODE_BRIDGE" "$POD_BRIDGE"; do ! ip link show "$name" >/dev/null 2>&1 || left+=("link: $name"); done
  for table in "${NFT_TABLES[@]}"; do
    # shellcheck disable=SC2086
    ! nft list table $table >/dev/null 2>&1 || left+=("nftables table: $table")
  done
  [ -z "$(ip route show "$SERVICE_CIDR")" ] || left+=("route: $SERVICE_CIDR")
  [ -z "$(ip -6 route show "$SERVICE_CIDR6" 2>/dev/null)" ] || left+=("route: $SERVICE_CIDR6")
  [ -z "$(outside_left)" ] || left+=("$(outside_left | paste -sd ';')")
  [ ! -e "$STATE" ] || left+=("directory: $STATE")
  [ ! -e "$RUN" ] || left+=("directory: $RUN")
  [ ${#left[@]} -eq 0 ] || fail "left behind: $(printf '%s; ' "${left[@]}")" "stop what still uses it, then run the same command again"
}
