#!/usr/bin/env bash
# Runs the workspace image's entrypoint with a home of its own, and looks at what it wrote. No image is needed: ttyd is stood in
# for by a recorder of its arguments, everything else is real. The cluster tier runs the whole image.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source=$PWD/deploy/images/workspace
passed=0 failed=0

missing=()
for tool in jq tmux git openssl zsh; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

work=$(mktemp -d)
mkdir -p "$work/bin" "$work/cas" "$work/home" "$work/tmp"
cleanup() {
  TMUX_TMPDIR=$work/tmp tmux kill-server 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
printf '#!/bin/sh\nprintf "%%s\\n" "$*" >%s/ttyd-arguments\n' "$work" >"$work/bin/ttyd"
chmod +x "$work/bin/ttyd"
# The entrypoint's tmux sockets are in /tmp, which is a pod's own; here they go elsewhere.
sed "s|TMUX_TMPDIR=/tmp|TMUX_TMPDIR=$work/tmp|" "$source/entrypoint.sh" >"$work/entrypoint.sh"
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj "/CN=$1" -keyout /dev/null -out "$2" 2>/dev/null
}
authority system "$work/system.crt"
authority corporate "$work/cas/ca.crt"
authority second "$work/cas/second.pem"

check() { # TITLE COMMAND...
  local title=$1
  shift
  if "$@"; then printf 'ok      %s\n' "$title" && passed=$((passed + 1)); else printf 'FAILED  %s\n' "$title" && failed=$((failed + 1)); fi
}

# start PROVIDERS: one start of a workspace; its output goes to $work/out.
start() {
  env -i PATH="$work/bin:$PATH" HOME="$work/home" USER_EMAIL=dev1@example.test USER_ID=dev1 TERM=xterm \
    DEVPLANE_SKEL="$source/skel" DEVPLANE_SYSTEM_CAS="$work/system.crt" DEVPLANE_CUSTOM_CAS="$work/cas" \
    ${1+AI_PROVIDERS_JSON="$1"} bash "$work/entrypoint.sh" >"$work/out" 2>&1
}
refuses() { ! start "$@" && grep -q "AI_PROVIDERS_JSON" "$work/out" && grep -q 'hint: ' "$work/out"; }
config() { [ "$(jq -r "$1" "$work/home/.config/opencode/opencode.json")" = "$2" ]; }
mode() { [ "$(stat -c %a "$work/home/$1")" = "$2" ]; }
session() { TMUX_TMPDIR=$work/tmp tmux display-message -p -t =workspace: '#{session_created} #{pid}'; }
gitconfig() { [ "$(HOME=$work/home git config --global --get "$1")" = "$2" ]; }
authorities() { [ "$(grep -c 'BEGIN CERTIFICATE' "$work/home/.config/devplane/ca-bundle.crt")" = "$1" ]; }

one='[{"name":"local","endpoint":"http://llm:8000/","models":["a","b"]}]'
two='[{"name":"x","endpoint":"https://other/v1","models":["m"]},{"name":"y","endpoint":"http://llm","models":["n"]}]'

check "no AI_PROVIDERS_JSON is refused" refuses
check "text that is no JSON is refused" refuses 'oops'
check "a provider without models is refused" refuses '[{"name":"a","endpoint":"http://llm","models":[]}]'
check "an endpoint that is no URL is refused" refuses '[{"name":"a","endpoint":"llm","models":["m"]}]'

mkdir -m 777 "$work/home/.ssh" && echo key >"$work/home/.ssh/id" && chmod 666 "$work/home/.ssh/id"
check "a start" start "$one"
check "runs ttyd on its port" grep -q -- '--port 7681 --writable .*tmux new-session -A -s workspace' "$work/ttyd-arguments"
check "opencode gets one provider" config '.provider | keys | join(",")' local
check "its URL with /v1 once" config '.provider.local.options.baseURL' http://llm:8000/v1
check "its models" config '.provider.local.models | keys | join(",")' a,b
check "the first model by default" config .model local/a
check "and never updates itself" config .autoupdate false
check "its file is the user's alone" mode .config/opencode/opencode.json 600
check "system and mounted authorities are one bundle" authorities 3
check "programs are told of it" grep -q "SSL_CERT_FILE=$work/home/.config/devplane/ca-bundle.crt" "$work/home/.config/devplane/env.sh"
check ".ssh is the user's alone" mode .ssh 700
check "and the keys in it" mode .ssh/id 600
check "git knows the user" gitconfig user.email dev1@example.test
before=$(session)

echo '# mine' >"$work/home/.zshrc"
HOME=$work/home git config --global user.email mine@example.test
check "a second start" start "$two"
check "writes opencode's providers anew" config '.provider | keys | join(",")' x,y
check "leaves /v1 as it is" config '.provider.x.options.baseURL' https://other/v1
check "keeps the user's shell settings" grep -qx '# mine' "$work/home/.zshrc"
check "keeps the user's git identity" gitconfig user.email mine@example.test
check "keeps the tmux session" [ "$(session)" = "$before" ]
check "without providers opencode has none" start '[]'
check "and no default model" config .model null

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
