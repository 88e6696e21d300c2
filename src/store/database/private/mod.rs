//! A Postgres server of segmentd's own, for a machine without one.
//!
//! Started from the server binaries on the machine when no database is
//! configured. It is reached over a unix socket only, keeps its data under the
//! state directory, and stops with the process however the process ends.
//!
//! ```text
//! segmentd ──pipe──▶ sh (supervisor) ──▶ postgres
//! ```
//!
//! The pipe is the life line: the kernel closes it when segmentd ends, `kill
//! -9` included, and the supervisor then shuts the server down.
//!
//! A server that ends by itself is noticed by [`PrivatePostgres::ended`] and started again
//! by [`PrivatePostgres::restart`].

mod access;
mod accounts;
mod binaries;
mod cluster;
mod disk;
mod error;
mod files;
mod place;
mod server;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tracing::info;

use binaries::Binaries;
pub use disk::{DiskSpace, disk_space};
pub use error::PrivateError;
use place::Place;
use server::Server;

use crate::config;

/// The database that segmentd keeps its own tables in.
const DATABASE: &str = "segmentd";
/// The one role of the cluster, made by `initdb`.
const ROLE: &str = "segmentd";
/// Only part of the socket's file name, as nothing listens on TCP.
const PORT: u16 = 5432;
/// Longest wait for a server to answer: replaying the log after a power cut
/// can take this long on a slow disk.
const READY_DEADLINE: Duration = Duration::from_mins(2);
const READY_POLL: Duration = Duration::from_millis(20);
/// After a crash the server first replays its log.
const RECOVERY_POLL: Duration = Duration::from_millis(100);

/// How to run the private server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory with `initdb` and `postgres`; `None` searches the machine.
    pub binaries: Option<PathBuf>,
    /// Connections that the server accepts, all users together.
    pub max_connections: u32,
}

impl From<&config::Database> for Settings {
    fn from(database: &config::Database) -> Self {
        // Room for several pools of this process, and for people who look in;
        // a connection that nobody opens costs next to nothing.
        let max_connections = database.max_connections.saturating_mul(4).max(100);
        Self { binaries: database.postgres_bin.clone(), max_connections }
    }
}

/// A running private server. Dropping it shuts the server down in the
/// background; [`PrivatePostgres::stop`] also waits for it.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Server,
    binaries: Binaries,
    settings: Settings,
    socket_directory: String,
    /// Keeps the directory locked for as long as the server is ours.
    place: Place,
}

/// How a server ended that was not to.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status, or the signal that ended it.
    pub status: String,
    /// The last lines of its log.
    pub log: String,
}

impl PrivatePostgres {
    /// Starts the server of `state_directory`, creating the data on first use,
    /// and returns once the database `segmentd` accepts connections.
    ///
    /// What an earlier process left behind (a server still shutting down, a
    /// stale pid file or socket, a half-made data directory) is cleared first.
    pub async fn start(state_directory: &Path, settings: &Settings) -> Result<Self, PrivateError> {
        let place = Place::open(state_directory)?;
        server::end_left_over(&place).await?;
        let binaries = binaries::find(settings.binaries.as_deref(), cluster::version(&place)?)?;
        cluster::create_if_absent(&place, &binaries).await?;

        let socket_directory = place.socket_directory()?;
        let server = Server::spawn(&place, &binaries, &socket_directory, settings)?;
        let settings = settings.clone();
        let mut postgres = Self { server, binaries, settings, socket_directory, place };
        match tokio::time::timeout(READY_DEADLINE, postgres.wait_until_ready(READY_POLL)).await {
            Ok(ready) => ready?,
            Err(_) => return Err(PrivateError::NotStarted { log: postgres.place.end_of_log() }),
        }
        postgres.create_database(DATABASE).await?;
        info!(
            directory = %postgres.place.root().display(),
            version = postgres.binaries.major,
            "private Postgres started"
        );
        Ok(postgres)
    }

    /// Waits until the server has ended by itself. May be dropped and called again.
    pub async fn ended(&mut self) -> Ended {
        let status = self.server.ended().await;
        Ended { status, log: self.place.end_of_log() }
    }

    /// Starts the server again, on the data that it had, and returns once it accepts
    /// connections, however long it replays its log. Never creates data: an empty database
    /// in the place of a lost one would look like success.
    ///
    /// May be dropped: then the server is stopped or restarted by the next call.
    pub async fn restart(&mut self) -> Result<(), PrivateError> {
        self.server.stop(&self.place).await?;
        if cluster::version(&self.place)?.is_none() {
            return Err(PrivateError::DataMissing { directory: self.place.data() });
        }
        // Both may have been lost with the directory.
        self.socket_directory = self.place.socket_directory()?;
        self.server =
            Server::spawn(&self.place, &self.binaries, &self.socket_directory, &self.settings)?;
        self.wait_until_ready(RECOVERY_POLL).await
    }

    /// The directory on the disk that the data is on.
    pub fn directory(&self) -> &Path {
        self.place.root()
    }

    /// Address of segmentd's own database.
    pub fn url(&self) -> String {
        self.url_for(DATABASE)
    }

    /// Address of `database` on this server.
    ///
    /// Every part is spelt out: sqlx fills gaps from `PGPORT`, `PGSSLMODE` and
    /// the like, which speak of some other server.
    pub fn url_for(&self, database: &str) -> String {
        format!(
            "postgres:///{}?host={}&port={PORT}&user={ROLE}&sslmode=disable",
            percent_encoded(database),
            percent_encoded(&self.socket_directory),
        )
    }

    /// Creates `database` unless it is there.
    pub async fn create_database(&self, database: &str) -> Result<(), PrivateError> {
        let mut connection = PgConnection::connect(&self.url_for("postgres")).await?;
        let (exists,): (bool,) =
            sqlx::query_as("select exists (select from pg_database where datname = $1)")
                .bind(database)
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            // A name cannot be a parameter; quoted, it can only be a name.
            let quoted = database.replace('"', "\"\"");
            sqlx::raw_sql(AssertSqlSafe(format!("create database \"{quoted}\"")))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        Ok(())
    }

    /// Shuts the server down and waits until it is gone. Sessions still open
    /// are broken off; what they committed is kept.
    pub async fn stop(mut self) -> Result<(), PrivateError> {
        self.server.stop(&self.place).await?;
        info!("private Postgres stopped");
        Ok(())
    }

    /// Returns once the server accepts connections, and fails once it has ended.
    async fn wait_until_ready(&mut self, poll: Duration) -> Result<(), PrivateError> {
        let url = self.url_for("postgres");
        loop {
            // Refused while the server starts or replays its log. A server
            // that cannot start at all ends instead, which is seen here.
            let refusal = match PgConnection::connect(&url).await {
                Ok(connection) => return Ok(connection.close().await?),
                Err(refusal) => refusal,
            };
            if self.server.has_ended()? {
                return Err(PrivateError::NotStarted { log: self.place.end_of_log() });
            }
            if matches!(&refusal, sqlx::Error::Configuration(_)) {
                return Err(refusal.into());
            }
            tokio::time::sleep(poll).await;
        }
    }
}

/// `text` as part of a URL (RFC 3986: all but unreserved bytes as `%XX`).
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
