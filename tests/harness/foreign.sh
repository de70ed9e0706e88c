#!/usr/bin/env bash
# Runs a command where executables for ARM run by qemu:  foreign.sh COMMAND [ARGUMENTS...]
#
# The kernel is told of the emulator in a user namespace alone (binfmt_misc; Linux 6.7), so that nothing of the machine is changed. The numbers of users are the
# machine's own. Needs root.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARGUMENTS...]" >&2 && exit 64; }
qemu=$("$(dirname "${BASH_SOURCE[0]}")/../release/qemu.sh")
work=$(mktemp -d "${TMPDIR:-/tmp}/devplane-foreign-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkfifo "$work/go"
# An executable for AArch64 by its header (ELF, 64 bits, little-endian, machine 183). F: opened now, so that it is found in every root directory.
rule=':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$qemu:F"
# shellcheck disable=SC2016  # it expands inside
unshare --user --mount bash -c '
  read -r _ <"$1"
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && printf %s "$2" >/proc/sys/fs/binfmt_misc/register || exit
  shift 2
  exec "$@"' foreign "$work/go" "$rule" "$@" &
pid=$!
until [ "$(readlink "/proc/$pid/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.05; done
for map in uid_map gid_map; do echo "0 0 4294967295" >"/proc/$pid/$map"; done
echo >"$work/go"
wait "$pid"
