#!/usr/bin/env bash
# Turns a bundle of bundle.sh into images and a chart in a registry of the closed network. It needs bash, coreutils, GNU tar, grep, sed, awk and diff.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: load.sh ARCHIVE REGISTRY[/PREFIX] [--sha256 HEX] [--ca FILE] [--user NAME --password-file FILE] [--check]

Checks the checksums of all that is in ARCHIVE, pushes what REGISTRY lacks, by the same digests, and prints the values to install with.
  --sha256 HEX          what the SHA-256 of ARCHIVE must be, checked before anything of it is used. The checksums in ARCHIVE show that it is
                        whole, not who made it: whoever changes it can change them too. This one has to come by another way
  --ca FILE             the authority (PEM) of the registry's certificate, when the system does not know it
  --user NAME           whom to log in as; without, the credentials of `docker login` and its like are used
  --password-file FILE  a file with the password; - is standard input
  --check               check the checksums, push nothing; REGISTRY is not needed

Run again, it pushes only what is missing. The registry is always spoken to by HTTPS.
USAGE
}

fail() { # WHAT WHAT-TO-DO-NEXT
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}
usage_error() {
  printf 'error: %s\nhint: %s --help\n' "$1" "$0" >&2
  exit 64
}
progress() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$1" >&2; }

archive='' registry='' ca='' user='' password_file='' sha256='' check_only=no
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --check) check_only=yes ;;
    --ca | --user | --password-file | --sha256)
      [ $# -ge 2 ] || usage_error "$1 needs a value"
      case $1 in
        --ca) ca=$2 ;;
        --user) user=$2 ;;
        --password-file) password_file=$2 ;;
        --sha256) sha256=${2,,} ;;
      esac
      shift
      ;;
    -*) usage_error "unknown argument '$1'" ;;
    *)
      if [ -z "$archive" ]; then archive=$1; elif [ -z "$registry" ]; then registry=${1%/}; else usage_error "one archive and one registry are enough, but there is also '$1'"; fi
      ;;
  esac
  shift
done
[ -n "$archive" ] || usage_error "which archive?"
[ -r "$archive" ] || usage_error "can't read the archive $archive"
[ "$check_only" = yes ] || [ -n "$registry" ] || usage_error "which registry? Give its host, with its port and a path where it has them: registry.example.com:5000/platform"
case $registry in *://* | *@* | *[[:space:]]*) usage_error "the registry '$registry' should be HOST[:PORT][/PREFIX], without https:// or a tag" ;; esac
[ -z "$ca" ] || grep -q 'BEGIN CERTIFICATE' "$ca" 2>/dev/null || usage_error "--ca $ca holds no certificate in PEM"
if [ -n "$user$password_file" ] && { [ -z "$user" ] || [ -z "$password_file" ]; }; then usage_error "--user and --password-file go together"; fi
[ -z "$sha256" ] || [[ $sha256 =~ ^[0-9a-f]{64}$ ]] || usage_error "--sha256 $sha256 should be 64 hexadecimal digits"
for tool in awk base64 basename cut date diff du grep head mktemp sed sha256sum sort tail tar uname wc; do
  command -v "$tool" >/dev/null || fail "$tool is not installed" "load.sh needs coreutils, GNU tar, grep, sed, awk and diff"
done
tar --version 2>/dev/null | grep -q 'GNU tar' || fail "tar is not GNU tar" "install it; the checksums are made while it reads"

work=$(umask 077 && mktemp -d)
trap 'rm -rf "$work"' EXIT

progress "checking $(basename "$archive") ($(du -h --apparent-size "$archive" | cut -f1))"
if [ -n "$sha256" ]; then
  found=$(sha256sum <"$archive" | cut -c1-64)
  [ "$found" = "$sha256" ] || fail "the SHA-256 of $archive is $found, not $sha256" "do not use it: it was changed, or it is another one"
fi
tar -xf "$archive" --occurrence=1 -C "$work" SHA256SUMS 2>/dev/null || fail "$archive is no bundle: it has no SHA256SUMS" "copy it again; sha256sum -c $(basename "$archive").sha256 tells whether it is whole"
# Nothing is unpacked: each file's checksum is made as it goes by.
# shellcheck disable=SC2016  # for the shell that tar starts
tar -xf "$archive" --to-command='printf "%s  %s\n" "$(sha256sum | cut -c1-64)" "$TAR_FILENAME"' >"$work/found" 2>"$work/tar.log" ||
  fail "$archive can't be read to its end: $(tail -n 1 "$work/tar.log")" "copy it again"
