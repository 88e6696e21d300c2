//! Files and directories beside and inside a directory that belongs to another account.
//!
//! As root, every path that another account can change is hostile: a symbolic link
//! redirects a write to any file of the system. So no function here follows a link in the
//! last part of a path (`O_NOFOLLOW`). Owner and type are checked and changed on open
//! descriptors, never by name.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use crate::store::database::private::error::PrivateServerError;

/// Read limit for PostgreSQL's small text files, which have a few lines.
const SMALL_BYTES: u64 = 4096;

/// An unprivileged account for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnixAccount {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Opens a directory; fails on a symbolic link.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens the directory `name` in `parent`; fails on a symbolic link.
pub(crate) fn open_directory_in(parent: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Creates the directory `path` with access for its owner alone and gives it to `account`,
/// or to this process if `None`. An existing directory must already belong to it.
pub(crate) fn create_owned_directory(
    path: &Path,
    account: Option<UnixAccount>,
) -> Result<(), PrivateServerError> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return Err(PrivateServerError::io("create", path)(io::ErrorKind::InvalidInput.into()));
    };
    let created = create_directory(parent, Path::new(name));
    let (directory, found) = created.map_err(PrivateServerError::io("create", path))?;
    let own = rustix::process::geteuid().as_raw();
    let owner = account.map_or(own, |account| account.uid);
    if found.st_uid != owner && found.st_uid != own {
        return Err(PrivateServerError::NotOwner {
            directory: path.to_owned(),
            owner: found.st_uid,
        });
    }
    if found.st_uid == own {
        // New, or left by an interrupted start.
        change_owner(&directory, found, account)
            .map_err(PrivateServerError::io("change the owner of", path))?;
    }
    Ok(())
}

/// Creates the directory `name` in `parent` if it does not exist, and opens it.
fn create_directory(parent: &Path, name: &Path) -> io::Result<(OwnedFd, Stat)> {
    let parent = open_directory(parent)?;
    match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = open_directory_in(&parent, name)?;
    let found = rustix::fs::fstat(&directory)?;
    Ok((directory, found))
}

/// Gives a directory of this process to `account`, if any, and restores the mode bits
/// that the caller's umask may have cleared.
fn change_owner(directory: &OwnedFd, found: Stat, account: Option<UnixAccount>) -> io::Result<()> {
    if let Some(UnixAccount { uid, gid }) = account {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(directory, Some(uid), Some(gid))?;
        rustix::fs::fchmod(directory, Mode::RWXU)?;
    } else if !Mode::from_raw_mode(found.st_mode).contains(Mode::RWXU) {
        rustix::fs::fchmod(directory, Mode::RWXU)?;
    }
    Ok(())
}

/// Rejects, as root, a directory that another account can change: that account would
/// control its files.
pub(crate) fn check_trusted(directory: &Path) -> Result<(), PrivateServerError> {
    let found = stat_directory(directory).map_err(PrivateServerError::io("inspect", directory))?;
    let mode = Mode::from_raw_mode(found.st_mode);
    let group_writes = mode.contains(Mode::WGRP) && found.st_gid != 0;
    let others_write = mode.contains(Mode::WOTH) || group_writes;
    if found.st_uid == 0 && (mode.contains(Mode::SVTX) || !others_write) {
        return Ok(());
    }
    Err(PrivateServerError::Untrusted { directory: directory.to_owned(), owner: found.st_uid })
}

fn stat_directory(path: &Path) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(open_directory(path)?)?)
}

/// Opens a regular file of this account, creating it if absent, without changing its
/// content. Fails on a symbolic link, on a file of another account, and on a file with a
/// second hard link.
pub(crate) fn open_own_file(path: &Path, append: bool) -> io::Result<File> {
    let mut flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    flags.set(OFlags::APPEND, append);
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    let found = rustix::fs::fstat(&file)?;
    let is_own = found.st_uid == rustix::process::geteuid().as_raw();
    if !is_own || found.st_nlink != 1 || !FileType::from_raw_mode(found.st_mode).is_file() {
        let why = "is not a regular file of this account with a single hard link";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(File::from(file))
}

/// Writes `text` to a file of this account, readable by every account. A file with the same
/// text is not rewritten, which also works on a full disk.
pub(crate) fn write_readable_file(path: &Path, text: &str) -> io::Result<()> {
    let mut file = open_own_file(path, false)?;
    let mut before = Vec::new();
    Read::by_ref(&mut file).take(SMALL_BYTES).read_to_end(&mut before)?;
    if before != text.as_bytes() {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
    }
    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH)?;
    Ok(())
}

/// Reads a small regular file in `directory`; `None` if it does not exist. Symbolic links
/// are not followed, and a pipe does not block.
pub(crate) fn read_small_file(directory: &OwnedFd, name: &str) -> io::Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "is not a regular file"));
    }
    let mut text = String::new();
    File::from(file).take(SMALL_BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Whether `name` exists in `directory`, including as a symbolic link.
pub(crate) fn exists_in(directory: &OwnedFd, name: &str) -> io::Result<bool> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn neither_links_nor_second_names_are_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let by_link = folder.path().join("link");
        symlink(&victim, &by_link).unwrap();
        let by_name = folder.path().join("name");
        std::fs::hard_link(&victim, &by_name).unwrap();
        for path in [&by_link, &by_name] {
            assert!(open_own_file(path, true).is_err());
            assert!(write_readable_file(path, "gone").is_err());
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert!(create_owned_directory(&by_link, None).is_err());
        let directory = open_directory(folder.path()).unwrap();
        assert!(read_small_file(&directory, "link").is_err());
        assert_eq!(read_small_file(&directory, "victim").unwrap().as_deref(), Some("precious"));
        assert_eq!(read_small_file(&directory, "absent").unwrap(), None);
    }
}
