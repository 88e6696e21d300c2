//! Bounds on memory, on the size of a request, and on one key's rate.

use std::time::Duration;

use crate::config::load::reader::Reader;

/// What one request, one key and all requests together may take.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Memory that the whole process is planned for.
    pub memory_bytes: usize,
    /// The part of it for requests: bodies, parsed forms, queues, answers.
    pub buffer_bytes: usize,
    pub events_per_request: usize,
    /// Time that a bulk upload gathers lines before it commits them.
    pub stream_flush: Duration,
    /// Lines of a bulk upload that are gathered before they are committed, in bytes.
    pub stream_bytes: usize,
    /// A bulk upload without a byte for this time is ended.
    pub stream_idle: Duration,
    /// Events of one key per second; `None`: no quota.
    pub events_per_second_per_key: Option<u32>,
}

/// Memory for models and the runtime: what is left of the budget is at least this.
pub(super) const RUNTIME_BYTES: usize = 128 * 1024 * 1024;

impl RequestLimits {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let quota = reader.integer("limits.events_per_second_per_key", 0..=1_000_000_000);
        Self {
            memory_bytes: reader.integer("limits.memory_bytes", 1..=1 << 44),
            buffer_bytes: reader.integer("limits.buffer_bytes", 1..=1 << 44),
            events_per_request: reader.integer("limits.events_per_request", 1..=1_000_000),
            stream_flush: Duration::from_millis(
                reader.integer("limits.stream_flush_milliseconds", 1..=60_000),
            ),
            stream_bytes: reader.integer("limits.stream_bytes", 1024..=1 << 30),
            stream_idle: reader.seconds("limits.stream_idle_seconds", 1..=86_400),
            events_per_second_per_key: Some(quota).filter(|events| *events > 0),
        }
    }
}
