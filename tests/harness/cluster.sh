# shellcheck shell=bash
# A one-machine cluster of deploy/local with state of its own, for the tier that sources this; it is removed at the end.

: "${DEVPLANE_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/devplane}"
export DEVPLANE_CACHE DEVPLANE_LOCAL_DIR=${DEVPLANE_LOCAL_DIR:-$DEVPLANE_CACHE/test-cluster}

# Brings it up and points kubectl at it. When the tier ends badly, shows what the cluster knows about it.
with_cluster() {
  if ip link show devplane0 >/dev/null 2>&1 && [ ! -d "$DEVPLANE_LOCAL_DIR" ]; then
    printf 'error: a local cluster with other state is up, and this tier needs one of its own\nhint: deploy/local/down.sh --purge\n' >&2
    exit 1
  fi
  trap remove_cluster EXIT
  deploy/local/up.sh
  eval "$(deploy/local/env.sh)"
}

# Whether every audit line of operator and gateway is one.
audit_lines_fit() {
  local validator=$DEVPLANE_CACHE/jsonschema-4.26.0
  if [ ! -d "$validator" ]; then
    rm -rf "$validator.new"
    python3 -m pip install -q --disable-pip-version-check --target "$validator.new" jsonschema==4.26.0 && mv "$validator.new" "$validator"
  fi
  {
    kubectl -n workspace-operator-system logs deploy/workspace-operator --tail=-1
    kubectl -n workspace-operator-system logs -l app=workspace-gateway --tail=-1
  } | PYTHONPATH=$validator tests/harness/audit-lines.py
}

remove_cluster() {
  local status=$? job
  # Of this very shell: what still watches the cluster.
  for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done
  if [ "$status" != 0 ]; then
    kubectl get workspaces,pods,pvc,events -n workspaces || true
    kubectl -n workspace-operator-system logs deploy/workspace-operator --tail=30 || true
    kubectl -n workspace-operator-system logs -l app=workspace-gateway --prefix --tail=30 || true
    tail -n 30 "$DEVPLANE_LOCAL_DIR"/logs/{helm,build-workspace,build-devplane}.log || true
  fi
  deploy/local/down.sh --purge
  exit "$status"
}
