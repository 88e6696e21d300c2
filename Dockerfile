# syntax=docker/dockerfile:1
# A small image of segmentd: one program, no shell, no root.
#
#     docker build --tag segmentd .
#
# It needs a Postgres (DATABASE_URL): a container is no place for a private one.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
# The caches hold the registry and the compiled dependencies between builds;
# the program is copied out, as a cache is no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    SQLX_OFFLINE=true cargo build --locked --release --bin segmentd \
    && cp target/release/segmentd /segmentd

# The C library and nothing else; `nonroot` is uid 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /segmentd /usr/local/bin/segmentd
# A container's own loopback address is reached by nobody.
ENV SEGMENTD_HTTP__BIND=0.0.0.0:8080 \
    SEGMENTD_ADMIN__BIND=0.0.0.0:9090 \
    SEGMENTD_LOG__FORMAT=json
EXPOSE 8080 9090
# No HEALTHCHECK: it would need a client in the image. Orchestrators ask
# /livez and /readyz on port 9090 themselves.
ENTRYPOINT ["segmentd"]
CMD ["serve"]
