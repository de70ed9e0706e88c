#!/usr/bin/env bash
# Runs the test tiers and prints one line for each:  tests/run.sh [TIER...]   (all tiers when none is named)
# Installs what it lacks. Build caches live under $DEVPLANE_CACHE (default ~/.cache/devplane), outside the checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TIERS=(lint unit policy web cli image chart apiserver doctor gateway keycloak cluster browser airgap quiet closed release)
: "${DEVPLANE_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/devplane}"
export DEVPLANE_CACHE
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$DEVPLANE_CACHE/target}
logs=$DEVPLANE_CACHE/logs/tests
mkdir -p "$logs"

usage() { printf 'usage: tests/run.sh [TIER...]\ntiers: %s\n' "${TIERS[*]}"; }

need() {
  command -v "$1" >/dev/null || { printf 'error: %s is missing\nhint: %s\n' "$1" "$2" >&2; exit 1; }
}

tier_lint() {
  cargo fmt --check
  cargo clippy --all-targets --locked -- -D warnings
  tests/lint/deny.sh
  tests/lint/readme.sh
}
tier_unit() { cargo test --locked --lib --bins --test architecture --test golden; }
# Go programs that judge beside us, each built when its sources have changed; their cases come from a fixed seed.
tier_policy() { cargo test --locked --test policy; }
tier_web() { tests/web/run.sh; }
tier_cli() { tests/harness/registry.sh >/dev/null && cargo test --locked --test cli --test recording --test registry; }
# More threads than processors: most of a test is waiting.
tier_apiserver() { deploy/local/hyperkube.sh >/dev/null && cargo test --locked --test apiserver -- --test-threads 8; }
tier_doctor() {
  deploy/local/hyperkube.sh >/dev/null && deploy/local/oidc-provider.sh >/dev/null && tests/harness/registry.sh >/dev/null
  if [ -n "$(ip -4 -o address show scope global)" ]; then
    cargo test --locked --test doctor
    return
  fi
  # The API server connects to nothing on loopback, and no policy is about it.
  cargo test --locked --test doctor -- --skip each_fault_in_the_cluster --skip a_provider_that_the_gateway_s_policy_keeps_it_from
  printf 'skipped faults in the cluster, and a provider that a policy is about: this machine has no IPv4 address but loopback\n'
  return 77
}
tier_gateway() {
  { command -v tmux && command -v vim && command -v xvfb-run && command -v xdotool; } >/dev/null || {
    apt-get update -qq && apt-get install -y -qq --no-install-recommends tmux vim xvfb xauth xdotool
  }
  deploy/local/hyperkube.sh >/dev/null && deploy/local/oidc-provider.sh >/dev/null && tests/gateway/ttyd.sh >/dev/null
  tests/browser/programs.sh >/dev/null
  cargo test --locked --test gateway
}
tier_keycloak() {
  deploy/local/hyperkube.sh >/dev/null && tests/gateway/ttyd.sh >/dev/null && tests/keycloak/keycloak.sh >/dev/null
  cargo test --locked --test keycloak -- --test-threads 2
}
tier_chart() { tests/chart/run.sh; }
tier_image() { tests/image/run.sh; }
tier_cluster() { tests/cluster/run.sh; }
tier_browser() { tests/browser/run.sh; }
tier_airgap() { tests/airgap/run.sh; }
tier_quiet() { tests/airgap/quiet.sh; }
tier_closed() { tests/airgap/cluster.sh; }
tier_release() { tests/release/run.sh; }

case ${1-} in
  -h | --help) usage && exit 0 ;;
esac
need cargo "install Rust with rustup"
need cc "apt-get install gcc libc6-dev"
need go "install Go 1.26 or newer"
need npm "install Node.js 20 or newer"
chosen=("$@")
[ $# -gt 0 ] || chosen=("${TIERS[@]}")
for tier in "${chosen[@]}"; do
  declare -F "tier_$tier" >/dev/null || { printf "error: there is no tier '%s'\n" "$tier" >&2; usage >&2; exit 64; }
done

# The lines of a log that say what failed, and why: they would be far from the end of all output. Behind a panic of Rust, and a ✖ of Node.js, stands
# what it was; node tells it twice.
failures() { # LOG
  LC_ALL=C awk '
    /^(FAILED |test .* FAILED$|error(\[|:)|not ok )/ { print; next }
    /^thread .* panicked at / { print; why = 1; next }
    /^ *✖ / { why = !told[$0]++ && !/failing tests:$/; if (why) print; next }
    why > 0 { why -= 1; if (/^assertion `left/) why = 2; if (!/^ *✔ /) print }' "$1" | head -n 40 | cut -c-300 | sed 's/^/           /' || true
}

# And those that say what was not shown, with the reason.
left_out() { grep -a '^skipped ' "$1" | head -n 20 | cut -c-300 | sed 's/^/           /' || true; }

summary=() failed=0 passed=0 skipped=0
for tier in "${chosen[@]}"; do
  log=$logs/$tier.log
  printf '== %s (log: %s)\n' "$tier" "$log"
  started=$SECONDS
  set +e
  # A subshell of its own: `set -e` holds inside, and a failing tier does not end the run.
  (set -e; "tier_$tier") 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  set -e
  took=$((SECONDS - started))
  case $status in
    0) passed=$((passed + 1)) && summary+=("$(printf '%-10s passed in %ds\n' "$tier" "$took" && left_out "$log")") ;;
    # Nothing has failed, and something that the tier is there for was not shown.
    77) skipped=$((skipped + 1)) && summary+=("$(printf '%-10s SKIPPED in part, in %ds\n' "$tier" "$took" && left_out "$log")") ;;
    *) failed=$((failed + 1)) && summary+=("$(printf '%-10s FAILED in %ds\n' "$tier" "$took" && failures "$log")") ;;
  esac
done
printf '\n'
printf '%s\n' "${summary[@]}"
printf 'tiers: %d passed, %d failed%s\n' "$passed" "$failed" "$([ "$skipped" = 0 ] || printf ', %d skipped' "$skipped")"
[ "$failed" = 0 ] || exit 1
[ "$skipped" = 0 ] || exit 77
