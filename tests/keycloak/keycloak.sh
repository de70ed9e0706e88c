#!/usr/bin/env bash
# Turns the Maven artifact of Keycloak into a directory with a server that is ready to start, and prints its path. It is fetched with
# the ordinary Maven client, compared with the checksum below, and built once for plain HTTP on loopback with its own H2 database.
# Installs Maven, a Java runtime and unzip from Debian's packages where they are missing. Progress goes to stderr.
set -euo pipefail
version=26.5.6
checksum=490189d9dff05272432d51f71a069462eeca97f2920a694d539a1e6c26a5a347
plugin=org.apache.maven.plugins:maven-dependency-plugin:2.8:copy
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
directory=$cache/keycloak-$version
mkdir -p "$cache"
exec 9>"$cache/keycloak.lock"
flock 9
missing=()
command -v java >/dev/null || missing+=(default-jre-headless)
if [ ! -e "$directory/.complete" ]; then
  command -v mvn >/dev/null || missing+=(maven)
  command -v unzip >/dev/null || missing+=(unzip)
fi
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "error: ${missing[*]} missing, and there is no apt-get here to install them" >&2; exit 1; }
  echo "installing ${missing[*]} from Debian's packages" >&2
  install=(apt-get -q install -y --no-install-recommends "${missing[@]}")
  # Without an index of packages it knows none.
  "${install[@]}" >&2 || { apt-get -q update >&2 && "${install[@]}" >&2; }
fi
if [ ! -e "$directory/.complete" ]; then
  echo "fetching Keycloak $version" >&2
  rm -rf "$directory" "$directory.new"
  mkdir "$directory.new"
  mvn --batch-mode --quiet --strict-checksums "$plugin" -Dartifact=org.keycloak:keycloak-quarkus-dist:$version:zip \
    -DoutputDirectory="$directory.new" >&2
  zip=$directory.new/keycloak-quarkus-dist-$version.zip
  echo "$checksum  $zip" | sha256sum --check --quiet >&2 || { echo "error: $zip is not the Keycloak that is expected" >&2; exit 1; }
  unzip -q "$zip" -d "$directory.new"
  mv "$directory.new/keycloak-$version" "$directory"
  rm -r "$directory.new"
  echo "building Keycloak's server" >&2
  JAVA_OPTS_KC_HEAP='-Xms64m -Xmx512m' "$directory/bin/kc.sh" build --db=dev-file >&2 9>&-
  touch "$directory/.complete"
fi
echo "$directory"
