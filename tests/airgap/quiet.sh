#!/usr/bin/env bash
# A working day in the workspace image, in a network namespace whose every packet and DNS question is counted: none goes to anything
# that was not configured. quiet/day.sh is the day, quiet/watch.py counts.
#
# Two controls show that the counter counts: a name and addresses outside are asked for, and opencode runs without the image's settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
repo=$PWD
: "${DEVPLANE_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/devplane}"
export DEVPLANE_CACHE BASE_IMAGE
work=$(mktemp -d "${TMPDIR:-/tmp}/devplane-quiet-XXXXXX")
inside=devplane-quiet-in-$$ outside=devplane-quiet-out-$$ container=devplane-quiet-$$
address=10.251.0.1
# shellcheck source=../chart/lib.sh
. tests/chart/lib.sh
# shellcheck source=images.sh
. tests/airgap/images.sh
# shellcheck source=quiet/site.sh
. tests/airgap/quiet/site.sh

cleanup() {
  local name
  for name in "$inside" "$outside"; do
    ip netns pids "$name" 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
    ip netns del "$name" 2>/dev/null || true
  done
  rm -rf "/etc/netns/$inside"
  buildah rm "$container" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT

[ "$(id -u)" = 0 ] || { echo "error: network namespaces need root" >&2; exit 1; }
need_packages
command -v ip >/dev/null || apt-get install -y -qq --no-install-recommends iproute2 >/dev/null
base_image
WORKSPACE_IMAGE=localhost/devplane-workspace:dev
deploy/images/build-workspace.sh "$WORKSPACE_IMAGE" --base "$BASE_IMAGE"
(cd deploy/local/fixed-answer-llm && CGO_ENABLED=0 go build -o "$work/fixed-answer-llm" .)
make_site

# One cable between two namespaces of ours. Whatever leaves the inner one arrives at the outer one, and goes no further.
make_network() {
  local side
  for side in "$inside" "$outside"; do
    ip netns add "$side"
    ip -n "$side" link set lo up
  done
  ip link add eth0 netns "$inside" type veth peer name watched netns "$outside"
  ip netns exec "$outside" sysctl -qw net.ipv4.ip_forward=0
  ip -n "$outside" address add "$address/24" dev watched
  ip -n "$inside" address add 10.251.0.2/24 dev eth0
  ip -n "$outside" link set watched up
  ip -n "$inside" link set eth0 up
  ip -n "$inside" route add default via "$address"
  # Without a way out nobody would try IPv6, and nothing would be counted.
  if [ -e /proc/net/if_inet6 ]; then
    ip -n "$outside" address add fd00:251::1/64 dev watched nodad
    ip -n "$inside" address add fd00:251::2/64 dev eth0 nodad
    ip -n "$inside" -6 route add default via fd00:251::1
  fi
  mkdir -p "/etc/netns/$inside"
  echo "nameserver $address" >"/etc/netns/$inside/resolv.conf"
}

# counted REPORT COMMAND...: runs the command in the workspace while the counter counts. Without a counter nothing would be shown: that ends the run.
exec 4>&2
no_counter() {
  printf 'error: the counter %s: %s\n' "$1" "$(cat "$work/watch.log")" >&4
  exit 1
}
counted() {
  local report=$work/$1 watcher
  shift
  ip netns exec "$outside" python3 tests/airgap/quiet/watch.py watched "$address" "$report" "${NAMES[@]}" -- tcp/443 tcp/8000 udp/53 tcp/53 >"$work/watch.log" 2>&1 &
  watcher=$!
  local deadline=$((SECONDS + 20))
  until grep -qs "^watching$" "$work/watch.log"; do
    { kill -0 "$watcher" && [ "$SECONDS" -lt "$deadline" ]; } 2>/dev/null || no_counter "did not start"
    sleep 0.1
  done
  "$@" || true
  # What was started and not waited for may still ask.
  sleep 2
  ip netns pids "$inside" | xargs -r kill -KILL 2>/dev/null || true
  kill "$watcher"
  wait "$watcher" || no_counter "has failed"
}

# Executables for any recent Debian or Ubuntu.
RUST=$(rustc --print sysroot)
more=()
# A workspace as its pod has it: the image, a user's volume, the mounted authority, and the environment that the operator gives.
workspace() { # COMMAND...
  ip netns exec "$inside" buildah run --isolation chroot --network host --user 1000:1000 --volume "$work/home:/workspace" \
    --volume "$work/authority:/etc/ssl/certs/custom:ro" --volume "$repo/tests/airgap/quiet:/day:ro" --volume "$work/tmp:/tmp" --volume "$RUST:/opt/rust:ro" "${more[@]}" \
    --env USER_ID=dev1 --env USER_EMAIL=dev1@example.test --env CUSTOM_CA_MOUNTED=true --env TERM=xterm-256color \
    --env AI_PROVIDERS_JSON='[{"name":"local","endpoint":"http://models.example.test:8000","models":["fixed-answer"]}]' \
    --env PIP_INDEX_URL=https://packages.example.test/pypi --env npm_config_registry=https://packages.example.test/npm \
    --env GOPROXY=https://packages.example.test/go "$container" -- "$@"
}

make_network
ip netns exec "$outside" python3 tests/image/mirror.py "$address" 443 "$work/tls/server.crt" "$work/tls/server.key" "$work/site" >"$work/mirror.log" 2>&1 & disown
ip netns exec "$outside" "$work/fixed-answer-llm" -listen "$address:8000" >"$work/models.log" 2>&1 & disown
buildah from --pull-never --name "$container" "$WORKSPACE_IMAGE" >/dev/null
mkdir -p "$work/home" "$work/tmp" "$work/no-cargo-settings"
chown 1000:1000 "$work/home"
chmod 1777 "$work/tmp"

counted control workspace bash -c 'for url in http://outside.example http://203.0.113.7 "http://[2001:db8::7]" http://10.251.0.1:8081; do
  curl -s -m 2 "$url"; done; echo x >/dev/udp/203.0.113.8/9' >/dev/null 2>&1
saw() { # REPORT WHAT
  grep -qP "^foreign\t$2\t" "$work/$1" || { cat "$work/$1" && return 1; }
}
claim "the counter sees a question for a name outside" saw control 'question outside\.example'
claim "and packets to an address outside" saw control 'packets to 203\.0\.113\.7 tcp/80'
[ ! -e /proc/net/if_inet6 ] || claim "of IPv6 too" saw control 'packets to 2001:db8::7 tcp/80'
claim "and datagrams" saw control 'packets to 203\.0\.113\.8 udp/9'
claim "and to a port that nobody configured" saw control 'packets to 10\.251\.0\.1 tcp/8081'

counted day workspace bash /day/day.sh >"$work/day.log" 2>&1
did() { # STEP
  grep -qxF "done: $1" "$work/day.log" || { tail -n 40 "$work/day.log" && return 1; }
}
while IFS= read -r step; do claim "the day: $step" did "$step"; done < <(sed -nE "s/^step '([^']+)'.*/\1/p" tests/airgap/quiet/day.sh)
nothing_foreign() { [ -s "$work/day" ] && ! grep '^foreign' "$work/day"; }
claim "in all of it nothing is asked that was not configured" nothing_foreign
heard() { grep -qP "^expected\t$1\t" "$work/day"; }
claim "while the mirror is asked" heard 'question packages\.example\.test'
claim "by HTTPS" heard 'packets to 10\.251\.0\.1 tcp/443'
claim "and the model" heard 'packets to 10\.251\.0\.1 tcp/8000'
used() { # TOOL: the model was sent what the tool gave back
  ip netns exec "$outside" curl -s "http://$address:8000/requests" | jq -e --arg tool "$1" \
    '[.requests[].body.messages[]? | .tool_calls[]?.function.name] | index($tool)' >/dev/null
}
for tool in write read bash; do claim "opencode used its tool $tool" used "$tool"; done

more=(--volume "$work/no-cargo-settings:/.cargo:ro")
counted loud workspace bash /day/loud.sh >"$work/loud.log" 2>&1
names_outside() { [ "$(grep -c '^foreign.question' "$work/loud")" -ge "$1" ] || { cat "$work/loud" && return 1; }; }
claim "without the image's settings opencode asks outside" names_outside 1
claim "for models, for packages, and cargo for crates" names_outside 3

printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" -eq 0 ]
