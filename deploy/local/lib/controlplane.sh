# shellcheck shell=bash
# Turns binaries and certificates into a running etcd, API server, controller manager and scheduler.

start_apiserver() {
  start etcd --reads "$PKI/etcd.crt" -- etcd --name "$NODE" --data-dir "$STATE/etcd" \
    --listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster "$NODE=http://127.0.0.1:2380" \
    --client-cert-auth --trusted-ca-file "$PKI/ca.crt" --cert-file "$PKI/etcd.crt" --key-file "$PKI/etcd.key" \
    --unsafe-no-fsync --log-level warn
  # What a careful site sets: baseline everywhere, a warning for less than restricted.
  put "$STATE/conf/admission.yaml" <<EOF
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline, enforce-version: latest, warn: restricted, warn-version: latest}
    exemptions: {namespaces: [kube-system]}
EOF
  start kube-apiserver --reads "$STATE/conf/admission.yaml" --reads "$PKI/apiserver.crt" -- kube-apiserver \
    --bind-address="$NODE_IP" --advertise-address="$NODE_IP" --secure-port=6443 \
    --etcd-servers=https://127.0.0.1:2379 --etcd-cafile="$PKI/ca.crt" --etcd-certfile="$PKI/etcd-client.crt" --etcd-keyfile="$PKI/etcd-client.key" \
    --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --kubelet-client-certificate="$PKI/apiserver-kubelet.crt" --kubelet-client-key="$PKI/apiserver-kubelet.key" \
    --service-account-issuer="https://kubernetes.default.svc.$CLUSTER_DOMAIN" \
    --service-account-key-file="$PKI/service-accounts.pub" --service-account-signing-key-file="$PKI/service-accounts.key" \
    --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User \
    --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --admission-control-config-file="$STATE/conf/admission.yaml" \
    --service-cluster-ip-range="$(both "$SERVICE_CIDR" "$SERVICE_CIDR6")" --allow-privileged=true --profiling=false
  wait_for 120 "the API server" "$STATE/logs/kube-apiserver.log" kubectl get --raw /readyz
}

start_controllers() {
  local config=$STATE/conf/controllers.kubeconfig
  start kube-controller-manager --reads "$PKI/controllers.crt" -- kube-controller-manager \
    --kubeconfig="$config" --authentication-kubeconfig="$config" --authorization-kubeconfig="$config" \
    --bind-address=127.0.0.1 --tls-cert-file="$PKI/controllers.crt" --tls-private-key-file="$PKI/controllers.key" \
    --use-service-account-credentials --leader-elect=false \
    --root-ca-file="$PKI/ca.crt" --service-account-private-key-file="$PKI/service-accounts.key" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" \
    --allocate-node-cidrs=true --cluster-cidr="$(both "$POD_CIDR" "$POD_CIDR6")" --service-cluster-ip-range="$(both "$SERVICE_CIDR" "$SERVICE_CIDR6")" \
    --kube-api-qps=200 --kube-api-burst=400
  config=$STATE/conf/scheduler.kubeconfig
  start kube-scheduler --reads "$PKI/scheduler.crt" -- kube-scheduler \
    --kubeconfig="$config" --authentication-kubeconfig="$config" --authorization-kubeconfig="$config" \
    --bind-address=127.0.0.1 --tls-cert-file="$PKI/scheduler.crt" --tls-private-key-file="$PKI/scheduler.key" \
    --leader-elect=false --kube-api-qps=200 --kube-api-burst=400
}
