# godwit-proxy. Build it from the root of the checkout:
#   docker build -f deploy/docker/proxy.Dockerfile -t godwit-proxy .
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
COPY --from=build /src/target/dist/godwit-proxy /usr/bin/godwit-proxy
USER 6400:6400
EXPOSE 6300 9403
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/godwit-proxy"]
# It needs a config file, or `--listen 0.0.0.0:6300 --backend HOST:PORT` in front of one node or any Redis.
CMD ["--config", "/etc/godwit/proxy.toml"]
