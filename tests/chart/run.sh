#!/usr/bin/env bash
# Turns the chart into what helm renders from it, and compares that with golden files, the program's settings, and an API server.
#
#   tests/chart/run.sh            everything; needs what deploy/local/hyperkube.sh builds (Go), or DEVPLANE_TEST_BIN with it
#   tests/chart/run.sh --update   writes the golden files anew, to be looked at as a diff
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
chart=$repo/chart/devplane
case "$*" in
  "" | --update) ;;
  *) printf "error: unknown argument '%s'\nhint: tests/chart/run.sh [--update]\n" "$*" >&2 && exit 64 ;;
esac
bin=${DEVPLANE_TEST_BIN:-$("$repo/deploy/local/hyperkube.sh")}
export PATH=$bin:$PATH
work=$(mktemp -d "${TMPDIR:-/tmp}/devplane-chart-XXXXXX")
if ! command -v jq >/dev/null; then
  echo "installing jq"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends jq >/dev/null
fi
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=apiserver.sh
. "$here/apiserver.sh"
trap 'stop_apiserver; rm -rf "$work"' EXIT
# Nothing of the caller's helm or kubectl has a part in this.
unset KUBECONFIG
export HELM_CACHE_HOME=$work/helm/cache HELM_CONFIG_HOME=$work/helm/config HELM_DATA_HOME=$work/helm/data

render() { # SET [ARGUMENTS...]
  local set=$1
  shift
  helm template devplane "$chart" -n workspace-operator-system --kube-version 1.36.0 -f "$here/values/$set.yaml" "$@"
}

# shellcheck source=render.sh
. "$here/render.sh"
# shellcheck source=monitoring.sh
. "$here/monitoring.sh"
# shellcheck source=install.sh
. "$here/install.sh"
# shellcheck source=releases.sh
. "$here/releases.sh"

golden_files "$@"
bad_values
schema_is_closed
control_plane
private_ca
doctor_in_the_cluster
settings_agree
nothing_leaks
images_are_listed
monitoring "$@"
reference_page
if start_apiserver; then install_for_real; fi
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" -eq 0 ]
