# shellcheck shell=bash
# Turns claims into `ok` and `FAILED` lines and a count of each.

PASSED=0
FAILED=0

pass() {
  PASSED=$((PASSED + 1))
  printf 'ok      %s\n' "$1"
}

no() { # WHAT [WHY]
  FAILED=$((FAILED + 1))
  printf 'FAILED  %s\n' "$1"
  [ -z "${2-}" ] || printf '        %s\n' "${2//$'\n'/$'\n        '}"
}

# The object of KIND named NAME in FILE, as JSON.
object() { # KIND NAME FILE
  kubectl label --local -f "$3" -o json x=y 2>/dev/null | jq -es --arg kind "$1" --arg name "$2" 'map(select(.kind == $kind and .metadata.name == $name)) | first'
}

# claim WHAT COMMAND...: the command succeeds. Its output is shown when it does not.
claim() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then pass "$what"; else no "$what" "$output"; fi
}

# denied WHAT COMMAND...: the command fails.
denied() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then no "$what" "it was allowed: $output"; else pass "$what"; fi
}

# refused WHAT TEXT COMMAND...: the command fails and says TEXT.
refused() {
  local what=$1 text=$2 output
  shift 2
  if output=$("$@" 2>&1); then
    no "$what" "it was accepted"
  elif [[ $output != *"$text"* ]]; then
    no "$what" "expected: $text
got: $output"
  else
    pass "$what"
  fi
}
