#!/usr/bin/env bash
# Turns a running local cluster into a stopped one, or with --purge into nothing at all, and checks that nothing is left.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'EOF'
usage: deploy/local/down.sh [--dir DIR] [--purge [--cache]]

Stops what deploy/local/up.sh started, and nothing else. State stays, so that up.sh goes on from there.
  --dir DIR   where state lives (default: DEVPLANE_LOCAL_DIR, else <cache>/local)
  --purge     also removes state, volumes, mounts, bridges, routes and rules; exits 1 when something is left
  --cache     with --purge: also removes the binaries and the Debian root that up.sh built
EOF
}

purge=no cache=no
while [ $# -gt 0 ]; do
  case $1 in
    --dir)
      [ $# -ge 2 ] || { printf 'error: --dir needs a directory\n' >&2; exit 64; }
      DEVPLANE_LOCAL_DIR=$(realpath -m -- "$2")
      shift
      ;;
    --purge) purge=yes ;;
    --cache) cache=yes ;;
    -h | --help) usage && exit 0 ;;
    *) printf "error: unknown argument '%s'\nhint: %s --help\n" "$1" "$0" >&2 && exit 64 ;;
  esac
  shift
done
[ $cache = no ] || [ $purge = yes ] || { printf 'error: --cache goes with --purge\n' >&2; exit 64; }

for library in settings log process network runtime outside teardown; do
  # shellcheck source=/dev/null
  . "$here/lib/$library.sh"
done

[ "$(id -u)" -eq 0 ] || fail "stopping the local cluster needs root, as starting it did" "run it with sudo"
mkdir -p "$RUN"
exec 8>"$RUN/lock"
flock -n 8 || fail "another up.sh or down.sh is at work on this machine" "wait until it ends"
if [ -s "$RUN/state-dir" ] && [ "$(cat "$RUN/state-dir")" != "$STATE" ]; then
  fail "the cluster on this machine has its state in $(cat "$RUN/state-dir"), not in $STATE" "$0 --dir $(cat "$RUN/state-dir")"
fi
if [ $purge = yes ] && [ -e "$STATE" ] && [ ! -d "$STATE/pids" ]; then
  fail "$STATE does not look like a state directory of up.sh, so it is not removed" "name the right one with --dir"
fi
trap report_exit EXIT
export PATH=$BIN:$PATH
STEP_TOTAL=4
[ $purge = no ] || STEP_TOTAL=6
step "sign-in provider and forwarders" stop forward-loopback forward-node oidc-provider
step "node" stop_node
step "containers" stop_containers
step "control plane" stop netpol containerd kube-scheduler kube-controller-manager kube-apiserver etcd
release_mounts
if [ $purge = no ]; then
  printf '\nThe local cluster is stopped; its state stays in %s.\n  start it again   %s/up.sh\n' "$STATE" "$here"
  exit 0
fi
step "state and network" remove_everything
[ $cache = no ] || remove_cache
step "nothing left" check_nothing_left
printf '\nThe local cluster is gone.\n'
