# shellcheck shell=bash
# Turns this machine into one that can run the cluster, or into a sentence about what it lacks.

PACKAGES=(procps containerd runc containernetworking-plugins nftables conntrack iproute2 iptables ipset openssl socat debootstrap buildah netavark jq curl gcc libc6-dev musl-tools)

require_machine() {
  [ "$(id -u)" -eq 0 ] || fail "the local cluster needs root: it makes network namespaces, mounts and nftables tables" \
    "run it with sudo, or install into a cluster you have: KUBECONFIG=... $0 --use-existing"
  [ "$(uname -s)/$(uname -m)" = Linux/x86_64 ] || [ "$(uname -s)/$(uname -m)" = Linux/aarch64 ] ||
    fail "the local cluster runs on Linux on x86_64 or aarch64, this is $(uname -s) on $(uname -m)"
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || true
  grep -qw overlay /proc/filesystems || fail "the kernel has no overlayfs, and containers need it" \
    "load it with 'modprobe overlay', or use a kernel built with CONFIG_OVERLAY_FS"
  case $(stat -f -c %T "$STATE") in
    overlayfs) fail "the state directory $STATE is itself on overlayfs, and containers cannot be stacked on that" \
      "choose a directory on a real disk: $0 --dir DIR" ;;
  esac
  local free
  free=$(df -Pk "$STATE" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge $((8 * 1024 * 1024)) ] || fail "$STATE has $((free / 1024)) MiB free; 8192 MiB are needed" \
    "free some space, or choose another directory: $0 --dir DIR"
  command -v node >/dev/null || fail "node is not on PATH; the OIDC provider of the local setup runs on it" "install Node.js 20.19 or newer"
  command -v npm >/dev/null || fail "npm is not on PATH; it installs the OIDC provider of the local setup" "install npm"
}

# A second cluster would fight over the same addresses and sockets.
claim_machine() {
  mkdir -p "$RUN"
  if [ -s "$RUN/state-dir" ] && [ "$(cat "$RUN/state-dir")" != "$STATE" ]; then
    fail "a local cluster with its state in $(cat "$RUN/state-dir") is on this machine already" \
      "use it (--dir $(cat "$RUN/state-dir")) or remove it: deploy/local/down.sh --dir $(cat "$RUN/state-dir") --purge"
  fi
  echo "$STATE" >"$RUN/state-dir"
}

install_packages() {
  local package missing=()
  for package in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "these programs are missing and there is no apt-get to install them: ${missing[*]}" \
    "install the packages of these names by this system's own means"
  note "installing ${missing[*]}"
  local hint='no Debian mirror answered: check /etc/apt/sources.list and that this machine reaches its mirror'
  export DEBIAN_FRONTEND=noninteractive
  logged apt-update "apt-get update" "$hint" apt-get -o DPkg::Lock::Timeout=300 update -q
  logged apt-install "installing ${missing[*]}" "$hint" \
    apt-get -o DPkg::Lock::Timeout=300 install -qy --no-install-recommends "${missing[@]}"
}
