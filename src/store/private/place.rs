//! Where the server's files are, and as which account it runs.
//!
//! PostgreSQL refuses to run as root. When segmentd is root, the server gets
//! an unprivileged account and a directory that this account owns.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tracing::warn;

use super::PORT;
use super::error::PrivateError;

/// Longest path of a unix socket that every system takes: macOS allows 104
/// bytes with the closing NUL, Linux 108.
const SOCKET_PATH_MAX_BYTES: usize = 103;
/// Where root keeps the data when the account cannot reach the state directory.
const SYSTEM_DIRECTORY: &str = "/var/lib/segmentd";
/// How much of the server's log is quoted when it does not start.
const LOG_END_BYTES: usize = 4096;

/// An unprivileged account for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

/// The server's directory, locked by this process.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    /// The server's account; `None` when it is segmentd's own.
    account: Option<Account>,
    /// Released by the system when the process ends.
    _lock: File,
}

impl Place {
    /// Creates, checks and locks the server's directory in `state_directory`.
    pub(super) fn open(state_directory: &Path) -> Result<Self, PrivateError> {
        fs::create_dir_all(state_directory)
            .map_err(PrivateError::io("creating", state_directory))?;
        let state = state_directory
            .canonicalize()
            .map_err(PrivateError::io("resolving", state_directory))?;
        let (root, account) = if rustix::process::geteuid().is_root() {
            for_root(&state)?
        } else {
            (for_self(&state)?, None)
        };
        let lock = lock(&root)?;
        Ok(Self { root, account, _lock: lock })
    }

    /// Everything of the server is in here.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// PostgreSQL's data directory; absent before the first start.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// What the server prints.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    pub(super) fn end_of_log(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let end = &text[text.len().saturating_sub(LOG_END_BYTES)..];
        String::from_utf8_lossy(end).trim().to_owned()
    }

    /// A directory for the socket that only the server's account can enter.
    ///
    /// In the place itself where the path is short enough, else in `/tmp`
    /// under a name made from the place.
    pub(super) fn socket_directory(&self) -> Result<String, PrivateError> {
        let inside = self.root.join("run");
        let socket = inside.join(format!(".s.PGSQL.{PORT}"));
        let directory = match inside.to_str() {
            Some(_) if socket.as_os_str().len() <= SOCKET_PATH_MAX_BYTES => inside,
            _ => PathBuf::from(format!("/tmp/segmentd-{}", digest(&self.root))),
        };
        self.create_directory(&directory)?;
        // `/tmp` is open to all: somebody else may have taken the name.
        let found =
            fs::symlink_metadata(&directory).map_err(PrivateError::io("inspecting", &directory))?;
        let owner = self.account.map_or(rustix::process::geteuid().as_raw(), |a| a.uid);
        if !found.is_dir() || found.uid() != owner || found.mode() & 0o077 != 0 {
            return Err(PrivateError::NotOwner { directory, owner: found.uid() });
        }
        Ok(directory.to_string_lossy().into_owned())
    }

    /// A command that runs `program` as the server's account, from this place,
    /// with an empty environment: `PGDATA`, `PGPORT` or `LC_MESSAGES` of the
    /// caller speak of some other server.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.root).stdin(std::process::Stdio::null());
        if let Some(account) = self.account {
            // Dropping root this way drops its supplementary groups as well.
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    fn create_directory(&self, path: &Path) -> Result<(), PrivateError> {
        create_directory(path, self.account)
    }
}

/// Not root: the server runs as segmentd's own account.
fn for_self(state: &Path) -> Result<PathBuf, PrivateError> {
    let root = state.join("postgres");
    create_directory(&root, None)?;
    let owner = fs::metadata(&root).map_err(PrivateError::io("inspecting", &root))?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err(PrivateError::NotOwner { directory: root, owner });
    }
    Ok(root)
}

