# shellcheck shell=bash
# Turns a directory into an installation that pulls DevPlane's images from a registry: see `--from` of up.sh.
#
#   values.yaml   the images, as deploy/airgap/load.sh prints them
#   ca.crt        the authority of the registry's certificate
#   config.json   credentials for it, as `docker login` writes them
#   devplane.tgz  the chart; without it, this checkout's

REGISTRY_SECRET=registry

check_registry() {
  local file
  for file in values.yaml ca.crt config.json; do
    [ -s "$FROM/$file" ] || fail "--from $FROM has no $file" "deploy/airgap/load.sh prints the values; docs/setup/air-gap.md has the rest"
  done
  [ "$(jq -r '.auths | keys | length' "$FROM/config.json" 2>/dev/null)" = 1 ] || fail "$FROM/config.json names no registry, or several" "log in to one, with a DOCKER_CONFIG of its own"
}

# The node believes the registry's certificate. containerd reads this anew at each pull.
trust_registry() {
  local host directory
  host=$(jq -r '.auths | keys[0]' "$FROM/config.json")
  directory=$STATE/certs.d/$host
  mkdir -p "$directory"
  cp "$FROM/ca.crt" "$directory/ca.crt"
  put "$directory/hosts.toml" <<TOML
server = "https://$host"
[host."https://$host"]
  capabilities = ["pull", "resolve"]
  ca = "$directory/ca.crt"
TOML
}

registry_secret() { # NAMESPACE
  applied -n "$1" create secret generic "$REGISTRY_SECRET" --type=kubernetes.io/dockerconfigjson --from-file=.dockerconfigjson="$FROM/config.json"
}

# What helm gets besides values.yaml.
registry_values() {
  put "$STATE/conf/registry-values.yaml" <<VALUES
imagePullPolicy: IfNotPresent
imagePullSecrets: [{name: $REGISTRY_SECRET}]
workspace:
  pod: {imagePullSecrets: [$REGISTRY_SECRET]}
VALUES
}
