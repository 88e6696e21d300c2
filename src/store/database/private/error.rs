//! Errors of the private server, with advice for the operator.

use std::io;
use std::path::{Path, PathBuf};

/// Failure to start or stop the private server.
#[derive(Debug, thiserror::Error)]
pub enum PrivateServerError {
    /// No directory with both `initdb` and `postgres` was found.
    #[error(
        "no PostgreSQL server on this machine (searched {searched}). Install it: \
         Debian or Ubuntu `apt-get install postgresql`, Fedora `dnf install postgresql-server`, \
         macOS `brew install postgresql@16`. Or name its directory in `database.postgres_bin`, \
         or set DATABASE_URL to a running server"
    )]
    NotInstalled {
        /// The searched directories, as message text.
        searched: String,
    },
    /// Another segmentd runs the server of this directory.
    #[error(
        "{} is in use by another segmentd{}; stop that one, or set database.state_directory to \
         another directory", directory.display(), process_text(*process)
    )]
    InUse {
        /// The directory with the server's data.
        directory: PathBuf,
        /// The process that runs the server.
        process: Option<u32>,
    },
    /// Another segmentd runs the server, which does not accept connections.
    #[error("the private PostgreSQL in {} does not answer: {source}", directory.display())]
    NotAnswering {
        /// The state directory.
        directory: PathBuf,
        /// The error of the last attempt to connect.
        source: sqlx::Error,
    },
    /// The command needs an existing database.
    #[error(
        "there is no database: DATABASE_URL is not set, and {} has no private database. Start \
         the service (`segmentd serve`), or set DATABASE_URL or database.state_directory to \
         those of the service", directory.display()
    )]
    NoDatabase {
        /// The state directory.
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
        /// Installed major versions, as message text.
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
        /// The directory with the server's data.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Running as root in a directory that another account can change.
    #[error(
        "{} belongs to another account (uid {owner}) or can be written by others: as root, \
         segmentd uses only directories that root owns. Give it to root (`chown root`, \
         `chmod go-w`), or start segmentd as the account that owns it", directory.display()
    )]
    Untrusted {
        /// The rejected directory.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The account that segmentd runs as has no name.
    #[error(
        "segmentd runs as uid {uid}, which has no account name: PostgreSQL authenticates accounts by name"
    )]
    NoName {
        /// The user id.
        uid: u32,
    },
    /// The data of a server to be restarted is missing.
    #[error("{} is missing or incomplete: restore the data, or restart segmentd to begin with an empty database", directory.display())]
    DataMissing {
        /// The data directory.
        directory: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb failed: {output}")]
    Initdb {
        /// The output of `initdb`.
        output: String,
    },
    /// The server ended, or did not answer in time.
    #[error("the private PostgreSQL did not start; the end of its log:\n{log}")]
    NotStarted {
        /// The last lines of the server's log.
        log: String,
    },
    /// The server is still running after every stop signal.
    #[error("the private PostgreSQL (pid {pid}) does not stop")]
    DoesNotStop {
        /// Process id of the postmaster.
        pid: i32,
    },
    /// A file or process operation failed.
    #[error("cannot {what}")]
    Io {
        /// The operation and its path, such as `read /var/lib/segmentd/postgres/pid`.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The server started, but its database could not be prepared.
    #[error("cannot prepare the private database")]
    Database(#[from] sqlx::Error),
}

fn process_text(process: Option<u32>) -> String {
    process.map_or_else(String::new, |process| format!(" (process {process})"))
}

impl PrivateServerError {
    /// Adapter for `map_err` that adds the operation and its path.
    pub(crate) fn io(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{operation} {}", path.display());
        move |source| Self::Io { what, source }
    }
}
