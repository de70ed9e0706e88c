# shellcheck shell=bash disable=SC2154  # what it uses is run.sh's
# Turns the authorities that a workspace finds mounted into what its programs trust: git, pip, npm and others at a server of a private
# authority, before and after that authority is exchanged.

missing=()
command -v node >/dev/null || missing+=(nodejs npm)
python3 -c 'import requests' 2>/dev/null || python3 -m venv --help >/dev/null || missing+=(python3-venv)
command -v keytool >/dev/null || missing+=(default-jre-headless)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

site=$work/site mirror=127.0.8.1
mkdir -p "$site/git" "$site/pypi/devplane-trial" "$site/npm" "$work/private" "$work/trial"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.8.1", 0)); print(s.getsockname()[1])')
url=https://$mirror:$port

# What the server has: a repository, a wheel and a package of npm.
git init -q --bare "$site/git/trial.git"
git -C "$site/git/trial.git" config http.receivepack true
git -c init.defaultBranch=main init -q "$work/trial/repository"
git -C "$work/trial/repository" -c user.name=a -c user.email=a@example.test commit -q --allow-empty -m first
git -C "$work/trial/repository" push -q "$site/git/trial.git" HEAD:main
git -C "$site/git/trial.git" symbolic-ref HEAD refs/heads/main
python3 - "$site/pypi/devplane-trial" <<'PYTHON'
import pathlib, sys, zipfile
directory = pathlib.Path(sys.argv[1])
name = "devplane_trial-1.0-py3-none-any.whl"
with zipfile.ZipFile(directory / name, "w") as wheel:
    wheel.writestr("devplane_trial.py", "here = True\n")
    wheel.writestr("devplane_trial-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: devplane-trial\nVersion: 1.0\n")
    wheel.writestr("devplane_trial-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("devplane_trial-1.0.dist-info/RECORD", "")
(directory / "index.html").write_text(f'<a href="{name}">{name}</a>')
PYTHON
echo '{"name":"devplane-trial","version":"1.0.0","main":"index.js"}' >"$work/trial/package.json"
echo 'module.exports = true' >"$work/trial/index.js"
tarball=$(cd "$work/trial" && npm pack --silent --offline --pack-destination "$site/npm" --cache "$work/npm-cache")
jq -n --arg url "$url/npm/$tarball" --arg sum "sha512-$(openssl dgst -sha512 -binary "$site/npm/$tarball" | base64 -w0)" '{
  name: "devplane-trial", "dist-tags": {latest: "1.0.0"},
  versions: {"1.0.0": {name: "devplane-trial", version: "1.0.0", dist: {tarball: $url, integrity: $sum}}}}' >"$site/npm/devplane-trial"

# From here on as the pod has them: the authority mounted, the mirrors in the environment.
private_authority() { # NAME: an authority in use, with the server's certificate of it
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes) d=$work/private
  openssl req -x509 "${key[@]}" -days 1 -subj "/CN=$1" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -keyout "$d/$1.key" -out "$d/$1.crt" 2>/dev/null
  openssl req "${key[@]}" -subj /CN=mirror -keyout "$d/server.key" -out "$d/server.csr" 2>/dev/null
  openssl x509 -req -days 1 -in "$d/server.csr" -CA "$d/$1.crt" -CAkey "$d/$1.key" -out "$d/server.crt" \
    -extfile <(printf 'subjectAltName=IP:%s' "$mirror") 2>/dev/null
}
serve() {
  if [ -n "${serving-}" ]; then kill "$serving" && eventually is_silent; fi
  python3 tests/image/mirror.py "$mirror" "$port" "$work/private/server.crt" "$work/private/server.key" "$site" 2>"$work/mirror.log" &
  serving=$!
  started+=("$serving")
  disown
  eventually serves
}
is_silent() { ! serves; }
serves() { (: <"/dev/tcp/$mirror/$port") 2>/dev/null; }
# A new workspace's start, of which nothing but the files counts; its tmux is of no further use.
begin() {
  printf '#!/bin/sh\nexit 0\n' >"$work/bin/ttyd"
  (entrypoint '[]') >"$work/out" 2>&1 || true
  TMUX_TMPDIR=$work/tmp tmux kill-server 2>/dev/null || true
}
# inside COMMAND: in a shell of the workspace. `plain` has the mirrors alone.
plain() {
  (cd "$(mktemp -d "$work/shell-XXXXXX")" && env -i PATH="$PATH" HOME="$work/home" npm_config_cache="$PWD/npm-cache" npm_config_registry="$url/npm/" PIP_INDEX_URL="$url/pypi/" \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 npm_config_fetch_retries=0 PYTHONPATH="$work/requests" SITE="$url" bash -c "$1") >"$work/said" 2>&1
}
inside() { plain ". ~/.config/devplane/env.sh; $1"; }
refused() { ! "$@" && grep -qiE 'certificate|ssl|SELF_SIGNED|UNABLE_TO_VERIFY' "$work/said"; }

