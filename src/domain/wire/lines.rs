//! NDJSON framing: a byte stream split into lines of bounded length.

use bytes::{Bytes, BytesMut};

/// A line without its line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NdjsonLine {
    Text(Bytes),
    /// Longer than the limit: the start of the line.
    TooLong(Bytes),
}

/// Splits chunks into lines as they arrive. It buffers at most one line and one chunk: of a
/// line that is too long, only the head remains in memory.
#[derive(Debug)]
pub struct LineSplitter {
    buffer: BytesMut,
    /// Number of bytes in `buffer` known to contain no line break.
    searched: usize,
    /// The head of a line with its other bytes dropped.
    skipped: Option<Bytes>,
    limits: LineLimits,
    number: u64,
    at_end: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct LineLimits {
    pub max_line_bytes: usize,
    /// Bytes retained of a longer line that did not arrive whole.
    pub head_bytes: usize,
}

impl LineSplitter {
    pub fn new(limits: LineLimits) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            skipped: None,
            limits,
            number: 0,
            at_end: false,
        }
    }

    /// The number of the line returned last, from 1.
    pub const fn number(&self) -> u64 {
        self.number
    }

    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Ends the stream: the rest of the buffer is the last line.
    pub const fn end(&mut self) {
        self.at_end = true;
    }

    pub const fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// The next complete line; `None` until more is pushed, or at the end.
    pub fn take_line(&mut self) -> Option<NdjsonLine> {
        let newline = memchr::memchr(b'\n', &self.buffer[self.searched..]);
        if let Some(offset) = newline {
            let at = self.searched + offset;
            let mut line = self.buffer.split_to(at + 1);
            line.truncate(at);
            return Some(self.finish(line));
        }
        if self.at_end {
            if self.buffer.is_empty() && self.skipped.is_none() {
                return None;
            }
            let line = self.buffer.split();
            return Some(self.finish(line));
        }
        if self.buffer.len() > self.limits.max_line_bytes {
            let head = &self.buffer[..self.buffer.len().min(self.limits.head_bytes)];
            self.skipped.get_or_insert_with(|| Bytes::copy_from_slice(head));
            self.buffer.clear();
        }
        self.searched = self.buffer.len();
        None
    }

    fn finish(&mut self, line: BytesMut) -> NdjsonLine {
        self.number += 1;
        self.searched = 0;
        match self.skipped.take() {
            Some(head) => NdjsonLine::TooLong(head),
            None if line.len() > self.limits.max_line_bytes => NdjsonLine::TooLong(line.freeze()),
            None => NdjsonLine::Text(line.freeze()),
        }
    }
}
