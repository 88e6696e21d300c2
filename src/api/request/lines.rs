//! Streaming line reader for NDJSON bodies.

use std::time::Duration;

use axum::body::Body as HttpBody;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::domain::wire::lines::{self, LineLimits, LineSplitter};
use crate::service::failed_events::TRUNCATED_EVENT_BYTES;

/// Splits a body into lines. Buffers at most one line and one chunk.
pub(crate) struct LineReader {
    chunks: axum::body::BodyDataStream,
    splitter: LineSplitter,
    idle: Duration,
}

pub(crate) enum BodyLine {
    Text(Bytes),
    /// A line above the size limit: its first bytes.
    TooLong(Bytes),
    End,
    Broken(String),
    /// No byte arrived within the idle timeout.
    Idle,
}

impl LineReader {
    pub(crate) fn new(body: HttpBody, max_line_bytes: usize, idle: Duration) -> Self {
        let limits = LineLimits { max_line_bytes, head_bytes: TRUNCATED_EVENT_BYTES };
        Self { chunks: body.into_data_stream(), splitter: LineSplitter::new(limits), idle }
    }

    /// Number of the last returned line, from 1.
    pub(crate) const fn number(&self) -> u64 {
        self.splitter.number()
    }

    /// Reads the next line. Cancel safe: a dropped call loses no data.
    pub(crate) async fn next(&mut self) -> BodyLine {
        loop {
            match self.splitter.take_line() {
                Some(lines::NdjsonLine::Text(text)) => return BodyLine::Text(text),
                Some(lines::NdjsonLine::TooLong(head)) => return BodyLine::TooLong(head),
                None if self.splitter.is_at_end() => return BodyLine::End,
                None => {}
            }
            match tokio::time::timeout(self.idle, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => self.splitter.push(&chunk),
                Ok(Some(Err(error))) => {
                    return BodyLine::Broken(format!("the body ended early: {error}"));
                }
                Ok(None) => self.splitter.end(),
                Err(_) => return BodyLine::Idle,
            }
        }
    }
}
