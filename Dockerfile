# syntax=docker/dockerfile:1
# A minimal image of segmentd: one program, no shell, no root.
#
#     docker build --tag segmentd .
#
# It needs an external Postgres (DATABASE_URL): the image contains no private one.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
# The cache mounts keep the registry and the compiled dependencies between builds.
# The program is copied out, because a cache mount is not part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    SQLX_OFFLINE=true cargo build --locked --release --bin segmentd \
    && cp target/release/segmentd /segmentd

# Contains only the C library; `nonroot` is uid 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /segmentd /usr/local/bin/segmentd
# The loopback address of a container is unreachable from outside.
ENV SEGMENTD_HTTP__BIND=0.0.0.0:8080 \
    SEGMENTD_ADMIN__BIND=0.0.0.0:9090 \
    SEGMENTD_LOG__FORMAT=json
EXPOSE 8080 9090
# No HEALTHCHECK: it would need a client in the image. Orchestrators probe
# /livez and /readyz on port 9090 themselves.
ENTRYPOINT ["segmentd"]
CMD ["serve"]
