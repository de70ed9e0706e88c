# shellcheck shell=bash
# Turns hosts outside the cluster, a network namespace that tests make (tests/cluster/connectivity), into nothing again.

OUTSIDE=devplane-outside
# The local cluster lets pods' packets out to interfaces that are called so (network.sh).
OUTSIDE_LINK=devplane-out
# Of routes that pods alone take.
OUTSIDE_TABLE=7681

remove_outside() {
  # Also what answers one question each by UDP, and goes on when the listener has ended.
  ip netns pids "$OUTSIDE" 2>/dev/null | xargs -r kill 2>/dev/null || true
  local family
  for family in -4 -6; do
    while ip "$family" rule delete lookup "$OUTSIDE_TABLE" 2>/dev/null; do :; done
  done
  ip link delete "$OUTSIDE_LINK" 2>/dev/null || true
  ip netns delete "$OUTSIDE" 2>/dev/null || true
}

# One line for each that is there.
outside_left() {
  local family
  for family in -4 -6; do ip "$family" rule show table "$OUTSIDE_TABLE" 2>/dev/null | sed 's/^/rule: /'; done
  ! ip link show "$OUTSIDE_LINK" >/dev/null 2>&1 || printf 'link: %s\n' "$OUTSIDE_LINK"
  ip netns list 2>/dev/null | awk -v name="$OUTSIDE" '$1 == name { print "network namespace: " name }'
}
