//! Layout of the server's files, and the account that it runs as.
//!
//! PostgreSQL refuses to run as root. When segmentd is root, the server gets an
//! unprivileged account and a directory that this account owns. What segmentd itself
//! writes (lock, log, authentication rules) is beside that directory, never in it:
//!
//! ```text
//! STATE/postgres/            the server's: data/, run/ (the socket)
//! STATE/postgres.lock        segmentd's; names the process that runs the server
//! STATE/postgres.users.lock  segmentd's; held by other processes that use the server
//! STATE/postgres.log         segmentd's; the server writes through an open descriptor
//! STATE/postgres.hba.conf    segmentd's; the server reads it
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tracing::warn;

use crate::store::database::private::error::PrivateServerError;
use crate::store::database::private::files::UnixAccount;
use crate::store::database::private::{PORT, accounts, files};

/// Longest unix socket path that is portable: macOS allows 104 bytes with the closing NUL,
/// Linux 108.
const SOCKET_PATH_MAX_BYTES: usize = 103;
/// Data directory of root when the server's account cannot reach the state directory.
const SYSTEM_DIRECTORY: &str = "/var/lib/segmentd";
/// Ending of the lock of the process that runs the server.
const OWNER_LOCK: &str = "lock";
/// Ending of the lock of the processes that use a server run by another process.
const USERS_LOCK: &str = "users.lock";
/// Bytes read from the end of the server's log…
const LOG_END_BYTES: u64 = 256 * 1024;
/// …and quoted in an error when the server ends or does not start.
const QUOTED_BYTES: usize = 4096;
/// Read limit for the process id in the lock file.
const HOLDER_BYTES: u64 = 20;
/// Log messages for connections refused during startup.
const REFUSALS: [&str; 3] = [
    "FATAL:  the database system is starting up",
    "FATAL:  the database system is not yet accepting connections",
    "DETAIL:  Consistent recovery state has not been yet reached.",
];

/// The server's directory, locked by this process.
#[derive(Debug)]
pub(crate) struct ServerDirectory {
    root: PathBuf,
    /// The server's account; `None` if it is segmentd's own.
    account: Option<UnixAccount>,
    /// The operating system releases the lock when the process ends.
    _lock: File,
}

impl ServerDirectory {
    /// Creates, checks and locks the server's directory in `state_directory`.
    pub(crate) fn open(state_directory: &Path) -> Result<Self, PrivateServerError> {
        fs::create_dir_all(state_directory)
            .map_err(PrivateServerError::io("create the state directory", state_directory))?;
        let state = resolve(state_directory)?;
        let (root, account) = if rustix::process::geteuid().is_root() {
            choose_for_root(&state)?
        } else {
            let root = state.join("postgres");
            files::create_owned_directory(&root, None)?;
            (root, None)
        };
        let lock = lock(&root)?;
        Ok(Self { root, account, _lock: lock })
    }

    /// The directory that belongs to the server's account.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of segmentd beside the server's directory, with this ending.
    pub(crate) fn sibling_file(&self, ending: &str) -> PathBuf {
        sibling_file(&self.root, ending)
    }

    /// PostgreSQL's data directory; absent before the first start.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Opens the server's directory.
    pub(crate) fn open_root(&self) -> Result<OwnedFd, PrivateServerError> {
        files::open_directory(&self.root).map_err(PrivateServerError::io("open", &self.root))
    }

