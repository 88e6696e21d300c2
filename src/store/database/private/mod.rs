//! A private Postgres server, for a machine without one.
//!
//! It is started from the server binaries on the machine when no database is
//! configured. It listens on a unix socket only, stores its data under the
//! state directory, and stops with the process however the process ends.
//!
//! ```text
//! segmentd ──pipe──▶ sh (supervisor) ──▶ postgres
//! ```
//!
//! The kernel closes the pipe when segmentd ends, `kill -9` included, and the
//! supervisor then shuts the server down.
//!
//! One process runs the server and holds its lock. Commands beside it use the same server
//! ([`SharedPostgres`]).
//!
//! [`PrivatePostgres::wait_for_exit`] detects a server that ends by itself;
//! [`PrivatePostgres::restart`] starts it again.

mod access;
mod accounts;
mod binaries;
mod cluster;
mod disk;
mod error;
mod files;
mod server;
mod server_directory;
mod shared;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tracing::info;

use binaries::{ExistingData, ServerBinaries};
pub use disk::{DiskSpace, disk_space};
pub use error::PrivateServerError;
use server::ServerProcess;
use server_directory::ServerDirectory;
pub use shared::{ServerAccess, SharedPostgres};

use crate::config;

/// The database with segmentd's own tables.
const DATABASE: &str = "segmentd";
/// The only role of the cluster, created by `initdb`.
const ROLE: &str = "segmentd";
/// Only part of the socket's file name: the server does not listen on TCP.
const PORT: u16 = 5432;
/// Longest wait for a server to answer. Replaying the write-ahead log after a power cut can
/// take this long on a slow disk.
const READY_DEADLINE: Duration = Duration::from_mins(2);
const READY_POLL: Duration = Duration::from_millis(20);
/// Poll interval after a crash, while the server replays its write-ahead log.
const RECOVERY_POLL: Duration = Duration::from_millis(100);

/// Settings of the private server.
#[derive(Debug, Clone)]
pub struct PrivateServerSettings {
    /// Directory with `initdb` and `postgres`; `None` searches the machine.
    pub binaries: Option<PathBuf>,
    /// Connections that the server accepts in total.
    pub max_connections: u32,
}

impl From<&config::DatabaseSettings> for PrivateServerSettings {
    fn from(database: &config::DatabaseSettings) -> Self {
        // Enough for several pools of this process and for administrators; an unused
        // connection slot costs almost nothing.
        let max_connections = database.max_connections.saturating_mul(4).max(100);
        Self { binaries: database.postgres_bin.clone(), max_connections }
    }
}

/// A running private server. Dropping it shuts the server down in the background;
/// [`PrivatePostgres::stop`] also waits for the end.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: ServerProcess,
    binaries: ServerBinaries,
    settings: PrivateServerSettings,
    socket_directory: String,
    /// Locks the directory while this process owns the server.
    server_directory: ServerDirectory,
}

/// An unexpected end of the server.
#[derive(Debug)]
pub struct ServerExit {
    /// Its exit status, or the signal that ended it.
    pub status: String,
    /// The last lines of its log.
    pub log: String,
}

impl PrivatePostgres {
    /// Starts the server of `state_directory`, creating the data on first use. Returns once
    /// the database `segmentd` accepts connections.
    ///
    /// Remains of an earlier process (a server still shutting down, a stale pid file or
    /// socket, an incomplete data directory) are removed first.
    pub async fn start(
        state_directory: &Path,
        settings: &PrivateServerSettings,
    ) -> Result<Self, PrivateServerError> {
        let server_directory = ServerDirectory::open(state_directory)?;
        server::stop_left_over_server(&server_directory).await?;
        let existing = cluster::existing_data(&server_directory)?;
        Self::start_in(server_directory, settings, existing).await
    }

    /// As [`Self::start`], but fails if there is no data yet.
    async fn start_existing(
        state_directory: &Path,
        settings: &PrivateServerSettings,
    ) -> Result<Self, PrivateServerError> {
        let no_database =
            || PrivateServerError::NoDatabase { directory: state_directory.to_owned() };
        if server_directory::LocatedDirectory::find(state_directory)?.is_none() {
            return Err(no_database());
        }
        let server_directory = ServerDirectory::open(state_directory)?;
        server::stop_left_over_server(&server_directory).await?;
        let existing = cluster::existing_data(&server_directory)?.ok_or_else(no_database)?;
        Self::start_in(server_directory, settings, Some(existing)).await
    }

    /// Fails if another process runs the server of `state_directory`.
    pub fn check_unused(state_directory: &Path) -> Result<(), PrivateServerError> {
        server_directory::check_unused(state_directory)
    }

