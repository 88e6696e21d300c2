//! Ids derived from the content of rows.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Bytes of the hash in an id.
const ID_BYTES: usize = 16;

/// Content-derived ids of one file. Equal rows are counted, so that each has its own id and
/// repeated rows count; the same file has the same ids again.
///
/// Costs about 30 bytes of memory per distinct row.
#[derive(Debug, Default)]
pub(super) struct ContentIds {
    counts: HashMap<u64, u32>,
}

impl ContentIds {
    /// The id of a row or group with this hash.
    pub(super) fn next(&mut self, hash: &[u8; 32]) -> String {
        let mut start = [0; 8];
        start.copy_from_slice(&hash[..8]);
        let count = self.counts.entry(u64::from_le_bytes(start)).or_default();
        *count += 1;
        let mut id = String::with_capacity(2 * ID_BYTES + 4);
        for byte in &hash[..ID_BYTES] {
            let _ = write!(id, "{byte:02x}");
        }
        if *count > 1 {
            let _ = write!(id, "-{count}");
        }
        id
    }
}
