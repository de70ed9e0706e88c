# shellcheck shell=bash
# Turns the runtime into a Ready node: kubelet and kube-proxy.

start_kubelet() {
  put "$STATE/conf/resolv.conf" <<<"nameserver $DNS_IP"
  put "$STATE/conf/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
port: 10250
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$PKI/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: "$PKI/kubelet.crt"
tlsPrivateKeyFile: "$PKI/kubelet.key"
containerRuntimeEndpoint: "unix://$RUN/containerd.sock"
# Works on hybrid and v1 hierarchies too, with or without systemd.
cgroupDriver: cgroupfs
cgroupRoot: /
failCgroupV1: false
failSwapOn: false
# kube-proxy and the policy engine use nftables; nothing here needs iptables chains.
makeIPTablesUtilChains: false
clusterDNS: [$DNS_IP]
clusterDomain: $CLUSTER_DOMAIN
resolvConf: "$STATE/conf/resolv.conf"
evictionHard: {memory.available: 200Mi, nodefs.available: 1Gi, imagefs.available: 1Gi, nodefs.inodesFree: 1%}
# Images cannot be pulled again, so they are never collected.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
serializeImagePulls: false
maxPods: 200
maxOpenFiles: 20000
volumePluginDir: "$STATE/kubelet/plugins"
podLogsDir: "$STATE/podlogs"
EOF
  start kubelet --reads "$STATE/conf/kubelet.yaml" --reads "$PKI/kubelet.crt" -- kubelet \
    --kubeconfig="$STATE/conf/kubelet.kubeconfig" --config="$STATE/conf/kubelet.yaml" --root-dir="$STATE/kubelet" \
    --hostname-override="$NODE" --node-ip="$(both "$NODE_IP" "$NODE_IP6")" --cert-dir="$PKI/kubelet-tmp"
  wait_for 90 "the node's registration" "$STATE/logs/kubelet.log" kubectl get node "$NODE"
}

start_kube_proxy() {
  # nftables mode: it refuses a Service without endpoints at once, instead of letting the packet go on.
  put "$STATE/conf/kube-proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 127.0.0.1
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
clientConnection: {kubeconfig: "$STATE/conf/kube-proxy.kubeconfig"}
clusterCIDR: $(both "$POD_CIDR" "$POD_CIDR6")
hostnameOverride: $NODE
mode: nftables
conntrack: {maxPerCore: 0}
nodePortAddresses: [127.0.0.0/8, $(both "$NODE_IP/32" "$NODE_IP6/128")]
EOF
  kubectl apply -f "$LOCAL_SRC/manifests/kube-proxy-rbac.yaml" >/dev/null
  start kube-proxy --reads "$STATE/conf/kube-proxy.yaml" --reads "$PKI/kube-proxy.crt" -- kube-proxy --config="$STATE/conf/kube-proxy.yaml"
}

node_ready() { [ "$(kubectl get node "$NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]; }

start_node() {
  start_kubelet
  start_kube_proxy
  wait_for 90 "a Ready node" "$STATE/logs/kubelet.log" node_ready
}
