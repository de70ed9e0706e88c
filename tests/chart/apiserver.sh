# shellcheck shell=bash disable=SC2154  # work comes from run.sh
# Turns the local cluster's binaries into an etcd and an API server on loopback, for as long as the tests run.

APISERVER_PIDS=()

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start_apiserver() {
  local d=$work/apiserver client peer port tries
  mkdir "$d"
  client=$(free_port) peer=$(free_port) port=$(free_port)
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$d/sa.key" 2>/dev/null
  openssl pkey -in "$d/sa.key" -pubout -out "$d/sa.pub"
  (umask 077 && printf '%s,admin,1,system:masters\n' "$(openssl rand -hex 16)" >"$d/tokens.csv")
  etcd --name chart --data-dir "$d/etcd" --unsafe-no-fsync --log-level error --listen-client-urls "http://127.0.0.1:$client" \
    --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "chart=http://127.0.0.1:$peer" >"$d/etcd.log" 2>&1 &
  APISERVER_PIDS+=($!)
  kube-apiserver --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port="$port" --cert-dir="$d/certs" \
    --etcd-servers="http://127.0.0.1:$client" --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=RBAC \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$d/sa.pub" \
    --service-account-signing-key-file="$d/sa.key" --token-auth-file="$d/tokens.csv" --disable-admission-plugins=ServiceAccount \
    --endpoint-reconciler-type=none >"$d/apiserver.log" 2>&1 &
  APISERVER_PIDS+=($!)
  for ((tries = 240; tries > 0; tries--)); do
    if [ -s "$d/certs/apiserver.crt" ] && [ ! -s "$d/kubeconfig" ]; then
      (umask 077 && cat >"$d/kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: admin}}]
clusters: [{name: test, cluster: {server: "https://127.0.0.1:$port", certificate-authority: "$d/certs/apiserver.crt"}}]
users: [{name: admin, user: {token: "$(cut -d, -f1 "$d/tokens.csv")"}}]
YAML
      )
      export KUBECONFIG=$d/kubeconfig
    fi
    if [ -s "$d/kubeconfig" ] && kubectl get --raw /readyz >/dev/null 2>&1; then return 0; fi
    kill -0 "${APISERVER_PIDS[1]}" 2>/dev/null || break
    sleep 0.5
  done
  no "an API server comes up" "$(tail -n 3 "$d/etcd.log" "$d/apiserver.log")"
  return 1
}

# Nothing of theirs is kept, and an API server that lost its etcd takes minutes to end by itself.
stop_apiserver() {
  local pid
  for pid in "${APISERVER_PIDS[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  for pid in "${APISERVER_PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
}
