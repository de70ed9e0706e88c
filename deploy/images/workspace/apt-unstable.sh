#!/bin/sh
# Installs one package, from Debian's unstable suite when the base's own suites lack it:  apt-unstable.sh PACKAGE
set -eu
package=$1
if apt-cache show "$package" >/dev/null 2>&1; then
  exec apt-get install -y --no-install-recommends "$package"
fi
mirror=$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)
cat >/etc/apt/sources.list.d/unstable.sources <<SOURCES
Types: deb
URIs: $mirror
Suites: sid
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
Check-Valid-Until: no
SOURCES
cat >/etc/apt/preferences.d/unstable <<PREFERENCES
Package: *
Pin: release n=sid
Pin-Priority: 50

Package: $package
Pin: release n=sid
Pin-Priority: 500
PREFERENCES
apt-get update
apt-get install -y --no-install-recommends "$package"
rm -f /etc/apt/sources.list.d/unstable.sources /etc/apt/preferences.d/unstable
