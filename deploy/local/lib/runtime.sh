# shellcheck shell=bash
# Turns Debian's containerd and runc into the cluster's container runtime, with sockets and state of its own.

ctr_local() { ctr --address "$RUN/containerd.sock" --namespace k8s.io "$@"; }

start_runtime() {
  mkdir -p "$STATE/conf/cni"
  put "$STATE/conf/containerd.toml" <<EOF
version = 2
root = "$STATE/containerd"
state = "$RUN/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$RUN/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$STATE/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  # Without CAP_SYS_RESOURCE (small VMs, nested containers) runc cannot lower oom_score_adj, and every sandbox asks for -998.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$STATE/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/conf/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
EOF
  # Without addresses of IPv6 it is off on the pods' interface: on one bridge they would otherwise meet by link-local addresses, past every policy.
  local ranges="[{\"subnet\": \"$POD_CIDR\"}]" routes='{"dst": "0.0.0.0/0"}' no_ipv6=
  if [ "$IPV6" = yes ]; then
    ranges+=", [{\"subnet\": \"$POD_CIDR6\"}]" routes+=', {"dst": "::/0"}'
  elif [ -d /proc/sys/net/ipv6 ]; then
    no_ipv6=', {"type": "tuning", "sysctl": {"net.ipv6.conf.eth0.disable_ipv6": "1"}}'
  fi
  put "$STATE/conf/cni/10-devplane.conflist" <<EOF
{"cniVersion": "1.0.0", "name": "devplane", "plugins": [
  {"type": "bridge", "bridge": "$POD_BRIDGE", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$RUN/cni-ipam", "ranges": [$ranges], "routes": [$routes]}}$no_ipv6
]}
EOF
  start containerd --reads "$STATE/conf/containerd.toml" -- containerd --config "$STATE/conf/containerd.toml"
  wait_for 60 "containerd" "$STATE/logs/containerd.log" ctr_local version
}

start_runtime_with_images() {
  start_runtime
  load_node_images
  load_base_image
}
