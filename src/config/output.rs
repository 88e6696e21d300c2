//! What goes out: the feed of changes, and exports.

use std::time::Duration;

use crate::config::load::reader::Reader;

/// The feed of changes.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Readers at once.
    pub max_readers: usize,
}

impl Changes {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self { max_readers: reader.integer("changes.max_readers", 1..=100_000) }
    }
}

/// Every assignment as a table.
#[derive(Debug, Clone)]
pub struct Export {
    /// Exports at once.
    pub max_concurrent: usize,
    /// A reader who takes nothing for so long is cut off.
    pub stall: Duration,
}

impl Export {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            max_concurrent: reader.integer("export.max_concurrent", 1..=1000),
            stall: reader.seconds("export.stall_seconds", 1..=3600),
        }
    }
}
