# shellcheck shell=bash disable=SC2154  # work comes from quiet.sh
# Turns nothing into a site: a repository, a Go module, a wheel, a package of npm and a crate, below one address, with a private authority.

# shellcheck disable=SC2034  # of quiet.sh
NAMES=(models.example.test packages.example.test)

make_site() {
  local site=$work/site key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
  mkdir -p "$site"/{git,npm,pypi/devplane-trial,go/example.test/greet/@v,cargo/de/vp} "$work"/{authority,tls,trial}
  openssl req -x509 "${key[@]}" -days 1 -subj /CN=site -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -keyout "$work/tls/site.key" -out "$work/authority/ca.crt" 2>/dev/null
  openssl req "${key[@]}" -subj /CN=packages.example.test -keyout "$work/tls/server.key" -out "$work/tls/server.csr" 2>/dev/null
  openssl x509 -req -days 1 -in "$work/tls/server.csr" -CA "$work/authority/ca.crt" -CAkey "$work/tls/site.key" -out "$work/tls/server.crt" \
    -extfile <(printf 'subjectAltName=DNS:packages.example.test') 2>/dev/null

  git -c init.defaultBranch=main init -q --bare "$site/git/trial.git"
  git -C "$site/git/trial.git" config http.receivepack true
  git -c init.defaultBranch=main init -q "$work/trial/repository"
  git -C "$work/trial/repository" -c user.name=a -c user.email=a@example.test commit -q --allow-empty -m first
  git -C "$work/trial/repository" push -q "$site/git/trial.git" HEAD:main

  echo '{"name":"devplane-trial","version":"1.0.0","main":"index.js"}' >"$work/trial/package.json"
  echo 'module.exports = true' >"$work/trial/index.js"
  local tarball=devplane-trial-1.0.0.tgz
  mkdir "$work/trial/package" && cp "$work/trial"/{package.json,index.js} "$work/trial/package/"
  tar -C "$work/trial" -czf "$site/npm/$tarball" package
  jq -n --arg url "https://packages.example.test/npm/$tarball" --arg sum "sha512-$(openssl dgst -sha512 -binary "$site/npm/$tarball" | base64 -w0)" '{
    name: "devplane-trial", "dist-tags": {latest: "1.0.0"},
    versions: {"1.0.0": {name: "devplane-trial", version: "1.0.0", dist: {tarball: $url, integrity: $sum}}}}' >"$site/npm/devplane-trial"

  local crate=devplane-trial-1.0.0
  mkdir -p "$work/trial/$crate/src"
  printf '[package]\nname = "devplane-trial"\nversion = "1.0.0"\nedition = "2021"\n' >"$work/trial/$crate/Cargo.toml"
  echo 'pub const HERE: bool = true;' >"$work/trial/$crate/src/lib.rs"
  tar -C "$work/trial" -czf "$site/cargo/$crate.crate" "$crate"
  echo '{"dl": "https://packages.example.test/cargo/{crate}-{version}.crate"}' >"$site/cargo/config.json"
  jq -nc --arg sum "$(sha256sum <"$site/cargo/$crate.crate" | cut -c1-64)" \
    '{name: "devplane-trial", vers: "1.0.0", deps: [], cksum: $sum, features: {}, yanked: false}' >"$site/cargo/de/vp/devplane-trial"

  python3 - "$site" <<'PYTHON'
import json, pathlib, sys, zipfile
site = pathlib.Path(sys.argv[1])
name = "devplane_trial-1.0-py3-none-any.whl"
with zipfile.ZipFile(site / "pypi/devplane-trial" / name, "w") as wheel:
    wheel.writestr("devplane_trial.py", "here = True\n")
    wheel.writestr("devplane_trial-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: devplane-trial\nVersion: 1.0\n")
    wheel.writestr("devplane_trial-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("devplane_trial-1.0.dist-info/RECORD", "")
(site / "pypi/devplane-trial/index.html").write_text(f'<a href="{name}">{name}</a>')
module = site / "go/example.test/greet/@v"
source = {"go.mod": "module example.test/greet\n\ngo 1.22\n", "greet.go": 'package greet\n\nfunc Hello() string { return "hello" }\n'}
with zipfile.ZipFile(module / "v1.0.0.zip", "w") as archive:
    for file, text in source.items():
        archive.writestr(f"example.test/greet@v1.0.0/{file}", text)
(module / "v1.0.0.mod").write_text(source["go.mod"])
info = json.dumps({"Version": "v1.0.0", "Time": "2026-01-01T00:00:00Z"})
(module / "v1.0.0.info").write_text(info)
(module / "list").write_text("v1.0.0\n")
(module.parent / "@latest").write_text(info)
PYTHON
}
