# shellcheck shell=bash disable=SC2154  # layout, work, chart and version come from bundle.sh
# Turns a list of references and the chart into an OCI image layout, and into images.tsv: a line with NAME, DIGEST, REFERENCE and USES each.

# copy_images LIST: every image under the name that it will have in any registry: its repository and tag.
copy_images() {
  local reference repository tag digest registry uses name
  jq -r '.images[] | [.reference, .registry // "-", .repository, .tag // "-", .digest // "-", (.usedBy | join(", "))] | @tsv' "$1" >"$work/images.list" ||
    fail "the list of images is not as expected" "this is a fault of bundle.sh, or --devplane is another program"
  [ -s "$work/images.list" ] || fail "the list of images is empty" "this is a fault of bundle.sh, or --devplane is another program"
  : >"$layout/images.tsv"
  while IFS=$'\t' read -r reference registry repository tag digest uses; do
    # A reference by digest alone needs some tag: registries remove what has none.
    [ "$tag" != - ] || { [ "$digest" = - ] && tag=latest || tag=by-digest-$(cut -c8-23 <<<"$digest"); }
    name=$repository:$tag
    ! cut -f1 "$layout/images.tsv" | grep -qxF -- "$name" ||
      fail "two images have the name $name in different registries" "give one of them another tag in the values"
    progress "image $reference"
    copy_image "$reference" "$registry" "$name"
    local found
    found=$(digest_of "$name")
    [ "$digest" = - ] || [ "$digest" = "$found" ] ||
      fail "$reference is $found here" "the values name another digest: load the image that they mean, or correct them"
    printf '%s\t%s\t%s\t%s\n' "$name" "$found" "$reference" "$uses" >>"$layout/images.tsv"
  done <"$work/images.list"
}

copy_image() { # REFERENCE REGISTRY NAME
  local has_registry=no
  [ "$2" = - ] || [ "$2" = localhost ] || has_registry=yes
  # Only a registry is sure to give what a digest names: storage unpacks layers, and they are packed anew from there.
  if [ "$has_registry" = yes ] && [[ $1 == *@* ]] && from_registry "$1" "$3"; then return; fi
  if from_storage "${1%%@*}" "$3"; then return; fi
  [ "$has_registry" = yes ] ||
    fail "$1 is not in buildah's storage" "build it: deploy/images/build-devplane.sh $1, or deploy/images/build-workspace.sh $1"
  from_registry "$1" "$3" || {
    tail -n 3 "$work/oras.log" >&2
    fail "$1 is neither in buildah's storage nor given out by its registry" "build or pull it: buildah pull $1; credentials are those of \`buildah login\` and \`docker login\`"
  }
}

from_storage() { # REFERENCE NAME
  if buildah manifest exists "$1" 2>/dev/null; then
    buildah manifest push --quiet --all "$1" "oci:$layout:$2" >/dev/null || fail "buildah can't export $1" "its message is above"
  elif buildah inspect --type image "$1" >/dev/null 2>&1; then
    buildah push --quiet --format oci "$1" "oci:$layout:$2" >/dev/null || fail "buildah can't export $1" "its message is above"
  else
    return 1
  fi
}

from_registry() { # REFERENCE NAME
  oras cp --no-tty "$1" --to-oci-layout "$layout:bundle" >"$work/oras.log" 2>&1 || return 1
  rename bundle "$2"
}

readonly REF_NAME=org.opencontainers.image.ref.name

digest_of() { # NAME
  jq -er --arg name "$1" --arg key "$REF_NAME" '[.manifests[] | select(.annotations[$key] == $name)] | last | .digest' "$layout/index.json" ||
    fail "$1 did not arrive in the layout" "this is a fault of bundle.sh"
}

# rename FROM TO: oras takes no name with a slash or colon for a place in a layout.
rename() {
  jq --arg from "$1" --arg to "$2" --arg key "$REF_NAME" \
    '.manifests |= map(if .annotations[$key] == $from then .annotations[$key] = $to else . end)' "$layout/index.json" >"$work/index.json" &&
    mv "$work/index.json" "$layout/index.json" || fail "the layout's index can't be written" "if the disk is full, free some space"
}

# The chart as helm pushes it: a manifest with the chart's metadata as configuration and the packed chart as its one layer.
add_chart() {
  local pack=$work/chart file=devplane-$version.tgz digest
  mkdir -p "$pack" "$layout/chart"
  tar -C "$chart/.." --exclude-from="$chart/.helmignore" --sort=name --owner=0 --group=0 --numeric-owner \
    --mode='u=rwX,go=rX' --mtime=@0 -cf - devplane | gzip -n >"$pack/$file"
  # The plain keys of Chart.yaml are all that registries and helm read.
  sed -nE 's/^([a-zA-Z]+): *"?([^"[{]+)"?$/\1\t\2/p' "$chart/Chart.yaml" | jq -Rn '[inputs / "\t" | {(.[0]): .[1]}] | add' >"$pack/config.json"
  (cd "$pack" && oras push --no-tty --oci-layout "$layout:chart" --config config.json:application/vnd.cncf.helm.config.v1+json \
    --annotation org.opencontainers.image.created=1970-01-01T00:00:00Z \
    --annotation org.opencontainers.image.title=devplane --annotation "org.opencontainers.image.version=$version" \
    "$file:application/vnd.cncf.helm.chart.content.v1.tar+gzip") >"$work/oras.log" 2>&1 ||
    fail "oras can't add the chart to the layout: $(tail -n 1 "$work/oras.log")" "if the disk is full, free some space"
  rename chart "charts/devplane:$version"
  cp "$pack/$file" "$layout/chart/"
  digest=$(digest_of "charts/devplane:$version")
  printf '%s\t%s\t%s\tchart\n' "charts/devplane:$version" "$digest" "$file" >>"$layout/images.tsv"
  # Equal inputs, equal bytes.
  jq -S '.manifests |= sort_by(.annotations["org.opencontainers.image.ref.name"])' "$layout/index.json" >"$work/index.json"
  mv "$work/index.json" "$layout/index.json"
  rm -rf "$layout/ingest"
}
