//! Use of the private server by commands beside the process that runs it.
//!
//! A command uses the running server of the state directory. If none runs, the command runs
//! it itself. Two advisory locks coordinate the processes:
//!
//! - the owner's lock, exclusive: one process runs the server;
//! - the users' lock, shared: a command that runs the server stops it only after every other
//!   user has ended. The service stops it without waiting, as an external server would.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use sqlx::{Connection as _, PgConnection};

use crate::store::database::private::error::PrivateServerError;
use crate::store::database::private::server_directory::LocatedDirectory;
use crate::store::database::private::{
    DATABASE, PrivatePostgres, PrivateServerSettings, READY_DEADLINE, RECOVERY_POLL, database_url,
};

/// A private server that another process runs. Dropping it leaves the server running.
#[derive(Debug)]
pub struct SharedPostgres {
    url: String,
    /// The operating system releases the lock when the process ends.
    _users_lock: File,
}

/// Access of a command to the private server.
#[derive(Debug)]
pub enum ServerAccess {
    /// Another process runs the server.
    Shared(SharedPostgres),
    /// This process runs the server.
    Owned(Box<PrivatePostgres>),
}

impl ServerAccess {
    /// Uses the running server of `state_directory`, or starts it. Without `may_create`, fails
    /// if there is no database yet.
    pub async fn open(
        state_directory: &Path,
        settings: &PrivateServerSettings,
        may_create: bool,
    ) -> Result<Self, PrivateServerError> {
        let begun = Instant::now();
        loop {
            let started = if may_create {
                PrivatePostgres::start(state_directory, settings).await
            } else {
                PrivatePostgres::start_existing(state_directory, settings).await
            };
            let in_use = match started {
                Ok(postgres) => return Ok(Self::Owned(Box::new(postgres))),
                Err(error @ PrivateServerError::InUse { .. }) => error,
                Err(error) => return Err(error),
            };
            let is_over = begun.elapsed() >= READY_DEADLINE;
            match SharedPostgres::attach(state_directory).await {
                Ok(Some(shared)) => return Ok(Self::Shared(shared)),
                Ok(None) if is_over => return Err(in_use),
                // The server starts, recovers or stops: another attempt follows.
                Ok(None) => {}
                Err(PrivateServerError::NotAnswering { .. }) if !is_over => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(RECOVERY_POLL).await;
        }
    }
}

impl SharedPostgres {
    /// Connects once to the server that another process runs. `None` if that process is about
    /// to stop the server, or has no directory yet.
    async fn attach(state_directory: &Path) -> Result<Option<Self>, PrivateServerError> {
        let Some(directory) = LocatedDirectory::find(state_directory)? else { return Ok(None) };
        let Some(users_lock) = directory.lock_as_user()? else { return Ok(None) };
        let url = database_url(&directory.socket_directory(), DATABASE);
        let connected = PgConnection::connect(&url).await;
        let connection = connected.map_err(|source| PrivateServerError::NotAnswering {
            directory: state_directory.to_owned(),
            source,
        })?;
        connection.close().await?;
        Ok(Some(Self { url, _users_lock: users_lock }))
    }

    /// URL of segmentd's own database.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}
