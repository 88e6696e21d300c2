//! Events and faults of consecutive rows.

use memchr::memchr_iter;

use crate::cli::table::RowFault;

/// Events of consecutive rows, and the rows that are rejected.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// An event per line, as JSON.
    pub json: Vec<u8>,
    /// By event: the line of its row.
    pub origins: Vec<u64>,
    pub faults: Vec<RowFault>,
}

/// Events of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchPart<'a> {
    pub(crate) json: &'a [u8],
    /// By event: the line of its row.
    pub(crate) origins: &'a [u64],
}

impl BatchPart<'_> {
    /// The JSON of an event.
    pub(crate) fn line(&self, index: usize) -> Option<&[u8]> {
        self.json.split(|byte| *byte == b'\n').nth(index)
    }
}

impl EventBatch {
    /// Splits the events into parts of at most `max_events` and `max_bytes`; a larger event is
    /// a part by itself.
    pub(crate) fn parts(&self, max_events: usize, max_bytes: usize) -> Vec<BatchPart<'_>> {
        let mut parts = Vec::new();
        let (mut start, mut end) = (0, 0);
        let (mut first, mut next) = (0, 0);
        for newline in memchr_iter(b'\n', &self.json) {
            let is_full = next - first >= max_events || newline + 1 - start > max_bytes;
            if is_full && next > first {
                let json = &self.json[start..end];
                parts.push(BatchPart { json, origins: &self.origins[first..next] });
                (start, first) = (end, next);
            }
            end = newline + 1;
            next += 1;
        }
        if next > first {
            let json = &self.json[start..end];
            parts.push(BatchPart { json, origins: &self.origins[first..next] });
        }
        parts
    }

    /// Events and faults together.
    pub(crate) fn len(&self) -> usize {
        self.origins.len() + self.faults.len()
    }
}
