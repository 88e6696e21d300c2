//! Settings of the HTTP listeners: the API, and metrics with health.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::load::reader::SettingsReader;

/// Range of the capacity of a request class.
const CAPACITY: RangeInclusive<i64> = 1..=1_000_000;
const ADDRESS: &str = "an address and port such as 127.0.0.1:8080";

/// The API listener.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub listen_address: SocketAddr,
    /// Maximum request body; bulk uploads are limited by line instead.
    pub max_body_bytes: usize,
    /// Maximum body of a request with its API key in the body.
    pub max_unidentified_body_bytes: usize,
    /// Maximum line of a bulk upload.
    pub max_line_bytes: usize,
    /// Time limit for a request; streams are exempt.
    pub request_timeout: Duration,
    /// Time limit for receiving a request body.
    pub body_timeout: Duration,
    /// Time before the minimum transfer rate of a body applies.
    pub body_grace: Duration,
    /// 0 disables the minimum rate.
    pub min_body_bytes_per_second: u64,
    pub requests: RequestCapacitySettings,
    pub connections: ConnectionLimits,
    /// Values of `Host` that may be repeated in a response, in lower case and without port;
    /// empty allows all.
    pub allowed_hosts: Vec<String>,
    /// Time between the failure of `/readyz` and the end of accepting connections.
    pub shutdown_delay: Duration,
    /// Time for requests in progress during shutdown.
    pub shutdown_timeout: Duration,
}

/// Maximum concurrent requests of each class.
#[derive(Debug, Clone, Copy)]
pub struct RequestCapacitySettings {
    pub scoring: usize,
    pub ingestion: usize,
    pub read: usize,
    pub slow_read: usize,
    pub stream: usize,
    pub control: usize,
    pub health: usize,
    pub public: usize,
    pub unidentified: usize,
}

/// Limits on the client connections of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    pub max_connections: usize,
    /// Time limit for receiving the head of a request.
    pub header_timeout: Duration,
    /// Maximum time between two requests.
    pub idle_timeout: Duration,
    /// Time in which a client must read a part of its response.
    pub write_timeout: Duration,
}

impl HttpSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        let hosts = reader.text("http.allowed_hosts");
        let hosts = hosts.split(',').map(|host| host.trim().to_ascii_lowercase());
        Self {
            listen_address: address(reader, "http.bind"),
            max_body_bytes: reader.integer("http.max_body_bytes", 1024..=1 << 30),
            max_unidentified_body_bytes: reader
                .integer("http.max_unidentified_body_bytes", 1024..=1 << 30),
            max_line_bytes: reader.integer("http.max_line_bytes", 1024..=1 << 30),
            request_timeout: reader.seconds("http.request_timeout_seconds", 1..=3600),
            body_timeout: reader.seconds("http.body_timeout_seconds", 1..=3600),
            body_grace: reader.seconds("http.body_grace_seconds", 1..=3600),
            min_body_bytes_per_second: reader
                .integer("http.min_body_bytes_per_second", 0..=1 << 30),
            requests: RequestCapacitySettings::read(reader),
            connections: ConnectionLimits {
                max_connections: reader.integer("http.max_connections", 16..=65_536),
                header_timeout: reader.seconds("http.header_timeout_seconds", 1..=3600),
                idle_timeout: reader.seconds("http.idle_timeout_seconds", 1..=86_400),
                write_timeout: reader.seconds("http.write_timeout_seconds", 1..=3600),
            },
            allowed_hosts: hosts.filter(|host| !host.is_empty()).collect(),
            shutdown_delay: reader.seconds("http.shutdown_delay_seconds", 0..=3600),
            shutdown_timeout: reader.seconds("http.shutdown_timeout_seconds", 0..=3600),
        }
    }
}

impl RequestCapacitySettings {
    fn read(reader: &mut SettingsReader) -> Self {
        Self {
            scoring: reader.integer("http.max_scoring_requests", CAPACITY),
            ingestion: reader.integer("http.max_ingestion_requests", CAPACITY),
            read: reader.integer("http.max_read_requests", CAPACITY),
            slow_read: reader.integer("http.max_slow_reads", CAPACITY),
            stream: reader.integer("http.max_streams", CAPACITY),
            control: reader.integer("http.max_control_requests", CAPACITY),
            health: reader.integer("http.max_health_requests", CAPACITY),
            public: reader.integer("http.max_public_requests", CAPACITY),
            unidentified: reader.integer("http.max_unidentified_requests", CAPACITY),
        }
    }
}

/// The listener for metrics and health.
#[derive(Debug, Clone)]
pub struct AdminListenerSettings {
    pub bind: SocketAddr,
    /// The timeouts are the same as those of the API.
    pub max_connections: usize,
}

impl AdminListenerSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            bind: address(reader, "admin.bind"),
            max_connections: reader.integer("admin.max_connections", 2..=10_000),
        }
    }
}

fn address(reader: &mut SettingsReader, path: &'static str) -> SocketAddr {
    let unspecified = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    reader.parsed(path, ADDRESS).unwrap_or(unspecified)
}