grep -v '  SHA256SUMS$' "$work/found" | LC_ALL=C sort >"$work/found.sorted"
LC_ALL=C sort "$work/SHA256SUMS" >"$work/expected"
if ! diff "$work/expected" "$work/found.sorted" >"$work/difference"; then
  sed -nE 's/^[<>] .{64}  //p' "$work/difference" | sort -u | head -n 5 | sed 's/^/  /' >&2
  fail "what $archive holds is not what its checksums say; the files above are missing, changed or too many" "copy it again, and do not use this one"
fi
progress "all $(wc -l <"$work/expected") checksums are right"
[ "$check_only" = no ] || exit 0

case $(uname -m) in
  x86_64) oras=$work/bin/oras-linux-amd64 ;;
  aarch64) oras=$work/bin/oras-linux-arm64 ;;
  *) fail "the bundle has no oras for a $(uname -m)" "run load.sh on an x86_64 or aarch64 machine" ;;
esac
tar -xf "$archive" --occurrence=1 -C "$work" images.tsv "${oras#"$work"/}"
options=(--no-tty)
remote=()
[ -z "$ca" ] || { options+=(--to-ca-file "$ca") && remote+=(--ca-file "$ca"); }
if [ -n "$user" ]; then
  # In a file, since arguments are for everyone on the machine to see.
  if [ "$password_file" = - ]; then password=$(cat); else password=$(cat "$password_file") || usage_error "can't read the password file $password_file"; fi
  (umask 077 && printf '{"auths":{"%s":{"auth":"%s"}}}\n' "${registry%%/*}" "$(printf '%s:%s' "$user" "$password" | base64 -w0)" >"$work/auth.json")
  options+=(--to-registry-config "$work/auth.json")
  remote+=(--registry-config "$work/auth.json")
fi

explain() { # WHAT LOG: what the registry said, and what it likely means
  local said hint='check that the registry answers: curl https://'${registry%%/*}'/v2/'
  said=$(grep -m1 '^Error' "$2" || tail -n 1 "$2")
  case $(cat "$2") in
    *x509:*) hint='name the authority of its certificate with --ca FILE' ;;
    *"response status code 401"* | *[Uu]nauthorized* | *"credential not found"*) hint='give --user and --password-file of an account that may push' ;;
    *"response status code 403"* | *denied* | *[Ff]orbidden*) hint='the account may not push there: give another one, or another path behind the host' ;;
    *"server gave HTTP response"*) hint='the registry must speak HTTPS' ;;
  esac
  fail "$1: ${said#Error*: }" "$hint"
}

number=0 total=$(wc -l <"$work/images.tsv")
while IFS=$'\t' read -r name digest _ _; do
  number=$((number + 1))
  target=$registry/$name
  if [ "$("$oras" resolve "${remote[@]}" "$target" 2>/dev/null)" = "$digest" ]; then
    progress "[$number/$total] $target is there already"
    continue
  fi
  progress "[$number/$total] $target"
  "$oras" cp "${options[@]}" --from-oci-layout "$archive@$digest" "$target" >"$work/oras.log" 2>&1 || explain "can't push $target" "$work/oras.log"
  arrived=$("$oras" resolve "${remote[@]}" "$target" 2>"$work/oras.log") || explain "can't read back $target" "$work/oras.log"
  [ "$arrived" = "$digest" ] || fail "$target has the digest $arrived, not $digest" "something between here and the registry changes images: ask who runs it"
done <"$work/images.tsv"
progress "all $total are in $registry"

reference_for() { # USE: the pinned reference of what serves for it
  awk -F'\t' -v use="$1" -v registry="$registry" '{ n = split($4, uses, ", "); for (i = 1; i <= n; i++) if (uses[i] == use) { print registry "/" $1 "@" $2; exit } }' "$work/images.tsv"
}

operator=$(reference_for operator) gateway=$(reference_for gateway)
# Also where the values before these name images of operator and gateway: these win over `image`.
printf '# Values for these images; the chart is oci://%s/charts/devplane\nimage: %s\noperator:\n  image: %s\n' "$registry" "$operator" "$operator"
[ -z "$gateway" ] || printf 'gateway:\n  image: %s\n' "$gateway"
printf 'workspace:\n  image: %s\n' "$(reference_for workspace)"
# Lists of values replace each other: what is in one can only be told.
awk -F'\t' -v registry="$registry" '{
  n = split($4, uses, ", ")
  for (i = 1; i <= n; i++) {
    if (uses[i] ~ /^(operator|gateway|workspace|chart)$/) continue
    if (!told++) print "# Not set by these values; name them yourself:"
    print "#   " uses[i] ": " registry "/" $1 "@" $2
  }
}' "$work/images.tsv"
