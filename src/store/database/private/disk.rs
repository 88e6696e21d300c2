//! Free space of a disk (`statvfs`).

use std::io;
use std::path::Path;

/// The room that a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// For unprivileged accounts, as the server's is.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// The space of the disk that `directory` is on. May block for as long as the disk does.
pub fn disk_space(directory: &Path) -> io::Result<DiskSpace> {
    let found = rustix::fs::statvfs(directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(DiskSpace { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
}