    async fn start_in(
        server_directory: ServerDirectory,
        settings: &PrivateServerSettings,
        existing: Option<ExistingData>,
    ) -> Result<Self, PrivateServerError> {
        let binaries = binaries::find(settings.binaries.as_deref(), existing)?;
        cluster::create_if_absent(&server_directory, &binaries).await?;

        let socket_directory = server_directory.socket_directory()?;
        let server =
            ServerProcess::spawn(&server_directory, &binaries, &socket_directory, settings)?;
        let settings = settings.clone();
        let mut postgres = Self { server, binaries, settings, socket_directory, server_directory };
        match tokio::time::timeout(READY_DEADLINE, postgres.wait_until_ready(READY_POLL)).await {
            Ok(ready) => ready?,
            Err(_) => {
                return Err(PrivateServerError::NotStarted {
                    log: postgres.server_directory.end_of_log(),
                });
            }
        }
        postgres.create_database(DATABASE).await?;
        info!(
            directory = %postgres.server_directory.root().display(),
            version = postgres.binaries.major,
            "private Postgres started"
        );
        Ok(postgres)
    }

    /// Waits until the server ends unexpectedly. Cancel-safe: may be dropped and called
    /// again.
    pub async fn wait_for_exit(&mut self) -> ServerExit {
        let status = self.server.ended().await;
        ServerExit { status, log: self.server_directory.end_of_log() }
    }

    /// Restarts the server on its existing data. Returns once it accepts connections,
    /// however long it replays its log. Never creates data: an empty database instead of a
    /// lost one would look like success.
    ///
    /// Cancel-safe: if dropped, the next call stops or restarts the server.
    pub async fn restart(&mut self) -> Result<(), PrivateServerError> {
        self.server.stop(&self.server_directory).await?;
        if cluster::existing_data(&self.server_directory)?.is_none() {
            return Err(PrivateServerError::DataMissing {
                directory: self.server_directory.data(),
            });
        }
        // The socket directory and its parent may have been lost as well.
        self.socket_directory = self.server_directory.socket_directory()?;
        self.server = ServerProcess::spawn(
            &self.server_directory,
            &self.binaries,
            &self.socket_directory,
            &self.settings,
        )?;
        self.wait_until_ready(RECOVERY_POLL).await
    }

    /// The server's directory; its disk contains the data.
    pub(crate) fn directory(&self) -> &Path {
        self.server_directory.root()
    }

    /// URL of segmentd's own database.
    pub fn url(&self) -> String {
        self.url_for(DATABASE)
    }

    /// URL of `database` on this server.
    pub fn url_for(&self, database: &str) -> String {
        database_url(&self.socket_directory, database)
    }

    /// Creates `database` if it does not exist.
    pub async fn create_database(&self, database: &str) -> Result<(), PrivateServerError> {
        let mut connection = PgConnection::connect(&self.url_for("postgres")).await?;
        let (exists,): (bool,) =
            sqlx::query_as("select exists (select from pg_database where datname = $1)")
                .bind(database)
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            // `create database` accepts no parameter. Quoted, the text can only be a name.
            let quoted = database.replace('"', "\"\"");
            sqlx::raw_sql(AssertSqlSafe(format!("create database \"{quoted}\"")))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        Ok(())
    }

    /// Waits until no other process uses the server, then stops it.
    pub async fn stop_when_unused(self) -> Result<(), PrivateServerError> {
        let mut is_announced = false;
        let _users = loop {
            if let Some(lock) = self.server_directory.lock_out_users()? {
                break lock;
            }
            if !is_announced {
                info!("waiting for other segmentd commands that use the private Postgres");
                is_announced = true;
            }
            tokio::time::sleep(RECOVERY_POLL).await;
        };
        self.stop().await
    }

    /// Shuts the server down and waits for its end. Open sessions are terminated; their
    /// committed transactions are durable.
    pub async fn stop(mut self) -> Result<(), PrivateServerError> {
        self.server.stop(&self.server_directory).await?;
        info!("private Postgres stopped");
        Ok(())
    }

    /// Returns once the server accepts connections; fails if it has ended.
    async fn wait_until_ready(&mut self, poll: Duration) -> Result<(), PrivateServerError> {
        let url = self.url_for("postgres");
        loop {
            // Connections are refused while the server starts or replays its log. A server
            // that cannot start ends instead, which `has_ended` detects.
            let refusal = match PgConnection::connect(&url).await {
                Ok(connection) => return Ok(connection.close().await?),
                Err(refusal) => refusal,
            };
            if self.server.has_ended()? {
                return Err(PrivateServerError::NotStarted {
                    log: self.server_directory.end_of_log(),
                });
            }
            if matches!(&refusal, sqlx::Error::Configuration(_)) {
                return Err(refusal.into());
            }
            tokio::time::sleep(poll).await;
        }
    }
}

/// URL of `database` on the server with this socket directory.
///
/// Every part is explicit: sqlx fills gaps from `PGPORT`, `PGSSLMODE` and similar variables,
/// which describe another server.
fn database_url(socket_directory: &str, database: &str) -> String {
    format!(
        "postgres:///{}?host={}&port={PORT}&user={ROLE}&sslmode=disable",
        percent_encoded(database),
        percent_encoded(socket_directory),
    )
}

/// `text` as part of a URL (RFC 3986: percent-encodes all but unreserved bytes and `/`).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
