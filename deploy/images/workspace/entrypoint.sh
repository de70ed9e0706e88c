#!/usr/bin/env bash
# Turns a pod's environment and a user's volume into a terminal on port 7681.
#
# Runs at every start, as the user, on a read-only root: it writes to $HOME and /tmp only. What a user may edit is written
# once; what the platform decides (CA bundle, opencode's providers) is written anew each time.
set -euo pipefail

: "${HOME:=/workspace}"
: "${DEVPLANE_SKEL:=/usr/share/devplane/skel}"
: "${DEVPLANE_SYSTEM_CAS:=/etc/ssl/certs/ca-certificates.crt}"
: "${DEVPLANE_CUSTOM_CAS:=/etc/ssl/certs/custom}"
platform=$HOME/.config/devplane

fail() {
  printf 'devplane: %s\ndevplane: hint: %s\n' "$1" "$2" >&2
  exit 1
}

# Writes standard input to FILE in one step, so that no reader ever sees half of it.
replace() { # FILE MODE
  local new
  mkdir -p "$(dirname "$1")"
  new=$(mktemp "$1.XXXXXX")
  cat >"$new"
  chmod "$2" "$new"
  mv -f "$new" "$1"
}

check_environment() {
  [ -n "${AI_PROVIDERS_JSON-}" ] || fail "AI_PROVIDERS_JSON is not set" \
    "the operator sets it from spec.aiConfig.providers; outside the cluster give '[]' or a list of {name, endpoint, models}"
  jq -e 'type == "array" and all(.[]; (.name | type == "string" and length > 0) and (.endpoint | type == "string" and test("^https?://")) and (.models | type == "array" and length > 0 and all(.[]; type == "string")))' \
    <<<"$AI_PROVIDERS_JSON" >/dev/null 2>&1 || fail "AI_PROVIDERS_JSON is not a list of {name, endpoint, models}" \
    "correct spec.aiConfig.providers of the Workspace: each with a name, an http(s) endpoint and at least one model"
  [ -w "$HOME" ] || fail "$HOME is not writable by user $(id -u)" "the volume's group must be 1000: check fsGroup and the StorageClass"
}

repair_permissions() {
  if [ -d "$HOME/.ssh" ]; then
    chmod 700 "$HOME/.ssh"
    find "$HOME/.ssh" -maxdepth 1 -type f -exec chmod 600 {} +
  fi
  if [ -f "$HOME/.kube/config" ]; then chmod 600 "$HOME/.kube/config"; fi
}

# The system's authorities and the mounted ones in one file, for every program that a developer runs.
merge_authorities() {
  local bundle=$platform/ca-bundle.crt file
  {
    [ ! -r "$DEVPLANE_SYSTEM_CAS" ] || cat "$DEVPLANE_SYSTEM_CAS"
    for file in "$DEVPLANE_CUSTOM_CAS"/*.crt "$DEVPLANE_CUSTOM_CAS"/*.pem; do
      if [ -r "$file" ]; then
        cat "$file"
        echo
      fi
    done
  } | replace "$bundle" 644
  {
    echo '# Written at every start of the workspace.'
    for name in SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS; do
      printf 'export %s=%q\n' "$name" "$bundle"
    done
  } | replace "$platform/env.sh" 644
  # shellcheck source=/dev/null
  . "$platform/env.sh"
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

start_session() {
  export TMUX_TMPDIR=/tmp
  tmux has-session -t =workspace 2>/dev/null || tmux new-session -d -s workspace
}

check_environment
repair_permissions
merge_authorities
configure_opencode
configure_git
bootstrap_home
start_session
# `-A` makes the session anew when its last shell was left; the gateway has a page of its own, so ttyd's is never shown.
# Errors and warnings only: every readiness probe would be two lines.
exec ttyd --debug 3 --port 7681 --writable --ping-interval 30 tmux new-session -A -s workspace
