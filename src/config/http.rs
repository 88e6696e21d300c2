//! The listeners: the API, and metrics with health.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::reader::Reader;

const ADDRESS: &str = "an address and port such as 127.0.0.1:8080";

/// The API.
#[derive(Debug, Clone)]
pub struct Http {
    pub bind: SocketAddr,
    /// Largest request body; bulk uploads are limited by line.
    pub max_body_bytes: usize,
    /// Largest line of a bulk upload.
    pub max_line_bytes: usize,
    /// Time for one request, bulk uploads exempt.
    pub request_timeout: Duration,
    pub max_concurrent_requests: usize,
    /// Time for requests in progress once asked to stop.
    pub drain: Duration,
}

impl Http {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            bind: address(reader, "http.bind"),
            max_body_bytes: reader.integer("http.max_body_bytes", 1024..=1 << 30),
            max_line_bytes: reader.integer("http.max_line_bytes", 1024..=1 << 30),
            request_timeout: reader.seconds("http.request_timeout_seconds", 1..=3600),
            max_concurrent_requests: reader.integer("http.max_concurrent_requests", 1..=1_000_000),
            drain: reader.seconds("http.drain_seconds", 0..=3600),
        }
    }
}

/// Metrics and health.
#[derive(Debug, Clone)]
pub struct Admin {
    pub bind: SocketAddr,
}

impl Admin {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self { bind: address(reader, "admin.bind") }
    }
}

fn address(reader: &mut Reader, path: &'static str) -> SocketAddr {
    let unspecified = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    reader.parsed(path, ADDRESS).unwrap_or(unspecified)
}
