//! Lines of a body as it arrives.

use std::time::Duration;

use axum::body::Body as HttpBody;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::domain::wire::lines::{self, LineLimits, LineSplitter};
use crate::service::failed_events::HEAD_BYTES;

/// Splits a body into lines; holds one line and one chunk at most.
pub(crate) struct Lines {
    chunks: axum::body::BodyDataStream,
    splitter: LineSplitter,
    idle: Duration,
}

pub(crate) enum Line {
    Text(Bytes),
    /// How it begins.
    TooLong(Bytes),
    End,
    Broken(String),
    /// No byte came for the time that is allowed.
    Idle,
}

impl Lines {
    pub(crate) fn new(body: HttpBody, max_line_bytes: usize, idle: Duration) -> Self {
        let limits = LineLimits { max_line_bytes, head_bytes: HEAD_BYTES };
        Self { chunks: body.into_data_stream(), splitter: LineSplitter::new(limits), idle }
    }

    /// The number of the line given last, from 1.
    pub(crate) const fn number(&self) -> u64 {
        self.splitter.number()
    }

    /// The next line. Cancel safe: a call that is dropped loses nothing.
    pub(crate) async fn next(&mut self) -> Line {
        loop {
            match self.splitter.take_line() {
                Some(lines::Line::Text(text)) => return Line::Text(text),
                Some(lines::Line::TooLong(head)) => return Line::TooLong(head),
                None if self.splitter.is_at_end() => return Line::End,
                None => {}
            }
            match tokio::time::timeout(self.idle, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => self.splitter.push(&chunk),
                Ok(Some(Err(error))) => {
                    return Line::Broken(format!("the body ended early: {error}"));
                }
                Ok(None) => self.splitter.end(),
                Err(_) => return Line::Idle,
            }
        }
    }
}
