//! Buffered input that is parsed in place.

use std::io::{self, Read};

/// Bytes per read.
const CHUNK_BYTES: usize = 262_144;

/// Unparsed bytes of an input.
#[derive(Debug)]
pub(super) struct LineBuffer<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    is_last: bool,
}

impl<R: Read> LineBuffer<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), start: 0, end: 0, is_last: false }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether nothing follows the present bytes.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    pub(super) fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
    }

    /// Reads more bytes.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        // At least doubled, so that a long record is parsed again only a few times.
        let wanted = CHUNK_BYTES.max(self.end);
        self.buffer.resize(self.end + wanted, 0);
        let target = self.end + wanted;
        while self.end < target {
            match self.input.read(&mut self.buffer[self.end..target]) {
                Ok(0) => {
                    self.is_last = true;
                    break;
                }
                Ok(length) => self.end += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until `length` bytes are present or the input ends.
    pub(super) fn fill_to(&mut self, length: usize) -> io::Result<()> {
        while !self.is_last && self.end - self.start < length {
            self.fill()?;
        }
        Ok(())
    }
}
