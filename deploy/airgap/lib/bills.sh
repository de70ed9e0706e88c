# shellcheck shell=bash disable=SC2154  # layout, work, repo, tools come from bundle.sh
# Turns images and the lockfile into bills of materials (CycloneDX 1.5, JSON) and the licences of what is linked into the executable.

write_bills() {
  mkdir -p "$layout/sbom" "$layout/licences"
  bill_of_crates
  licences_of_crates
  local name digest reference uses
  while IFS=$'\t' read -r name digest reference uses; do
    [ "$uses" = chart ] || bill_of_image "$name" "$digest"
  done <"$layout/images.tsv"
}

# Without what differs between two runs on the same inputs.
settled() { jq -S 'del(.serialNumber, .metadata.timestamp)'; }

# Of the crates that are linked into the executable: not of tests, benchmarks or build scripts. cargo-cyclonedx writes beside the manifest: so it
# gets one of its own, and the checkout stays as it is.
bill_of_crates() {
  local crate=$work/crate entry
  mkdir "$crate"
  for entry in "$repo"/*; do ln -s "$entry" "$crate/"; done
  rm "$crate/Cargo.toml" "$crate/Cargo.lock"
  cp "$repo/Cargo.toml" "$repo/Cargo.lock" "$crate/"
  "$tools/cargo-cyclonedx-$CYCLONEDX_VERSION/bin/cargo-cyclonedx" cyclonedx --quiet --manifest-path "$crate/Cargo.toml" --format json \
    --spec-version 1.5 --no-build-deps --target x86_64-unknown-linux-musl --override-filename crates >"$work/cyclonedx.log" 2>&1 ||
    fail "cargo-cyclonedx failed: $(tail -n 1 "$work/cyclonedx.log")" "check that cargo reaches its registry: cargo fetch --locked"
  cmp -s "$repo/Cargo.lock" "$crate/Cargo.lock" || fail "Cargo.lock is not what Cargo.toml asks for" "cargo build, and commit Cargo.lock"
  settled <"$crate/crates.json" >"$work/crates.cdx.json"
  # Paths of this machine are nobody's business.
  jq -S --arg here "$crate" 'walk(if type == "string" then split($here) | join("devplane") else . end)' "$work/crates.cdx.json" >"$layout/sbom/crates.cdx.json"
  rm -rf "$crate"
}

# A line with crate, version and licence expression (SPDX) each, and the texts that each crate comes with.
licences_of_crates() {
  jq -r '.components[] | [.name, .version, (.licenses // [] | map(.expression // .license.id // .license.name) | join(" AND ") | if . == "" then "see its files" else . end)] | @tsv' \
    "$layout/sbom/crates.cdx.json" | LC_ALL=C sort >"$layout/licences/crates.tsv"
  local name manifest directory file
  cargo metadata --manifest-path "$repo/Cargo.toml" --locked --filter-platform x86_64-unknown-linux-musl --format-version 1 >"$work/metadata.json" ||
    fail "cargo can't tell where the sources of the crates are" "check that cargo reaches its registry: cargo fetch --locked"
  jq -r --slurpfile bill "$layout/sbom/crates.cdx.json" '($bill[0].components | map({("\(.name)-\(.version)"): true}) | add) as $linked |
    .packages[] | "\(.name)-\(.version)" as $name | select($linked[$name]) | [$name, .manifest_path] | @tsv' "$work/metadata.json" >"$work/crates.tsv"
  while IFS=$'\t' read -r name manifest; do
    directory=$(dirname "$manifest")
    for file in "$directory"/{LICENSE,LICENCE,COPYING,COPYRIGHT,NOTICE,UNLICENSE}*; do
      [ -f "$file" ] || continue
      install -D -m 0644 "$file" "$layout/licences/crates/$name/$(basename "$file")"
    done
  done <"$work/crates.tsv"
}

# Of an image: Debian packages with their licences, Go modules in executables, Python and npm packages.
bill_of_image() { # NAME DIGEST
  local one=$work/one file=$layout/sbom/${1//[\/:]/_}.cdx.json
  rm -rf "$one"
  oras cp --no-tty --from-oci-layout "$layout@$2" --to-oci-layout "$one:image" >"$work/oras.log" 2>&1 ||
    fail "oras can't copy $1 for syft: $(tail -n 1 "$work/oras.log")" "if the disk is full, free some space"
  # Into a file first: a failure in front of a pipe would be told as one behind it.
  SYFT_CHECK_FOR_APP_UPDATE=false SYFT_FILE_METADATA_SELECTION=none "$tools/syft-$SYFT_VERSION/bin/syft" scan "oci-dir:$one" --quiet \
    --source-name "${1%:*}" --source-version "${1##*:}" --output cyclonedx-json@1.5 >"$work/syft.json" 2>"$work/syft.log" ||
    fail "syft can't read $1: $(tail -n 1 "$work/syft.log")" "if the disk is full, free some space"
  settled <"$work/syft.json" >"$file"
  rm -rf "$one"
}
