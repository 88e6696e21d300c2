//! Limits on memory, on the size of a request, and on the rate of one API key.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;

/// Limits on one request, one key and all requests together.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimitSettings {
    /// Memory budget of the whole process.
    pub memory_bytes: usize,
    /// The part of the budget for requests: bodies, parsed forms, queues, responses.
    pub buffer_bytes: usize,
    pub events_per_request: usize,
    /// Maximum time for which a bulk upload collects lines before it commits them.
    pub stream_flush: Duration,
    /// Maximum bytes of lines that a bulk upload collects before it commits them.
    pub stream_bytes: usize,
    /// Time without a byte after which a bulk upload is ended.
    pub stream_idle: Duration,
    /// Maximum requests of one key per second; `None` for no limit.
    pub requests_per_second_per_key: Option<u32>,
    /// Maximum events of one key per second; `None` for no limit.
    pub events_per_second_per_key: Option<u32>,
    /// Maximum expensive requests of one key per minute; `None` for no limit.
    pub expensive_requests_per_minute_per_key: Option<u32>,
}

/// Memory for models and the runtime: the minimum that must be left of the budget.
pub(super) const RUNTIME_BYTES: usize = 128 * 1024 * 1024;

impl RequestLimitSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        let mut rate =
            |path| Some(reader.integer(path, 0..=1_000_000_000)).filter(|rate| *rate > 0);
        let requests_per_second_per_key = rate("limits.requests_per_second_per_key");
        let events_per_second_per_key = rate("limits.events_per_second_per_key");
        let expensive_requests_per_minute_per_key =
            rate("limits.expensive_requests_per_minute_per_key");
        Self {
            memory_bytes: reader.integer("limits.memory_bytes", 1..=1 << 44),
            buffer_bytes: reader.integer("limits.buffer_bytes", 1..=1 << 44),
            events_per_request: reader.integer("limits.events_per_request", 1..=1_000_000),
            stream_flush: Duration::from_millis(
                reader.integer("limits.stream_flush_milliseconds", 1..=60_000),
            ),
            stream_bytes: reader.integer("limits.stream_bytes", 1024..=1 << 30),
            stream_idle: reader.seconds("limits.stream_idle_seconds", 1..=86_400),
            requests_per_second_per_key,
            events_per_second_per_key,
            expensive_requests_per_minute_per_key,
        }
    }
}
