//! Lines of a body as it arrives.

use std::time::Duration;

use axum::body::Body as HttpBody;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::service::failed::HEAD_BYTES;

/// Splits a body into lines; holds one line and one chunk at most.
pub(super) struct Lines {
    chunks: axum::body::BodyDataStream,
    buffer: BytesMut,
    max_line_bytes: usize,
    idle: Duration,
    /// Of the line given last, from 1.
    pub(super) number: u64,
    /// Bytes at the start of the buffer that hold no line's end.
    searched: usize,
    /// How the line began, when its rest alone is left.
    skipped: Option<Bytes>,
    at_end: bool,
}

pub(super) enum Line {
    Text(Bytes),
    /// How it begins.
    TooLong(Bytes),
    End,
    Broken(String),
    /// No byte came for the time that is allowed.
    Idle,
}

impl Lines {
    pub(super) fn new(body: HttpBody, max_line_bytes: usize, idle: Duration) -> Self {
        Self {
            chunks: body.into_data_stream(),
            buffer: BytesMut::new(),
            max_line_bytes,
            idle,
            number: 0,
            searched: 0,
            skipped: None,
            at_end: false,
        }
    }

    /// The next line. Cancel safe: a call that is dropped loses nothing.
    pub(super) async fn next(&mut self) -> Line {
        loop {
            let newline = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
            if let Some(at) = newline {
                let mut line = self.buffer.split_to(self.searched + at + 1);
                line.truncate(self.searched + at);
                return self.give(line);
            }
            if self.at_end {
                if self.buffer.is_empty() && self.skipped.is_none() {
                    return Line::End;
                }
                let line = self.buffer.split();
                return self.give(line);
            }
            if self.buffer.len() > self.max_line_bytes {
                let head = &self.buffer[..self.buffer.len().min(HEAD_BYTES)];
                self.skipped.get_or_insert_with(|| Bytes::copy_from_slice(head));
                self.buffer.clear();
            }
            self.searched = self.buffer.len();
            match tokio::time::timeout(self.idle, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => self.buffer.extend_from_slice(&chunk),
                Ok(Some(Err(error))) => {
                    return Line::Broken(format!("the body ended early: {error}"));
                }
                Ok(None) => self.at_end = true,
                Err(_) => return Line::Idle,
            }
        }
    }

    fn give(&mut self, line: BytesMut) -> Line {
        self.number += 1;
        self.searched = 0;
        match self.skipped.take() {
            Some(head) => Line::TooLong(head),
            None if line.len() > self.max_line_bytes => Line::TooLong(line.freeze()),
            None => Line::Text(line.freeze()),
        }
    }
}
