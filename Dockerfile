# The operator's image, for those who have Docker; `cargo run -p e2e -- image` makes one that runs and says the same, without.
#
#   docker build --build-arg RUST_DIGEST=sha256:... --build-arg COMMIT="$(git rev-parse HEAD)" --tag localhost/trainyard/trainyard:0.1.0 .
#
# The digest is required: a tag can be moved, a digest cannot. `docker buildx imagetools inspect rust:1.95-bookworm` prints it. The
# operator's image is built from nothing, so all that it has from this one is what its compiler made.
ARG RUST_DIGEST

FROM rust:1.95-bookworm@${RUST_DIGEST} AS build
# Compiles the C code of dependencies against musl.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/*
RUN rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /trainyard
COPY . .
ARG COMMIT=""
# The allocator's messages tell when it was compiled, by which no two builds would be alike.
RUN TARGET_CC=musl-gcc TRAINYARD_COMMIT="$COMMIT" \
    TARGET_CFLAGS='-Wno-builtin-macro-redefined -D__DATE__="unknown" -D__TIME__="unknown"' \
    cargo build --locked --release --package trainyard --bin trainyard --target "$(uname -m)-unknown-linux-musl" \
    && install -m 0555 "target/$(uname -m)-unknown-linux-musl/release/trainyard" /trainyard-binary

FROM scratch
ARG VERSION="0.1.0"
ARG COMMIT=""
LABEL org.opencontainers.image.title="trainyard" \
    org.opencontainers.image.description="A Kubernetes operator for machine-learning workloads" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="$COMMIT"
COPY --from=build /trainyard-binary /trainyard
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/trainyard"]
CMD ["run"]
