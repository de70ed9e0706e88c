# Turns this repository into an image that holds one static executable and nothing else.
#
#   docker build -t REF .                        compiles in BUILDER_IMAGE, an argument for sites with mirrors
#   deploy/images/build-devplane.sh REF          compiles on this machine and hands the result to the final stage
#
# BUILDER_IMAGE needs Rust 1.95 or newer that targets musl, and a C compiler for it; WEB_BUILDER_IMAGE needs Node.js 20 or newer
# with npm. cargo and npm fetch what the lockfiles name: give their mirrors in the images' own cargo and npm configuration.

ARG BUILDER_IMAGE=rust:1.95-alpine
ARG WEB_BUILDER_IMAGE=node:22-alpine

FROM ${WEB_BUILDER_IMAGE} AS web
WORKDIR /web
COPY src/gateway/web .
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund && node build.mjs /out/web

FROM ${BUILDER_IMAGE} AS build
ARG DEVPLANE_COMMIT=
WORKDIR /src
COPY . .
COPY --from=web /out/web /out/web
# A musl toolchain links the C library in by itself; an empty commit would be printed as one.
RUN if [ -z "$DEVPLANE_COMMIT" ]; then unset DEVPLANE_COMMIT; fi \
    && target="$(uname -m)-unknown-linux-musl" \
    && DEVPLANE_WEB_DIST=/out/web cargo build --release --locked --bin devplane --target "$target" \
    && install -D "target/$target/release/devplane" /out/devplane

FROM scratch
ARG VERSION=2.0.0
ARG DEVPLANE_COMMIT=
LABEL org.opencontainers.image.title="DevPlane" \
      org.opencontainers.image.description="Operator and gateway of per-user browser terminals for closed Kubernetes clusters" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${DEVPLANE_COMMIT}"
COPY --from=build /out/devplane /devplane
# Numeric, so that Kubernetes can tell that it is not root.
USER 65532:65532
ENTRYPOINT ["/devplane"]
