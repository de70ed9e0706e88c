# Turns this repository into an image that holds one static executable and nothing else.
#
#   docker build -t REF .                        compiles in the two images below; both are arguments, for sites with mirrors
#   deploy/images/build-devplane.sh REF          compiles on this machine and hands the result to the final stage
#
# NODE_IMAGE needs Node.js 20 or newer with npm; BUILDER_IMAGE needs Rust 1.95 or newer that targets musl, and a C compiler for
# it. One image that has all of it may be given for both. npm and cargo fetch what the lockfiles name: give their
# mirrors in the images' own npm and cargo configuration.

ARG NODE_IMAGE=node:24-alpine
ARG BUILDER_IMAGE=rust:1.95-alpine

FROM ${NODE_IMAGE} AS web
WORKDIR /src
COPY src/gateway/web ./
RUN npm ci --no-audit --no-fund --ignore-scripts && node build.mjs /dist

FROM ${BUILDER_IMAGE} AS build
ARG DEVPLANE_COMMIT=
WORKDIR /src
COPY . .
COPY --from=web /dist /dist
ENV DEVPLANE_WEB_DIST=/dist
# A musl toolchain links the C library in by itself; an empty commit would be printed as one.
RUN if [ -z "$DEVPLANE_COMMIT" ]; then unset DEVPLANE_COMMIT; fi \
    && target="$(uname -m)-unknown-linux-musl" \
    && cargo build --release --locked --bin devplane --target "$target" \
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