    /// Opens the data directory; `None` if it does not exist.
    pub(crate) fn open_data(&self) -> Result<Option<OwnedFd>, PrivateServerError> {
        let data = self.data();
        match files::open_directory_in(&self.open_root()?, Path::new("data")) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PrivateServerError::io("open", &data)(error)),
        }
    }

    /// The user id of the server's processes.
    pub(crate) fn server_uid(&self) -> u32 {
        self.account.map_or(rustix::process::geteuid().as_raw(), |account| account.uid)
    }

    /// Opens the log of the next start, for standard output and standard error. Keeps the
    /// log of the start before.
    pub(crate) fn open_log(&self) -> Result<(File, File), PrivateServerError> {
        let path = self.log();
        match fs::rename(&path, self.sibling_file("log.old")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(PrivateServerError::io("rename", &path)(error));
            }
            _ => {}
        }
        let log =
            files::open_own_file(&path, true).map_err(PrivateServerError::io("create", &path))?;
        let copy = log.try_clone().map_err(PrivateServerError::io("open", &path))?;
        Ok((log, copy))
    }

    /// The last log lines, without messages about refused connections: in a long recovery
    /// these would fill the log.
    pub(crate) fn end_of_log(&self) -> String {
        let end = read_end(&self.log()).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&end))
    }

    fn log(&self) -> PathBuf {
        self.sibling_file("log")
    }

    /// A directory for the socket that only the server's account can enter.
    ///
    pub(crate) fn socket_directory(&self) -> Result<String, PrivateServerError> {
        let directory = socket_path(&self.root);
        files::create_owned_directory(&directory, self.account)?;
        // `/tmp` is open to all: another account may have taken the name.
        let found = fs::symlink_metadata(&directory)
            .map_err(PrivateServerError::io("inspect", &directory))?;
        if !found.is_dir() || found.uid() != self.server_uid() || found.mode() & 0o077 != 0 {
            return Err(PrivateServerError::NotOwner { directory, owner: found.uid() });
        }
        Ok(directory.to_string_lossy().into_owned())
    }

    /// A command that runs `program` as the server's account, in the server's directory,
    /// with an empty environment: `PGDATA`, `PGPORT` or `LC_MESSAGES` of the caller
    /// describe another server.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.root).stdin(std::process::Stdio::null());
        if let Some(account) = self.account {
            // Setting uid and gid also drops root's supplementary groups.
            command.uid(account.uid).gid(account.gid);
        }
        command
    }
}

/// A server's directory that another process may have locked.
#[derive(Debug)]
pub(crate) struct LocatedDirectory {
    root: PathBuf,
}

impl LocatedDirectory {
    /// Finds the server's directory in `state_directory` without creating anything. `None` if
    /// there is none.
    pub(crate) fn find(state_directory: &Path) -> Result<Option<Self>, PrivateServerError> {
        let found = state_directory.join("postgres");
        match fs::symlink_metadata(&found) {
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(PrivateServerError::io("inspect", &found)(error)),
        }
        let inside = resolve(state_directory)?.join("postgres");
        Ok(Some(Self { root: fs::read_link(&inside).unwrap_or(inside) }))
    }

    /// The directory of the server's socket, which exists while the server runs.
    pub(crate) fn socket_directory(&self) -> String {
        socket_path(&self.root).to_string_lossy().into_owned()
    }

    /// Takes the shared lock of the server's users. `None` if the server is being stopped.
    pub(crate) fn lock_as_user(&self) -> Result<Option<File>, PrivateServerError> {
        let (path, file) = open_lock(&self.root, USERS_LOCK)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(PrivateServerError::io("lock", &path)(error)),
        }
    }
}

impl ServerDirectory {
    /// Takes the lock of the server's users exclusively. `None` while other processes use the
    /// server.
    pub(crate) fn lock_out_users(&self) -> Result<Option<File>, PrivateServerError> {
        let (path, file) = open_lock(&self.root, USERS_LOCK)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(PrivateServerError::io("lock", &path)(error)),
        }
    }
}

/// Fails if another process runs the server of `state_directory`.
pub(crate) fn check_unused(state_directory: &Path) -> Result<(), PrivateServerError> {
    match LocatedDirectory::find(state_directory)? {
        Some(directory) => lock(&directory.root).map(drop),
        None => Ok(()),
    }
}

/// The state directory without symbolic links. As root, it must belong to root.
fn resolve(state_directory: &Path) -> Result<PathBuf, PrivateServerError> {
    let state = state_directory
        .canonicalize()
        .map_err(PrivateServerError::io("resolve", state_directory))?;
    if rustix::process::geteuid().is_root() {
        files::check_trusted(&state)?;
    }
    Ok(state)
}

/// The directory of the socket: inside the server's directory if the path is short enough,
/// else in `/tmp` under a name derived from that directory.
fn socket_path(root: &Path) -> PathBuf {
    let inside = root.join("run");
    let socket = inside.join(format!(".s.PGSQL.{PORT}"));
    match inside.to_str() {
        Some(_) if socket.as_os_str().len() <= SOCKET_PATH_MAX_BYTES => inside,
        _ => PathBuf::from(format!("/tmp/segmentd-{}", digest(root))),
    }
}

