# shellcheck shell=bash
# Turns pinned sources into binaries under <cache>/bin, each built again only when its pins or sources change.

# Set in the order of likelihood that one of them is the reason.
GO_HINT='the Go toolchain or the Go module proxy did not answer: check `go version` (1.26 or newer) and that `go env GOPROXY` names a proxy this machine reaches'

content_key() { # of files and texts: content_key FILE... -- TEXT...
  local files=()
  while [ "$1" != -- ]; do
    files+=("$1")
    shift
  done
  {
    [ ${#files[@]} -eq 0 ] || (cd "$LOCAL_SRC" && sha256sum -- "${files[@]}")
    printf '%s\n' "$@" "$(cd / && go env GOVERSION GOARCH)"
  } | sha256sum | cut -c1-16
}

# built NAME KEY COMMAND...: runs COMMAND OUT unless NAME of that KEY exists, and points <cache>/bin/NAME at it.
built() {
  local name=$1 key=$2 out=$BIN/store/$1-$2
  shift 2
  if [ ! -x "$out" ]; then
    note "building $name"
    logged "build-$name" "building $name" "$GO_HINT" "$@" "$out.part.$$"
    mv "$out.part.$$" "$out"
    find "$BIN/store" -maxdepth 1 -name "$name-????????????????" ! -name "$name-$key" -delete
  fi
  link "$name" "$out"
}

link() { [ "$(readlink "$BIN/$1")" = "$2" ] || ln -sfn "$2" "$BIN/$1"; }

# Without what git says of the checkout: it says nothing to root of one that is another user's.
go_build() { # DIR LDFLAGS OUT
  (cd "$LOCAL_SRC/$1" && CGO_ENABLED=${CGO-0} go build -buildvcs=false -trimpath -mod=readonly -ldflags "-s -w $2" -o "$3" .)
}

# A released module, checked against the public checksum database by go itself. Into a GOPATH, since for another architecture go refuses GOBIN.
go_release() { # PACKAGE@VERSION NAME OUT
  local dir=$3.dir modules
  modules=$(cd / && go env GOMODCACHE) || return
  mkdir -p "$dir"
  (cd / && GOPATH=$dir GOBIN='' GOMODCACHE=$modules CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' "$1") &&
    mv "$(find "$dir/bin" -type f -name "$2")" "$3" && rm -rf "$dir"
}

kubectl_alone() { # LDFLAGS OUT
  (cd "$LOCAL_SRC/hyperkube" && CGO_ENABLED=0 go build -trimpath -mod=readonly -ldflags "-s -w $1" -o "$2" k8s.io/kubernetes/cmd/kubectl)
}

# Without these, the API server calls itself v0.0.0 and clients refuse it.
kubernetes_stamp() {
  local version=k8s.io/component-base/version major=${KUBERNETES_VERSION%%.*} minor=${KUBERNETES_VERSION#*.}
  printf '%s' "-X $version.gitVersion=v$KUBERNETES_VERSION -X $version.gitMajor=$major -X $version.gitMinor=${minor%%.*}" \
    " -X $version.gitTreeState=clean -X $version.gitCommit=0000000000000000000000000000000000000000 -X $version.buildDate=2026-01-01T00:00:00Z"
}

# kubectl and helm for machines of another architecture, as Go calls it: <cache>/bin/kubectl-ARCH and helm-ARCH.
build_tools_for() { # ARCH
  mkdir -p "$BIN/store" "$STATE/logs"
  local stamp
  stamp=$(kubernetes_stamp)
  GOARCH=$1 built "kubectl-$1" "$(content_key hyperkube/go.mod hyperkube/go.sum -- "$stamp" "$1")" kubectl_alone "$stamp"
  GOARCH=$1 built "helm-$1" "$(content_key -- "$HELM_VERSION" "$1")" go_release "helm.sh/helm/v3/cmd/helm@v$HELM_VERSION" helm
}

build_binaries() {
  command -v go >/dev/null || fail "go is not on PATH" "install Go 1.26 or newer and put it on PATH; sudo has a PATH of its own: sudo env PATH=\"\$PATH\" deploy/local/up.sh"
  mkdir -p "$BIN/store" "$STATE/logs"
  local component stamp
  stamp=$(kubernetes_stamp)
  local hyperkube_files=(hyperkube/go.mod hyperkube/go.sum hyperkube/main.go hyperkube/netpol/{engine,render,ports}.go)
  [ -x "$BIN/store/hyperkube-$(content_key "${hyperkube_files[@]}" -- "$stamp")" ] ||
    note "Kubernetes $KUBERNETES_VERSION from source: about five minutes on two cores the first time"
  CGO=1 built hyperkube "$(content_key "${hyperkube_files[@]}" -- "$stamp")" go_build hyperkube "$stamp"
  for component in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl netpol; do
    link "$component" "$(readlink "$BIN/hyperkube")"
  done
  built coredns "$(content_key coredns/go.mod coredns/go.sum coredns/main.go --)" go_build coredns ""
  built fixed-answer-llm "$(content_key fixed-answer-llm/go.mod fixed-answer-llm/{main,tools}.go --)" go_build fixed-answer-llm ""
  built helm "$(content_key -- "$HELM_VERSION")" go_release "helm.sh/helm/v3/cmd/helm@v$HELM_VERSION" helm
  built local-path-provisioner "$(content_key -- "$LOCAL_PATH_VERSION")" \
    go_release "github.com/rancher/local-path-provisioner@v$LOCAL_PATH_VERSION" local-path-provisioner
}
