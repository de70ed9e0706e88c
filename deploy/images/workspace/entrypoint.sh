#!/usr/bin/env bash
# Turns a pod's environment and a user's volume into a terminal on port 7681: behind mutual TLS where DEVPLANE_TERMINAL_TLS names a
# directory with ca.crt, tls.crt and tls.key, open to whoever connects where it does not.
#
# Runs at every start, as the user, on a read-only root: it writes to $HOME and /tmp only. What a user may edit is written
# once; what the platform decides (CA bundle, opencode's providers) is written anew each time. At SIGTERM it saves the screens
# and gives what runs in them time to end. `last-screen` shows what was saved, and becomes the user's shell.
set -euo pipefail

: "${HOME:=/workspace}"
: "${DEVPLANE_SKEL:=/usr/share/devplane/skel}"
: "${DEVPLANE_SYSTEM_CAS:=/etc/ssl/certs/ca-certificates.crt}"
: "${DEVPLANE_CUSTOM_CAS:=/etc/ssl/certs/custom}"
: "${DEVPLANE_JAVA_TRUSTSTORE:=/usr/share/devplane/java-truststore.py}"
: "${DEVPLANE_TERMINAL_TLS_CONF:=/usr/share/devplane/terminal-tls.conf}"
platform=$HOME/.config/devplane
screen=$HOME/.local/state/devplane/screen
# For programs to end after SIGHUP. The pod's grace period (30 s) has to be longer: it begins with the saving of the screens.
HANGUP_SECONDS=20
# The most that is saved: of each pane, and panes.
SCREEN_LINES=2000
SCREEN_BYTES=262144
SCREEN_PANES=16
socket=/tmp/devplane/ttyd.sock

fail() {
  printf 'devplane: %s\ndevplane: hint: %s\n' "$1" "$2" >&2
  exit 1
}

warn() { printf 'devplane: warning: %s\n' "$1" >&2; }

# Writes standard input to FILE in one step, so that no reader ever sees half of it.
replace() { # FILE MODE
  local new
  mkdir -p "$(dirname "$1")"
  new=$(mktemp "$1.XXXXXX") || return
  if cat >"$new" && chmod "$2" "$new" && mv -f "$new" "$1"; then return 0; fi
  rm -f "$new"
  return 1
}

check_environment() {
  [ -n "${AI_PROVIDERS_JSON-}" ] || fail "AI_PROVIDERS_JSON is not set" \
    "the operator sets it from spec.aiConfig.providers; outside the cluster give '[]' or a list of {name, endpoint, models}"
  jq -e 'type == "array" and all(.[]; (.name | type == "string" and length > 0) and (.endpoint | type == "string" and test("^https?://")) and (.models | type == "array" and length > 0 and all(.[]; type == "string")))' \
    <<<"$AI_PROVIDERS_JSON" >/dev/null 2>&1 || fail "AI_PROVIDERS_JSON is not a list of {name, endpoint, models}" \
    "correct spec.aiConfig.providers of the Workspace: each with a name, an http(s) endpoint and at least one model"
  [ -z "${DEVPLANE_TERMINAL_TLS-}" ] || command -v stunnel >/dev/null || fail "the image has no stunnel, which TLS to the terminal needs" \
    "add it to the image, or have terminals without TLS: workspace.terminalTLS: false in the chart"
  [ -w "$HOME" ] || fail "$HOME is not writable by user $(id -u)" "the volume's group must be 1000: check fsGroup and the StorageClass"
}

repair_permissions() {
  if [ -d "$HOME/.ssh" ]; then
    chmod 700 "$HOME/.ssh"
    find "$HOME/.ssh" -maxdepth 1 -type f -exec chmod 600 {} +
  fi
  if [ -f "$HOME/.kube/config" ]; then chmod 600 "$HOME/.kube/config"; fi
}

# The certificates in FILE (PEM). Of a file with a block that is no certificate OpenSSL, and with it Python, git and others, takes nothing at all, and one
# that a site has mounted is in every workspace: so it is left out here.
certificates_in() { # FILE
  local line block=''
  if ! command -v openssl >/dev/null || openssl crl2pkcs7 -nocrl -certfile "$1" -out /dev/null 2>/dev/null; then
    cat "$1"
    return
  fi
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%$'\r'}
    case $line in
      -----BEGIN*CERTIFICATE-----)
        [ -z "$block" ] || certificate "$1" "$block"
        block=$line$'\n'
        ;;
      -----END*CERTIFICATE-----)
        certificate "$1" "$block$line"
        block=''
        ;;
      *) [ -z "$block" ] || block+=$line$'\n' ;;
    esac
  done <"$1"
  [ -z "$block" ] || certificate "$1" "$block"
}
certificate() { # FILE BLOCK
  openssl x509 <<<"$2" 2>/dev/null || warn "a block in $1 is no certificate, it is left out: $(head -n 2 <<<"$2" | tail -n 1 | cut -c1-20)..."
}

