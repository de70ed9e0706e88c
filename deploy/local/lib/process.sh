# shellcheck shell=bash
# Turns daemons into pid files and back: start, restart when what they were started with changed, stop, wait.
#
# A pid file holds "PID START KEY": START is the process's start time from /proc, so that a pid used again, by anything,
# after a crash or a reboot is never taken for ours; KEY is a hash of the command line and of the files it reads.

# put FILE: writes stdin to FILE only when that changes it (kube-proxy exits when its configuration is touched).
put() {
  local file=$1
  cat >"$file.new"
  if cmp -s "$file.new" "$file"; then rm "$file.new"; else mv "$file.new" "$file"; fi
}

start_time() { # of PID; nothing when it is gone. The command in field 2 may hold spaces, so cut it off first.
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  [ "$1" = Z ] || echo "${20}"
}

# running NAME: true when the process of NAME's pid file still is the one that was started.
running() {
  local pid start key
  [ -s "$STATE/pids/$1" ] || return 1
  read -r pid start key <"$STATE/pids/$1" || return 1
  [ -n "$start" ] && [ "$(start_time "$pid")" = "$start" ]
}

# alone COMMAND...: becomes COMMAND with none of this shell's files open but the first three. A lock that is one of them, of this script or of whoever
# called it, would be held for as long as the command runs.
alone() {
  local file
  for file in "/proc/$BASHPID/fd"/*; do
    file=${file##*/}
    [ "$file" -le 2 ] || exec {file}>&-
  done
  exec "$@"
}

# start NAME [--reads FILE]... -- COMMAND...: one log and one pid file per NAME.
start() {
  local name=$1 pid started key reads=()
  shift
  while [ "$1" != -- ]; do
    reads+=("$2")
    shift 2
  done
  shift
  key=$({
    printf '%s\0' "$@"
    readlink -f "$(command -v "$1")" || true
    [ ${#reads[@]} -eq 0 ] || cat "${reads[@]}"
  } | sha256sum | cut -c1-16)
  if running "$name"; then
    read -r pid started _ <"$STATE/pids/$name"
    [ "$(cut -d' ' -f3 "$STATE/pids/$name")" != "$key" ] || return 0
    note "$name restarts: its settings changed"
    stop "$name"
  fi
  alone setsid "$@" >>"$STATE/logs/$name.log" 2>&1 </dev/null &
  pid=$!
  started=$(start_time "$pid")
  echo "$pid $started $key" >"$STATE/pids/$name"
  disown "$pid" 2>/dev/null || true
}

# stop NAME...: TERM to all, KILL to what is left after GRACE (8) seconds.
stop() {
  local name pid tries stopping=()
  for name in "$@"; do
    if running "$name"; then
      read -r pid _ <"$STATE/pids/$name"
      kill "$pid" 2>/dev/null || true
      stopping+=("$name")
    else
      rm -f "$STATE/pids/$name"
    fi
  done
  for name in "${stopping[@]}"; do
    for ((tries = ${GRACE:-8} * 10; tries > 0; tries--)); do
      running "$name" || break
      sleep 0.1
    done
    if running "$name"; then
      read -r pid _ <"$STATE/pids/$name"
      kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -f "$STATE/pids/$name"
  done
}

# wait_for SECONDS WHAT LOG COMMAND...: until COMMAND succeeds; LOG is where the reason of a failure is to be read.
wait_for() {
  local seconds=$1 what=$2 log=$3 deadline noted=no
  shift 3
  deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $deadline ]; then
      fail "$what: not there after $seconds seconds" "its log: $log" "run the same command again: it goes on where it stopped"
    fi
    if [ $noted = no ] && [ $SECONDS -ge $((deadline - seconds + 10)) ]; then
      note "still waiting: $what"
      noted=yes
    fi
    sleep 0.2
  done
}

# logged NAME WHAT HINT COMMAND...: a command that may fail for want of a registry, its output in a log.
logged() {
  local log=$STATE/logs/$1.log what=$2 hint=$3
  shift 3
  "$@" >"$log" 2>&1 </dev/null || {
    tail -n 5 "$log" | sed 's/^/        | /'
    fail "$what failed" "$hint" "the whole output: $log"
  }
}
