#!/usr/bin/env bash
# Turns OpenMetrics text on stdin into its families, one `name type unit` a line, or into an error, by the parser that
# Prometheus' Python client has: the reference one of OpenMetrics 1.0. It is unpacked into the cache; nothing is installed.
set -euo pipefail
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
directory=$cache/openmetrics
mkdir -p "$cache"
exec 9>"$cache/openmetrics.lock"
flock 9
if [ ! -d "$directory" ]; then
  command -v apt-get >/dev/null || { echo "error: the parser comes from Debian's packages, and there is no apt-get here" >&2; exit 1; }
  rm -rf "$directory.new"
  mkdir -p "$directory.new"
  cd "$directory.new"
  fetch=(apt-get -q -o APT::Sandbox::User= download python3-prometheus-client)
  # Without an index of packages it knows none.
  "${fetch[@]}" >&2 || { apt-get -q update >&2 && "${fetch[@]}" >&2; }
  dpkg-deb -x python3-prometheus-client_*.deb .
  mv "$directory.new" "$directory"
fi
flock -u 9
PYTHONPATH=$directory/usr/lib/python3/dist-packages exec python3 -c '
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
try:
    for family in text_string_to_metric_families(sys.stdin.read()):
        if not family.samples or not family.documentation:
            sys.exit(f"{family.name} has no sample or no help")
        print(family.name, family.type, family.unit or "-")
except ValueError as error:
    sys.exit(f"no OpenMetrics: {error}")
'