/// Root: the server runs as the owner of existing data, else as `postgres` or
/// `nobody`. Where that account cannot reach `state`, the data goes to a system
/// directory, and a link in `state` leads there on the next start.
fn for_root(state: &Path) -> Result<(PathBuf, Option<Account>), PrivateError> {
    let inside = state.join("postgres");
    let linked = fs::read_link(&inside).ok();
    let root = linked.clone().unwrap_or_else(|| inside.clone());
    let account = match fs::metadata(&root) {
        Ok(found) if found.uid() != 0 => Account { uid: found.uid(), gid: found.gid() },
        _ => unprivileged_account()?,
    };
    create_directory(&root, Some(account))?;
    if linked.is_some() || is_reachable(&root, account) {
        return Ok((root, Some(account)));
    }

    let elsewhere = Path::new(SYSTEM_DIRECTORY).join(digest(state));
    warn!(
        state_directory = %state.display(), used_instead = %elsewhere.display(),
        "the database server's account cannot reach the state directory; its data is kept elsewhere"
    );
    fs::create_dir_all(SYSTEM_DIRECTORY)
        .map_err(PrivateError::io("creating", Path::new(SYSTEM_DIRECTORY)))?;
    create_directory(&elsewhere, Some(account))?;
    fs::remove_dir(&inside).map_err(PrivateError::io("removing", &inside))?;
    std::os::unix::fs::symlink(&elsewhere, &inside)
        .map_err(PrivateError::io("linking", &inside))?;
    Ok((elsewhere, Some(account)))
}

/// Creates `path` for its owner alone, and gives it to `account`.
fn create_directory(path: &Path, account: Option<Account>) -> Result<(), PrivateError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            // The caller's umask may have taken bits away.
            fs::set_permissions(path, Permissions::from_mode(0o700))
                .map_err(PrivateError::io("protecting", path))?;
            if let Some(Account { uid, gid }) = account {
                std::os::unix::fs::chown(path, Some(uid), Some(gid))
                    .map_err(PrivateError::io("giving away", path))?;
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(PrivateError::io("creating", path)(error)),
    }
}

fn lock(root: &Path) -> Result<File, PrivateError> {
    let path = root.join("lock");
    let file = File::create(&path).map_err(PrivateError::io("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PrivateError::InUse { directory: root.to_owned() }),
        Err(TryLockError::Error(error)) => Err(PrivateError::io("locking", &path)(error)),
    }
}

/// Whether `account` can enter and write `directory`. Tried, not computed:
/// every parent, access lists and mounts have a say.
fn is_reachable(directory: &Path, account: Account) -> bool {
    let mut command = std::process::Command::new("/bin/sh");
    std::os::unix::process::CommandExt::uid(&mut command, account.uid);
    std::os::unix::process::CommandExt::gid(&mut command, account.gid);
    let script = r#"cd "$1" 2>/dev/null && test -w ."#;
    let tried = command.current_dir("/").args(["-c", script, "sh"]).arg(directory).status();
    tried.is_ok_and(|status| status.success())
}

fn unprivileged_account() -> Result<Account, PrivateError> {
    let path = Path::new("/etc/passwd");
    let accounts = fs::read_to_string(path).map_err(PrivateError::io("reading", path))?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| account_in(&accounts, name))
        .ok_or(PrivateError::NoAccount)
}

/// The account `name` in the text of `/etc/passwd` (`name:x:uid:gid:…`); never
/// root under another name.
fn account_in(passwd: &str, name: &str) -> Option<Account> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?
        .skip(1);
    let uid = fields.next()?.parse().ok().filter(|&uid| uid != 0)?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { uid, gid })
}

/// A short name for `path`, the same at every start: 64 bits of its SHA-256.
fn digest(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let start = digest.iter().take(8).fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
    format!("{start:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n\
        toor:x:0:0::/root:/bin/sh\n";

    #[test]
    fn accounts_are_read_from_passwd() {
        assert_eq!(account_in(PASSWD, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(account_in(PASSWD, "nobody"), None);
        assert_eq!(account_in(PASSWD, "toor"), None);
    }
}
