# shellcheck shell=bash
# Turns nothing into the keys and certificates of the cluster, and the local CA of the product's own two host names.
#
# A certificate is made again when it is about to end, or when its CA or its names changed. Keys never leave <state>/pki.

PKI=$STATE/pki

fresh() { openssl x509 -in "$1" -noout -checkend $((30 * 86400)) >/dev/null 2>&1; }

new_key() { (umask 077 && openssl ecparam -name prime256v1 -genkey -noout -out "$1"); }

authority() { # NAME COMMON-NAME
  local base=$PKI/$1
  ! fresh "$base.crt" || return 0
  new_key "$base.key"
  openssl req -x509 -new -key "$base.key" -days 3650 -subj "/CN=$2" -out "$base.crt" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

certificate() { # NAME AUTHORITY SUBJECT USAGES [ALTERNATIVE-NAMES]
  local base=$PKI/$1 ca=$PKI/$2 wanted
  wanted="$(sha256sum <"$ca.crt") $3 $4 ${5-}"
  if fresh "$base.crt" && [ "$(cat "$base.made-for" 2>/dev/null)" = "$wanted" ]; then return 0; fi
  new_key "$base.key"
  openssl req -new -key "$base.key" -subj "$3" -out "$base.csr"
  {
    echo "basicConstraints=critical,CA:FALSE"
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$4"
    echo "subjectKeyIdentifier=hash"
    echo "authorityKeyIdentifier=keyid"
    [ -z "${5-}" ] || echo "subjectAltName=$5"
  } >"$base.ext"
  openssl x509 -req -in "$base.csr" -CA "$ca.crt" -CAkey "$ca.key" -CAcreateserial -days 800 -extfile "$base.ext" -out "$base.crt" 2>/dev/null
  rm "$base.csr" "$base.ext"
  echo "$wanted" >"$base.made-for"
}

# user_config CERTIFICATE: <state>/conf/CERTIFICATE.kubeconfig
user_config() {
  (
    umask 077
    put "$STATE/conf/$1.kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: devplane-local, cluster: {server: "https://$NODE_IP:6443", certificate-authority: "$PKI/ca.crt"}}]
users: [{name: $1, user: {client-certificate: "$PKI/$1.crt", client-key: "$PKI/$1.key"}}]
contexts: [{name: devplane-local, context: {cluster: devplane-local, user: $1}}]
current-context: devplane-local
EOF
  )
}

make_pki() {
  (umask 077 && mkdir -p "$PKI")
  local service=DNS:kubernetes user
  service+=,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.$CLUSTER_DOMAIN
  local loopback=DNS:localhost,IP:127.0.0.1
  authority ca devplane-local-cluster
  authority front-proxy-ca devplane-local-front-proxy
  certificate etcd ca /CN=etcd serverAuth,clientAuth $loopback
  certificate etcd-client ca /CN=kube-apiserver clientAuth
  certificate apiserver ca /CN=kube-apiserver serverAuth "$service,$loopback,IP:$API_SERVICE_IP,IP:$NODE_IP"
  certificate apiserver-kubelet ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  certificate front-proxy front-proxy-ca /CN=front-proxy-client clientAuth
  certificate admin ca /O=system:masters/CN=admin clientAuth
  certificate controllers ca /CN=system:kube-controller-manager clientAuth,serverAuth $loopback
  certificate scheduler ca /CN=system:kube-scheduler clientAuth,serverAuth $loopback
  certificate kube-proxy ca /CN=system:kube-proxy clientAuth
  certificate kubelet ca "/O=system:nodes/CN=system:node:$NODE" clientAuth,serverAuth "DNS:$NODE,IP:$NODE_IP,IP:127.0.0.1"
  if [ ! -s "$PKI/service-accounts.key" ]; then
    (umask 077 && openssl genrsa -out "$PKI/service-accounts.key" 2048 2>/dev/null)
    openssl rsa -in "$PKI/service-accounts.key" -pubout -out "$PKI/service-accounts.pub" 2>/dev/null
  fi
  for user in admin controllers scheduler kube-proxy kubelet; do user_config "$user"; done

  # What a browser sees. Apart from the cluster's CA: trusting this one trusts nothing but these two names' servers.
  authority local-ca "DevPlane local CA"
  local gateway=workspace-gateway.$SYSTEM_NS.svc
  certificate gateway local-ca "/CN=$GATEWAY_HOST" serverAuth "DNS:$GATEWAY_HOST,DNS:$gateway,DNS:$gateway.$CLUSTER_DOMAIN,$loopback"
  certificate idp local-ca "/CN=$IDP_HOST" serverAuth "DNS:$IDP_HOST,$loopback"
}
