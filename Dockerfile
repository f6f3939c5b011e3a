# syntax=docker/dockerfile:1
#
#   docker build -t crosslatch .
#   docker run --network host -v crosslatch:/var/lib/crosslatch crosslatch
#
# Without keys the server answers on loopback only, so whoever calls it shares its network.

FROM rust:1.88-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends clang libclang-dev cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The registry and the compiled dependencies (RocksDB takes a quarter of an hour) stay between builds.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY README.md ./
COPY src src
COPY benches benches
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin crosslatch \
    && install -D -m 0755 target/release/crosslatch /out/crosslatch

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/crosslatch --create-home --shell /usr/sbin/nologin crosslatch \
    && install -d -m 0700 -o crosslatch -g crosslatch /var/lib/crosslatch/data
COPY --from=build /out/crosslatch /usr/local/bin/crosslatch
COPY packaging/crosslatch.toml /etc/crosslatch/crosslatch.toml
USER 10001
WORKDIR /var/lib/crosslatch
VOLUME ["/var/lib/crosslatch"]
EXPOSE 7400
ENV CROSSLATCH_DATA=/var/lib/crosslatch/data \
    CROSSLATCH_CONFIG=/etc/crosslatch/crosslatch.toml \
    CROSSLATCH_LOG_FORMAT=json
# A server that recovers is not ready yet, and is not to be killed for it: give it the time it needs.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 CMD ["crosslatch", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["crosslatch"]
CMD ["serve"]