/// Directory and account for a segmentd that runs as root. The server runs as the owner of
/// existing data, else as `postgres` or `nobody`. If that account cannot reach `state`, the
/// data is created in a system directory and `state` gets a symbolic link to it.
fn choose_for_root(state: &Path) -> Result<(PathBuf, Option<UnixAccount>), PrivateServerError> {
    let inside = state.join("postgres");
    let linked = fs::read_link(&inside).ok();
    let root = linked.clone().unwrap_or_else(|| inside.clone());
    if let Some(parent) = root.parent().filter(|_| linked.is_some()) {
        files::check_trusted(parent)?;
    }
    let account = match fs::symlink_metadata(&root) {
        Ok(found) if found.uid() != 0 => UnixAccount { uid: found.uid(), gid: found.gid() },
        _ => accounts::unprivileged()?,
    };
    files::create_owned_directory(&root, Some(account))?;
    if linked.is_some() || is_reachable(&root, account) {
        return Ok((root, Some(account)));
    }

    let system = Path::new(SYSTEM_DIRECTORY);
    let elsewhere = system.join(digest(state));
    warn!(
        state_directory = %state.display(), used_instead = %elsewhere.display(),
        "the database server's account cannot reach the state directory; its data is stored elsewhere"
    );
    if !system.exists() {
        fs::create_dir_all(system).map_err(PrivateServerError::io("create", system))?;
        // The caller's umask may have cleared bits that the account needs.
        fs::set_permissions(system, fs::Permissions::from_mode(0o755))
            .map_err(PrivateServerError::io("open up", system))?;
    }
    files::check_trusted(system)?;
    files::create_owned_directory(&elsewhere, Some(account))?;
    fs::remove_dir(&inside).map_err(PrivateServerError::io("remove", &inside))?;
    std::os::unix::fs::symlink(&elsewhere, &inside)
        .map_err(PrivateServerError::io("link", &inside))?;
    Ok((elsewhere, Some(account)))
}

fn read_end(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut log = files::open_own_file(path, true)?;
    let length = log.metadata()?.len();
    log.seek(std::io::SeekFrom::Start(length.saturating_sub(LOG_END_BYTES)))?;
    let mut end = Vec::new();
    log.take(LOG_END_BYTES).read_to_end(&mut end)?;
    Ok(end)
}

/// The last [`QUOTED_BYTES`] of `log`, without [`REFUSALS`].
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.trim().lines().filter(|line| !is_refusal(line)).collect();
    let text = lines.join("\n");
    text[text.ceil_char_boundary(text.len().saturating_sub(QUOTED_BYTES))..].to_owned()
}

fn is_refusal(line: &str) -> bool {
    REFUSALS.iter().any(|refusal| line.ends_with(refusal))
}

fn sibling_file(root: &Path, ending: &str) -> PathBuf {
    let mut name = root.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Takes the lock of the process that runs the server, and writes the process id into it.
fn lock(root: &Path) -> Result<File, PrivateServerError> {
    let (path, mut file) = open_lock(root, OWNER_LOCK)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The process id only helps the operator: a lock without one is still a lock.
            let _ = Read::by_ref(&mut file).take(HOLDER_BYTES).read_to_string(&mut holder);
            let process = holder.trim().parse().ok();
            return Err(PrivateServerError::InUse { directory: root.to_owned(), process });
        }
        Err(TryLockError::Error(error)) => {
            return Err(PrivateServerError::io("lock", &path)(error));
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(PrivateServerError::io("write", &path))?;
    Ok(file)
}

fn open_lock(root: &Path, ending: &str) -> Result<(PathBuf, File), PrivateServerError> {
    let path = sibling_file(root, ending);
    let file = files::open_own_file(&path, false).map_err(PrivateServerError::io("open", &path))?;
    Ok((path, file))
}

/// Whether `account` can enter and write `directory`. Tested, not computed: every parent,
/// access list and mount matters.
fn is_reachable(directory: &Path, account: UnixAccount) -> bool {
    let mut command = std::process::Command::new("/bin/sh");
    std::os::unix::process::CommandExt::uid(&mut command, account.uid);
    std::os::unix::process::CommandExt::gid(&mut command, account.gid);
    let script = r#"cd "$1" 2>/dev/null && test -w ."#;
    let tried = command.current_dir("/").args(["-c", script, "sh"]).arg(directory).status();
    tried.is_ok_and(|status| status.success())
}

/// A short, stable name for `path`: 64 bits of its SHA-256.
fn digest(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let start = digest.iter().take(8).fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
    format!("{start:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_quoted_and_not_the_refusals() {
        let refusals = "10:00 [7] FATAL:  the database system is starting up\n".repeat(1000);
        let log = format!("10:00 [1] LOG:  starting\n{refusals}10:01 [1] PANIC:  no space left\n");
        assert_eq!(last_lines(&log), "10:00 [1] LOG:  starting\n10:01 [1] PANIC:  no space left");
        assert_eq!(last_lines(&"é\n".repeat(5000)).len(), QUOTED_BYTES - 1);
    }
}