programs=(
  'curl|curl -fsS -o index "$SITE/pypi/devplane-trial/"'
  'git clone|git clone -q "$SITE/git/trial.git" && git -C trial rev-parse HEAD'
  'pip|python3 -m pip install --retries 0 --target packages devplane-trial && PYTHONPATH=packages python3 -c "import devplane_trial"'
  'npm|npm install --silent --no-audit --no-fund devplane-trial && node -e "require(\"devplane-trial\")" || { npm install --no-audit --no-fund devplane-trial; exit 1; }'
  'Node.js|node -e "fetch(process.env.SITE + \"/npm/devplane-trial\").then((answer) => answer.json()).catch((error) => { console.error(error.cause); process.exit(1) })"'
  'Python|python3 -c "import os, urllib.request; urllib.request.urlopen(os.environ[\"SITE\"] + \"/npm/devplane-trial\").read()"'
  'Python requests|python3 -c "import os, requests; requests.get(os.environ[\"SITE\"] + \"/npm/devplane-trial\").raise_for_status()"'
)
each() { # TITLE COMMAND...: the command for each program
  local title=$1 program
  shift
  for program in "${programs[@]}"; do check "${program%%|*} $title" told "$@" "${program#*|}"; done
}
told() { "$@" || { sed 's/^/        /' "$work/said" && false; }; }
java_knows() { # AUTHORITY
  local store=$work/home/.config/devplane/truststore.jks wanted
  wanted=$(openssl x509 -in "$work/private/$1.crt" -noout -fingerprint -sha256 | sed 's/.*=//')
  keytool -list -keystore "$store" -storepass changeit 2>/dev/null | grep -qF "$wanted" &&
    keytool -list -keystore "$store" </dev/null 2>/dev/null | grep -qF "$wanted"
}
java_forgot() { ! java_knows "$1"; }

[ -d "$work/requests" ] || python3 -c 'import requests' 2>/dev/null || python3 -m pip install -q --target "$work/requests" requests
private_authority first
rm "$work/cas"/*
cp "$work/private/first.crt" "$work/cas/ca.crt"
begin
check "a server of a private authority" serve
each "does not trust it by itself" refused plain
each "does in a workspace" inside
check "git pushes, too" inside 'git clone -q "$SITE/git/trial.git" && cd trial && git -c user.name=a -c user.email=a@example.test commit -q --allow-empty -m second && git push -q'
check "Java's trust store has it, with a password and without" java_knows first
private_authority second
check "the authority is exchanged" serve
each "does not trust the next one before a new start" refused inside
# Kubernetes brings the changed ConfigMap into the next pod.
cp "$work/private/second.crt" "$work/cas/ca.crt"
begin
each "does after it" inside
check "Java's trust store too" java_knows second
check "and the authority of before is gone" java_forgot first
# What is no certificate: text that is not UTF-8, a block that was cut, one that is no base64, and one that holds something else.
{
  printf '# Autorit\351 interne\n-----BEGIN CERTIFICATE-----\nMIIB\n'
  cat "$work/private/second.crt"
  printf -- '-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n' 'MII?' 'aGVsbG8='
} >"$work/cas/broken.crt"
rm "$work/cas/ca.crt"
begin
check "a start with authorities that are broken tells which blocks are no certificates" test "$(grep -c 'warning: a block in .*/broken.crt is no certificate' "$work/out")" = 3
each "does beside authorities that are broken" inside
check "Java's trust store has the rest, too" java_knows second
# An image without openssl mends nothing; Java's store is right all the same.
python3 deploy/images/workspace/java-truststore.py <"$work/cas/broken.crt" >"$store" 2>"$work/out"
check "also where the bundle itself is broken" java_knows second
check "and that is told" test "$(grep -c 'warning: PEM block .* is no certificate' "$work/out")" = 2
