# shellcheck shell=bash
# Turns steps and failures into lines: one numbered line with its time per step, one sentence and a hint per failure.

STEP_NUMBER=0
STEP_TOTAL=0
STEP_NAME=
STEP_OPEN=no
RUN_STARTED=$EPOCHREALTIME

# seconds_since T: tenths of a second, from EPOCHREALTIME values (microseconds once the separator is gone).
seconds_since() {
  local micros=$((${EPOCHREALTIME//[.,]/} - ${1//[.,]/}))
  printf '%d.%d' $((micros / 1000000)) $((micros / 100000 % 10))
}

# step NAME COMMAND...: runs COMMAND in this shell.
step() {
  local started=$EPOCHREALTIME
  STEP_NAME=$1
  shift
  STEP_NUMBER=$((STEP_NUMBER + 1))
  printf '[%2d/%2d] %-44s ' "$STEP_NUMBER" "$STEP_TOTAL" "$STEP_NAME"
  STEP_OPEN=yes
  "$@"
  [ "$STEP_OPEN" = yes ] || printf '        %-44s ' "$STEP_NAME"
  printf '%7ss\n' "$(seconds_since "$started")"
  STEP_OPEN=no
  STEP_NAME=
}

# note TEXT: a line inside a step, for what takes longer than two seconds.
note() {
  if [ "$STEP_OPEN" = yes ]; then
    printf '\n'
    STEP_OPEN=noted
  fi
  printf '        %s\n' "$*"
}

# fail MESSAGE [HINT...]: never returns.
fail() {
  [ "$STEP_OPEN" != yes ] || printf 'failed\n'
  STEP_OPEN=no
  trap - EXIT
  printf 'error: %s\n' "$1" >&2
  shift
  local hint
  for hint in "$@"; do printf 'hint: %s\n' "$hint" >&2; done
  exit 1
}

# For what no check foresaw: says where it stopped, so that a run never ends in silence.
report_exit() {
  local code=$?
  if [ "$code" -ne 0 ] && [ -n "$STEP_NAME" ]; then
    [ "$STEP_OPEN" != yes ] || printf 'failed\n'
    printf 'error: step "%s" stopped with exit code %d\n' "$STEP_NAME" "$code" >&2
    printf 'hint: read the logs in %s, then run the same command again: it goes on where it stopped\n' "$STATE/logs" >&2
  fi
  exit "$code"
}
