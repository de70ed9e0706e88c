#!/usr/bin/env bash
# Runs the workspace image's entrypoint with a home of its own, and looks at what it wrote. No image is needed: where only its
# arguments matter ttyd is stood in for by a recorder of them, everything else is real. The cluster tier runs the whole image.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source=$PWD/deploy/images/workspace
passed=0 failed=0 started=()

missing=()
for tool in curl jq tmux git openssl zsh pgrep; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

ttyd=$(tests/gateway/ttyd.sh)
work=$(mktemp -d)
mkdir -p "$work/bin" "$work/cas" "$work/home" "$work/tmp"
cleanup() {
  TMUX_TMPDIR=$work/tmp tmux kill-server 2>/dev/null || true
  TMUX_TMPDIR=$work/watcher tmux kill-server 2>/dev/null || true
  for pid in "${started[@]}" $(cat "$work"/*.pid 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
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

# entrypoint [PROVIDERS]: one run of a workspace.
entrypoint() {
  exec env -i PATH="$work/bin:$PATH" HOME="$work/home" USER_EMAIL=dev1@example.test USER_ID=dev1 TERM=xterm \
    DEVPLANE_SKEL="$source/skel" DEVPLANE_JAVA_TRUSTSTORE="$source/java-truststore.py" DEVPLANE_SYSTEM_CAS="$work/system.crt" DEVPLANE_CUSTOM_CAS="$work/cas" \
    ${1+AI_PROVIDERS_JSON="$1"} bash "$work/entrypoint.sh"
}
# start PROVIDERS: one run that ends at once; its output goes to $work/out.
start() { (entrypoint "$@") >"$work/out" 2>&1; }
refuses_tls() { ! start '[]' && grep -q 'no stunnel' "$work/out" && grep -q 'hint: .*terminalTLS' "$work/out"; }
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

# Java's store is a convenience, and the start does not depend on it.
store=$work/home/.config/devplane/truststore.jks
no_store() { [ -z "$(find "$work/home/.config/devplane" -name 'truststore*')" ]; }
check "Java's trust store is there" test -s "$store"
printf '#!/bin/sh\nexit 1\n' >"$work/bin/python3" && chmod +x "$work/bin/python3"
check "a start where it can't be made" start '[]'
check "says so" grep -q 'warning: there is no trust store for Java' "$work/out"
check "and leaves none, nor half of one" no_store
rm "$work/bin/python3"

# From here on with a real ttyd, at an address of its own, and with less patience than in a pod.
printf '#!/bin/sh\nexec %s --interface 127.0.9.1 "$@"\n' "$ttyd" >"$work/bin/ttyd"
sed -i 's|^HANGUP_SECONDS=.*|HANGUP_SECONDS=3|' "$work/entrypoint.sh"
mkdir "$work/watcher"
TMUX_TMPDIR=$work/tmp tmux kill-server
inner() { TMUX_TMPDIR=$work/tmp tmux "$@"; }
shows() { inner capture-pane -p -S - -t =workspace: | grep -q -- "$1"; }
listens() { (: <"/dev/tcp/127.0.9.1/7681") 2>/dev/null; }
eventually() { # COMMAND...
  local deadline=$((SECONDS + 20))
  until "$@" 2>/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}
run() { # leaves the process in $running
  entrypoint '[]' >"$work/out" 2>&1 &
  running=$!
  started+=("$running")
  eventually listens && eventually inner has-session -t =workspace
}
# terminate: as Kubernetes does it; the seconds that it took are in $took.
terminate() {
  local began=$SECONDS
  kill -TERM "$running"
  wait "$running" && took=$((SECONDS - began))
}
type_line() { inner send-keys -t =workspace: "$1" Enter; }
is_free() { ! listens; }
# tmux 3.5 says all attributes of each line, earlier ones only what changes: dimmed by the heading, and still so at the colour.
is_dimmed() {
  local shown
  shown=$(inner capture-pane -p -e -S - -t =workspace: | tr '\n' ' ')
  grep -qE $'\033\\[2m(--- the screen of the last run[^\033]*)?\033\\[31mred line' <<<"$shown"
}
has_prompt() { type_line "echo \$((6*7))" && eventually shows '^42$'; }
is_obeyed() { [ -e "$work/executed" ] || [ "$(inner display-message -p -t =workspace: '#{pane_title}')" = planted ]; }
is_not_obeyed() { ! is_obeyed; }
is_put_away() { [ ! -e "$screen" ] && [ -e "$screen.last" ]; }
has_windows() { grep -q -- '--- window 0: ' "$screen" && grep -q -- '--- window 1: ' "$screen"; }
has_no_blanks() { ! grep -q ' $' "$screen"; }
lines_between() { [ "$(wc -l <"$screen")" -gt "$1" ] && [ "$(wc -l <"$screen")" -le "$2" ]; }
screen=$work/home/.local/state/devplane/screen

check "with a real ttyd" run
# The program says what it got; the text that it leaves on the screen is red.
printf '#!/bin/bash\ntrap "echo hup >%s/got; exit" HUP\necho $$ >%s/polite.pid\nprintf "\\033[31mred %%s\\033[0m\\n" line\nwhile :; do sleep 0.1; done\n' "$work" "$work" >"$work/polite"
printf '#!/bin/bash\ntrap "" HUP\necho $$ >%s/stubborn.pid\nwhile :; do sleep 0.1; done\n' "$work" >"$work/stubborn"
chmod +x "$work/polite" "$work/stubborn"
type_line "$work/polite"
eventually shows 'red line' || true
TMUX_TMPDIR=$work/watcher tmux new-session -d -x 100 -y 30 "exec env TMUX_TMPDIR=$work/tmp TMUX= tmux attach -t =workspace"
TMUX_TMPDIR=$work/watcher tmux pipe-pane "cat >$work/seen"
attached() { [ -n "$(inner list-clients)" ]; }
eventually attached || true
check "SIGTERM ends it" terminate
check "at once when the programs do" [ "$took" -lt 3 ]
check "whoever looks at it is told" grep -q 'This workspace is being stopped' "$work/seen"
check "a program gets SIGHUP" grep -qx hup "$work/got"
check "ttyd is gone" eventually is_free
check "the screen is saved" grep -q 'red line' "$screen"
check "with its colours" grep -q $'\033\\[31mred line' "$screen"
check "for the user alone" mode .local/state/devplane/screen 600

# Whatever is in the file is shown and not obeyed.
# shellcheck disable=SC2016
printf '\033]0;planted\007\033[2Jplain \302\233text\033]52;c;cGxhbnRlZA==\033\\\n$(touch %s/executed)\n`touch %s/executed`\n' "$work" "$work" >>"$screen"
check "the next start" run
check "shows the last screen" eventually shows '--- the screen of the last run, saved 20..-..-..T..:..:..Z ---'
check "with what was on it" shows 'red line'
check "dimmed" is_dimmed
check "as text" shows '^plain text$'
check "and then a prompt" has_prompt
check "nothing in it is obeyed" is_not_obeyed
check "it is put away" is_put_away
inner new-window -d -t =workspace: "$work/stubborn"
eventually test -s "$work/stubborn.pid" || true
check "a program that ignores SIGHUP" terminate
check "is waited for, not longer than that" [ "$took" -ge 2 -a "$took" -le 6 ]
check "both windows are saved" has_windows
check "what was saved has no blanks at the ends of its lines" has_no_blanks
kill -KILL "$(cat "$work/stubborn.pid")" 2>/dev/null || true
seq -f 'a line of the log %g' 5000 >"$work/log"
run || true
type_line "clear; cat $work/log"
eventually shows 'a line of the log' && sleep 1
check "a long scrollback" terminate
check "is cut" lines_between 1000 2010

# Behind TLS: who shows no certificate of a gateway gets nothing of ttyd, whatever it tries.
mkdir "$work/tls"
key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
for name in workspaces gateways; do
  openssl req -x509 "${key[@]}" -days 1 -subj "/CN=$name" -keyout "$work/tls/$name.key" -out "$work/tls/$name.crt" 2>/dev/null
done
issue() { # AUTHORITY NAME FILE
  openssl req "${key[@]}" -subj "/CN=$2" -keyout "$work/tls/$3.key" -out "$work/tls/$3.csr" 2>/dev/null
  openssl x509 -req -days 1 -in "$work/tls/$3.csr" -CA "$work/tls/$1.crt" -CAkey "$work/tls/$1.key" -out "$work/tls/$3.crt" \
    -extfile <(printf 'subjectAltName=DNS:%s' "$2") 2>/dev/null
}
issue workspaces uid.terminal tls
issue gateways gateway gateway
cp "$work/tls/gateways.crt" "$work/tls/ca.crt"
sed 's,@ACCEPT@,127.0.9.2:7681,' "$source/terminal-tls.conf" >"$work/terminal-tls.conf"
sed -i "s|/tmp/devplane|$work/devplane|g; s|^: \"\${DEVPLANE_TERMINAL_TLS_CONF.*|DEVPLANE_TERMINAL_TLS_CONF=$work/terminal-tls.conf DEVPLANE_TERMINAL_TLS=$work/tls|" "$work/entrypoint.sh"
listens() { (: <"/dev/tcp/127.0.9.2/7681") 2>/dev/null; }
ask() { # CURL ARGUMENTS
  curl -sS -m 5 --cacert "$work/tls/workspaces.crt" --resolve uid.terminal:7681:127.0.9.2 "$@" 2>"$work/curl"
}
as() { printf '%s\n' --cert "$work/tls/$1.crt" --key "$work/tls/$1.key"; }
upgrade=(--http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Protocol: tty' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')
gives_nothing() { [ "$(ask -i "$@" | wc -c)" = 0 ] && [ -s "$work/curl" ]; }
answers() { [ "$(ask $(as gateway) https://uid.terminal:7681/token)" = '{"token": ""}' ]; }
check "without stunnel it says so" refuses_tls
printf '#!/bin/sh\nexec %s "$@"\n' "${ttyd%/*}/stunnel" >"$work/bin/stunnel"
chmod +x "$work/bin/stunnel"
check "behind TLS" run
check "a gateway gets to ttyd" answers
check "who has no certificate does not" gives_nothing https://uid.terminal:7681/token
check "nor who has the workspace's own" gives_nothing $(as tls) https://uid.terminal:7681/token
check "nor who names no server" gives_nothing -k https://127.0.9.2:7681/token
check "nor who speaks an older TLS" gives_nothing --tls-max 1.2 $(as gateway) https://uid.terminal:7681/token
check "nor who speaks none" gives_nothing http://127.0.9.2:7681/token
check "nor who asks for a WebSocket without TLS" gives_nothing "${upgrade[@]}" http://127.0.9.2:7681/ws
check "its end" terminate
check "is the end of both" eventually is_free

# shellcheck source=private-ca.sh
. tests/image/private-ca.sh

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