# The system's authorities and the mounted ones in one file, for every program that a developer runs.
merge_authorities() {
  local bundle=$platform/ca-bundle.crt file name
  {
    [ ! -r "$DEVPLANE_SYSTEM_CAS" ] || cat "$DEVPLANE_SYSTEM_CAS"
    for file in "$DEVPLANE_CUSTOM_CAS"/*.crt "$DEVPLANE_CUSTOM_CAS"/*.pem; do
      if [ -r "$file" ]; then
        certificates_in "$file"
        echo
      fi
    done
  } | replace "$bundle" 644
  {
    echo '# Written at every start of the workspace.'
    for name in SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS npm_config_cafile PIP_CERT CARGO_HTTP_CAINFO; do
      printf 'export %s=%q\n' "$name" "$bundle"
    done
  } | replace "$platform/env.sh" 644
  # shellcheck source=/dev/null
  . "$platform/env.sh"
  java_truststore "$bundle" "$platform/truststore.jks"
}

# Java reads no PEM. An image of a site's own may have no Python, and a workspace without a store for Java is one all the same; the store of an
# earlier start does not stay, since its authorities may be trusted no longer.
java_truststore() { # BUNDLE STORE
  local new
  if command -v python3 >/dev/null; then
    if new=$(mktemp "$2.XXXXXX") && python3 "$DEVPLANE_JAVA_TRUSTSTORE" <"$1" >"$new" && chmod 644 "$new" && mv -f "$new" "$2"; then return 0; fi
    warn "there is no trust store for Java: $DEVPLANE_JAVA_TRUSTSTORE has failed"
  fi
  rm -f "$2" ${new:+"$new"}
}

# One provider for each entry; the first model of the first one is the default. `/v1` is added once.
configure_opencode() {
  jq '{
    "$schema": "https://opencode.ai/config.json",
    autoupdate: false,
    share: "disabled",
    provider: (map({key: .name, value: {
      npm: "@ai-sdk/openai-compatible",
      name: .name,
      options: {baseURL: (.endpoint | sub("/+$"; "") | if endswith("/v1") then . else . + "/v1" end)},
      models: (.models | map({key: ., value: {name: .}}) | from_entries)
    }}) | from_entries)
  } + (if length > 0 then {model: (.[0].name + "/" + .[0].models[0])} else {} end)' <<<"$AI_PROVIDERS_JSON" |
    replace "$HOME/.config/opencode/opencode.json" 600
}

configure_git() {
  [ -n "${USER_EMAIL-}" ] || return 0
  git config --global --get user.email >/dev/null || git config --global user.email "$USER_EMAIL"
  git config --global --get user.name >/dev/null || git config --global user.name "${USER_EMAIL%%@*}"
}

# Files that a user may have changed stay as they are.
bootstrap_home() {
  local file
  (cd "$DEVPLANE_SKEL" && find . -type f) | while read -r file; do
    [ -e "$HOME/$file" ] && continue
    mkdir -p "$(dirname "$HOME/$file")"
    cp "$DEVPLANE_SKEL/$file" "$HOME/$file"
  done
  mkdir -p "$HOME/.cache"
}

# Passes text and its colours (ECMA-48: SGR) and takes every other control sequence out: nothing in it does anything.
colours_only() {
  LC_ALL=C tr -d '\000\001\002' | LC_ALL=C sed -E \
    -e $'s,\033\\[([0-9;:]*)m,\001\\1\002,g' \
    -e $'s,\033[]P^_X][^\033\007]*(\033\\\\|\007)?,,g' \
    -e $'s,\033\\[[0-?]*[ -/]*[@-~],,g' \
    -e $'s,[\003-\010\013-\037\177]|\302[\200-\237],,g' \
    -e $'s,\001([0-9;:]*)\002,\033[\\1m,g'
}

# The end of standard input, without the blanks that fill up a screen.
end_of_screen() {
  LC_ALL=C sed -E $'s, +((\033\\[[0-9;:]*m)*)$,\\1,' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' | tail -n "$SCREEN_LINES" | tail -c "$SCREEN_BYTES"
}

# What every pane shows, and what has scrolled out of it.
save_screens() {
  local panes pane title
  panes=$(timeout 2 tmux list-panes -a -F '#{pane_id} window #{window_index}: #{window_name}') || return 0
  panes=$(awk -v most="$SCREEN_PANES" '!seen[$1]++ && ++n <= most' <<<"$panes")
  {
    printf -- '--- the screen of the last run, saved %s ---\n' "$(date -u +%FT%TZ)"
    while read -r pane title; do
      [ "$(wc -l <<<"$panes")" = 1 ] || printf -- '--- %s ---\n' "$title"
      timeout 2 tmux capture-pane -p -e -J -S "-$SCREEN_LINES" -t "$pane" | end_of_screen
      printf '\033[0m\n'
    done <<<"$panes"
  } | colours_only | replace "$screen" 600
}

# Shows once, dimmed, what was saved.
show_screen() {
  [ -f "$screen" ] || return 0
  colours_only <"$screen" | LC_ALL=C sed -E $'s,(\033\\[[0-9;:]*m),\\1\033[2m,g; s,^,\033[2m,'
  printf '\033[0m'
  mv -f "$screen" "$screen.last"
}

start_session() {
  export TMUX_TMPDIR=/tmp
  rm -f "$screen".??????
  if tmux has-session -t =workspace 2>/dev/null; then return 0; fi
  if [ -s "$screen" ]; then
    tmux new-session -d -s workspace bash "${BASH_SOURCE[0]}" last-screen
  else
    tmux new-session -d -s workspace
  fi
}

announce_stop() {
  local client
  timeout 2 tmux list-clients -F '#{client_name}' | while read -r client; do
    timeout 2 tmux display-message -N -d 0 -c "$client" 'This workspace is being stopped'
  done
}

# Whether anything still runs in the given sessions of processes, or ttyd does.
is_busy() { # SESSIONS
  if [ -n "$1" ] && pgrep -s "$1" -r D,I,R,S,T >/dev/null; then return 0; fi
  kill -0 "$server" 2>/dev/null
}

# A shell's background processes ignore SIGINT and SIGQUIT, and so would what ttyd starts. Errors and warnings only: every readiness
# probe would be two lines.
start_ttyd() { # ARGUMENTS: where it listens. `-A` makes the session anew when its last shell was left; the gateway has a page of its own.
  env --default-signal=INT,QUIT ttyd --debug 3 "$@" --writable --ping-interval 30 tmux new-session -A -s workspace &
  server=$!
}

# Takes connections once ttyd does: the pod is ready then.
start_tls() {
  local accept=7681 tries=0
  [ ! -e /proc/net/if_inet6 ] || accept=:::7681
  until [ -S "$socket" ]; do
    kill -0 "$server" 2>/dev/null || return 1
    [ "$((tries += 1))" -lt 200 ] || fail "ttyd does not listen on $socket" "read its lines above"
    sleep 0.05
  done
  sed "s,@ACCEPT@,$accept,; s,@SOCKET@,$socket,; s,@DIRECTORY@,$DEVPLANE_TERMINAL_TLS,g" "$DEVPLANE_TERMINAL_TLS_CONF" >/tmp/devplane/terminal-tls.conf
  stunnel /tmp/devplane/terminal-tls.conf &
  guard=$!
}

# Kubernetes sends SIGTERM before it ends a pod. Without their terminal, programs get SIGHUP from the kernel.
stop() {
  trap : TERM INT
  local sessions deadline
  announce_stop || true
  save_screens || printf 'devplane: the screens were not saved\n' >&2
  sessions=$(timeout 2 tmux list-panes -a -F '#{pane_pid}' | sort -u | paste -sd, -) || true
  timeout 2 tmux kill-server || true
  kill -TERM "$server" || true
  deadline=$((SECONDS + HANGUP_SECONDS))
  while is_busy "$sessions" && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
  [ -z "$guard" ] || kill -TERM "$guard" || true
  exit 0
}

if [ "${1-}" = last-screen ]; then
  show_screen || true
  exec -l "${SHELL:-/bin/bash}"
fi

check_environment
repair_permissions
merge_authorities
configure_opencode
configure_git
bootstrap_home
start_session
server='' guard=''
trap stop TERM INT
if [ -n "${DEVPLANE_TERMINAL_TLS-}" ]; then
  mkdir -p -m 700 "${socket%/*}"
  rm -f "$socket"
  start_ttyd --interface "$socket"
  start_tls
else
  start_ttyd --port 7681
fi
# The end of either is the end of the container, which Kubernetes starts again.
wait -n
