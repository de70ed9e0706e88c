#!/usr/bin/env bash
# Uses DevPlane as two people would, in a real Chromium on the one-machine cluster, which it brings up and removes.
#
#   SCREENSHOT=FILE.png tests/browser/run.sh      keeps a picture of the terminal
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/harness/cluster.sh

copy=$(tests/browser/programs.sh)
export CHROMIUM=$copy/chromium

with_cluster
# What a browser calls the public key of a certificate.
spki() { openssl x509 -in "$1" -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64; }
SPKI=$(spki "$DEVPLANE_LOCAL_DIR/pki/gateway.crt"),$(spki "$DEVPLANE_LOCAL_DIR/pki/idp.crt")
export SPKI URL=$DEVPLANE_URL
# One after the other, and the second whatever becomes of the first: they share the cluster, and dev1.
status=0
for file in browser page; do
  node --test --test-reporter=spec "$copy/$file.test.mjs" || status=1
done
audit_lines_fit || status=1
exit "$status"
