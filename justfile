# Each recipe calls a script or one program; there is no logic here.

build:
    cargo build --release

test *tiers:
    tests/run.sh {{tiers}}

lint:
    tests/run.sh lint

# Writes the files that are made from the code
generate:
    cargo run --quiet -- crd-gen > chart/devplane/crds/workspaces.workspace.devplane.io.yaml
    cargo run --quiet -- doctor --reference > docs/reference/doctor.md
    cargo run --quiet -- doctor --schema > docs/reference/doctor.schema.json
    python3 docs/reference/generate-values.py

check-generated:
    cargo test --test cli -- crd_gen doctor_prints

up:
    deploy/local/up.sh

down:
    deploy/local/down.sh

# The image of the executable, for amd64 and arm64, in buildah's storage
image ref="localhost/devplane:release":
    deploy/images/build-devplane.sh {{ref}} --arch all
