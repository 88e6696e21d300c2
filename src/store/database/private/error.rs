//! Why the private server could not be had, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the private server did not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// No directory with both `initdb` and `postgres` was found.
    #[error(
        "no PostgreSQL server on this machine (searched {searched}). Install it: \
         Debian or Ubuntu `apt-get install postgresql`, Fedora `dnf install postgresql-server`, \
         macOS `brew install postgresql@16`. Or name its directory in `database.postgres_bin`, \
         or set DATABASE_URL to a server that runs already"
    )]
    NotInstalled {
        /// The places looked at, for the reader.
        searched: String,
    },
    /// Another segmentd runs the server of this directory.
    #[error("{} is in use by another segmentd; stop it, or give this one a `database.state_directory` of its own", directory.display())]
    InUse {
        /// The directory that holds the server's data.
        directory: PathBuf,
    },
    /// The data was made by a major version that is not installed.
    #[error(
        "the data in {} was made by PostgreSQL {made_by}, but only {installed} is installed; \
         install PostgreSQL {made_by}, or move the data with `pg_upgrade`", directory.display()
    )]
    WrongVersion {
        /// The data directory.
        directory: PathBuf,
        /// Major version that made the data.
        made_by: u32,
        /// Major versions found, for the reader.
        installed: String,
    },
    /// Running as root, and the machine has no account to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither an account `postgres` nor `nobody`"
    )]
    NoAccount,
    /// The data belongs to another account than segmentd's, which is not root.
    #[error("{} belongs to another account (uid {owner}); start segmentd as that account or as root", directory.display())]
    NotOwner {
        /// The directory that holds the server's data.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Running as root in a directory that another account can change.
    #[error(
        "{} belongs to another account (uid {owner}) or can be written by others: as root, \
         segmentd uses only directories of root's own. Give it to root (`chown root`, \
         `chmod go-w`), or start segmentd as the account that owns it", directory.display()
    )]
    Untrusted {
        /// The directory that root was to use.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The account that segmentd runs as has no name.
    #[error("uid {uid}, as which segmentd runs, has no name: PostgreSQL lets in accounts by name")]
    NoName {
        /// The account.
        uid: u32,
    },
    /// The data of a server that is to be restarted is gone.
    #[error("{} is gone or incomplete: put the data back, or restart segmentd to begin anew", directory.display())]
    DataMissing {
        /// The data directory.
        directory: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb failed: {output}")]
    Initdb {
        /// What it printed.
        output: String,
    },
    /// The server ended, or gave no answer in time.
    #[error("the private PostgreSQL did not start; the end of its log:\n{log}")]
    NotStarted {
        /// The last lines of the server's log.
        log: String,
    },
    /// The server outlived every request to stop.
    #[error("the private PostgreSQL (pid {pid}) does not stop")]
    DoesNotStop {
        /// Process id of its first process.
        pid: i32,
    },
    /// A file or process operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, and on which path.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The server started, but its database could not be prepared.
    #[error("preparing the private database: {0}")]
    Database(#[from] sqlx::Error),
}

impl PrivateError {
    /// For `map_err`: says what was being done to which path.
    pub(crate) fn io(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{doing} {}", path.display());
        move |source| Self::Io { what, source }
    }
}
