#!/usr/bin/env bash
# Starts a registry behind HTTPS with a private authority and a password:  registry.sh DIR ADDRESS NAME
#
# It listens at ADDRESS, such as 127.0.9.5:5000, is also called NAME, and keeps all that it has in DIR: ca.crt, user, password, pid, log
# and data/. It runs until `kill $(cat DIR/pid)`.
set -euo pipefail
[ $# = 3 ] || { echo "usage: $0 DIR ADDRESS NAME" >&2 && exit 64; }
program=$("$(dirname "${BASH_SOURCE[0]}")/../harness/registry.sh")

dir=$1 address=$2 name=$3 ip=${2%:*} deadline=$((SECONDS + 20))
key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
mkdir -p "$dir/data"
if [ ! -e "$dir/tls.crt" ]; then
  openssl req -x509 "${key[@]}" -days 7 -subj "/CN=authority of the test registry" -keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null
  openssl req "${key[@]}" -subj "/CN=$name" -keyout "$dir/tls.key" -out "$dir/tls.csr" 2>/dev/null
  openssl x509 -req -days 7 -in "$dir/tls.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -out "$dir/tls.crt" \
    -extfile <(printf 'subjectAltName=DNS:%s,IP:%s' "$name" "$ip") 2>/dev/null
  printf pusher >"$dir/user"
  openssl rand -hex 16 | tr -d '\n' >"$dir/password"
  # bcrypt, the one scheme that it takes.
  printf '%s:%s\n' "$(cat "$dir/user")" "$(perl -e 'print crypt($ARGV[0], q($2y$05$) . "devplaneregistrytests.")' "$(cat "$dir/password")")" >"$dir/htpasswd"
fi
cat >"$dir/config.yml" <<CONFIG
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: "$dir/data"}, delete: {enabled: true}}
http: {addr: "$address", tls: {certificate: "$dir/tls.crt", key: "$dir/tls.key"}}
auth: {htpasswd: {realm: test, path: "$dir/htpasswd"}}
CONFIG
setsid "$program" serve "$dir/config.yml" >>"$dir/log" 2>&1 </dev/null &
echo $! >"$dir/pid"
disown
until curl -s -o /dev/null --noproxy '*' --cacert "$dir/ca.crt" "https://$address/v2/"; do
  if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$(cat "$dir/pid")" 2>/dev/null; then
    tail -n 5 "$dir/log" >&2
    echo "error: the registry does not answer at $address" >&2
    exit 1
  fi
  sleep 0.1
done
