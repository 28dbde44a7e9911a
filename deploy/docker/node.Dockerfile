# godwit-node. Build it from the root of the checkout:
#   docker build -f deploy/docker/node.Dockerfile -t godwit-node .
ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

# The same in every Dockerfile here, so that one build serves all images.
FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ libclang-14-dev make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN scripts/rocksdb.sh && cargo build --profile dist --locked --workspace --bins

FROM debian:${DEBIAN}-slim
RUN useradd --system --uid 6400 --home-dir /var/lib/godwit --create-home godwit
COPY --from=build /src/target/dist/godwit-node /usr/bin/godwit-node
USER 6400:6400
EXPOSE 6400 9401
VOLUME /var/lib/godwit
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/godwit-node"]
# Without arguments: a standalone node. A node of a service takes a config file, see deploy/kustomize.
CMD ["--dir", "/var/lib/godwit/node", "--listen", "0.0.0.0:6400", "--metrics", "0.0.0.0:9401"]
