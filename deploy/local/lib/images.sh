# shellcheck shell=bash
# Turns binaries, a Debian root and the repository's image scripts into images in the cluster's containerd.
#
# Nothing is pulled: no container registry is needed. An image is loaded again only when its identity changed.

# single_binary_image REF USER BINARY: an image of one static binary, by tar and sha256sum alone.
single_binary_image() {
  local ref=$1 user=$2 binary=$3 name=$4 work layer
  local key="$user $(sha256sum <"$binary")"
  if loaded "$ref" "$key"; then return 0; fi
  work=$(mktemp -d "$STATE/images/XXXXXX")
  mkdir "$work/root"
  install -m 0755 "$binary" "$work/root/$name"
  tar -C "$work/root" --owner=0 --group=0 --mtime=@0 -cf "$work/layer.tar" "$name"
  layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  local arch=amd64
  [ "$(uname -m)" != aarch64 ] || arch=arm64
  cat >"$work/config.json" <<EOF
{"architecture":"$arch","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Entrypoint":["/$name"],"User":"$user"},
"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}
EOF
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$ref" >"$work/manifest.json"
  tar -C "$work" -cf "$work/image.tar" manifest.json config.json layer.tar
  import "$ref" "$work/image.tar" "$key"
  rm -r "$work"
}

key_file() { printf '%s/images/%s.key' "$STATE" "$(tr '/:' '__' <<<"$1")"; }

loaded() { # REF KEY
  [ "$(cat "$(key_file "$1")" 2>/dev/null)" = "$2" ] && ctr_local images ls -q "name==$1" | grep -qx -- "$1"
}

import() { # REF ARCHIVE KEY
  logged "image-import" "loading $1 into containerd" "if its disk is full, free some space in $STATE" ctr_local images import "$2"
  echo "$3" >"$(key_file "$1")"
}

# load_image REF: from buildah's storage. True (0) always; sets IMAGE_CHANGED=yes when the cluster got a new one.
load_image() {
  local ref=$1 id archive
  id=$(buildah inspect --type image --format '{{.FromImageID}}' "$ref" 2>/dev/null) ||
    fail "image $ref is not in buildah's storage" "build it, then run this again"
  if loaded "$ref" "$id"; then return 0; fi
  note "loading $ref"
  archive=$(mktemp -u "$STATE/images/XXXXXX.tar")
  logged image-export "exporting $ref" "if its disk is full, free some space in $STATE" buildah push -q "$ref" "docker-archive:$archive:$ref"
  import "$ref" "$archive" "$id"
  rm -f "$archive"
  # shellcheck disable=SC2034  # read by product.sh
  IMAGE_CHANGED=yes
}

load_node_images() {
  mkdir -p "$STATE/images"
  local pause=$BIN/store/pause-$(content_key pause/pause.c --)
  [ -x "$pause" ] || logged build-pause "compiling pause.c" "install gcc and libc6-dev" \
    gcc -static -Os -s -o "$pause" "$LOCAL_SRC/pause/pause.c"
  single_binary_image "$PAUSE_IMAGE" 65535:65535 "$pause" pause
  single_binary_image "$COREDNS_IMAGE" 65535:65535 "$BIN/coredns" coredns
  single_binary_image "$MODEL_IMAGE" 65532:65532 "$BIN/fixed-answer-llm" fixed-answer-llm
}

# The Debian image that workspaces and volume helpers are made from, in buildah's storage: debootstrap, then buildah.
make_base_image() {
  mkdir -p "$CACHE/rootfs"
  local root=$CACHE/rootfs/$DEBIAN_SUITE container mirror
  (
    flock 9 # the workspace image's own build makes the same image when it finds none
    if ! buildah images -q "$BASE_IMAGE" >/dev/null 2>&1; then
      if [ ! -e "$root/.complete" ]; then
        # No address is written here: the mirror is the one this machine already uses.
        mirror=$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)
        note "Debian $DEBIAN_SUITE root by debootstrap: about a minute"
        rm -rf "$root"
        logged debootstrap "debootstrap of Debian $DEBIAN_SUITE" "check that this machine's Debian mirror also has $DEBIAN_SUITE" \
          debootstrap --variant=minbase "$DEBIAN_SUITE" "$root" "$mirror"
        touch "$root/.complete"
      fi
      container=$(buildah from scratch)
      tar -C "$root" --numeric-owner --one-file-system --exclude=./.complete -cf "$CACHE/rootfs/base.tar" .
      buildah add -q "$container" "$CACHE/rootfs/base.tar" / >/dev/null
      rm "$CACHE/rootfs/base.tar"
      buildah config --cmd /bin/bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
      buildah commit -q "$container" "$BASE_IMAGE" >/dev/null
      buildah rm "$container" >/dev/null
    fi
  ) 9>"$CACHE/rootfs/lock"
}

load_base_image() {
  make_base_image
  load_image "$BASE_IMAGE"
}

# sources_key PATH...: what an image of the repository is built from, without what builds leave behind.
sources_key() {
  (
    cd "$REPO"
    for path in "$@"; do
      [ ! -e "$path" ] || find "$path" -type d \( -name node_modules -o -name target -o -name dist \) -prune -o -type f -print0
    done | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-32
  )
}

# product_image REF SCRIPT PATH...: runs SCRIPT REF when PATHs changed since it last did, then loads REF.
product_image() {
  local ref=$1 script=$REPO/$2 key built
  shift 2
  [ -x "$script" ] || fail "$script is missing or not executable" "restore it from version control"
  key=$(sources_key "$@")
  built=$(key_file "$ref").sources
  if [ "$(cat "$built" 2>/dev/null)" != "$key" ] || ! buildah images -q "$ref" >/dev/null 2>&1; then
    note "building $ref (log: $STATE/logs/$(basename "$script" .sh).log)"
    logged "$(basename "$script" .sh)" "building $ref" "a registry (crates, npm, Go modules or Debian) that did not answer is the usual reason" \
      "$script" "$ref"
    echo "$key" >"$built"
  fi
  load_image "$ref"
}

build_product_images() {
  product_image "$DEVPLANE_IMAGE" deploy/images/build-devplane.sh Cargo.toml Cargo.lock rust-toolchain.toml Dockerfile .dockerignore \
    build.rs src templates chart/devplane/Chart.yaml chart/devplane/values.yaml deploy/images/build-devplane.sh
  product_image "$WORKSPACE_IMAGE" deploy/images/build-workspace.sh deploy/images/workspace deploy/images/build-workspace.sh
}
