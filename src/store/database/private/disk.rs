//! Free space of a disk (`statvfs`).

use std::io;
use std::path::Path;

/// Capacity of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Available to unprivileged accounts, such as the server's.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// The capacity of the disk with `directory`. Blocks while the disk does not answer.
pub fn disk_space(directory: &Path) -> io::Result<DiskSpace> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(DiskSpace {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
    })
}
