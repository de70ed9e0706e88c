# shellcheck shell=bash
# Turns commands into one line each, and what a Workspace is to become into commands.

passed=0 failed=0 skipped=0

# By exit code 77 a command says that it could show nothing: that is told, and has not passed.
check() { # TITLE COMMAND...
  local title=$1 status=0
  shift
  "$@" || status=$?
  case $status in
    0) printf 'ok      %s\n' "$title" && passed=$((passed + 1)) ;;
    77) printf 'skipped %s\n' "$title" && skipped=$((skipped + 1)) ;;
    *) printf 'FAILED  %s\n' "$title" && failed=$((failed + 1)) ;;
  esac
}

# The exit code of all checks together.
outcome() {
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" = 0 ] || return 1
  [ "$skipped" = 0 ] || return 77
}

# eventually SECONDS COMMAND...: true as soon as COMMAND is.
eventually() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.5
  done
}

workspace() { # ID [CPU]
  sed "s/dev1/$1/g; s/cpu: 500m/cpu: ${2-500m}/" deploy/local/workspace.yaml | kubectl apply --validate=strict -f -
}
phase() { [ "$(kubectl -n workspaces get workspace "$1" -o 'jsonpath={.status.phase}')" = "$2" ]; }
