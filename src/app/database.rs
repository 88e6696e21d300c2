//! The configured database: its server, and the connections to it.

use std::path::Path;
use std::sync::Arc;

use crate::app::supervise::SupervisedPostgres;
use crate::app::task_supervisor::TaskSupervisor;
use crate::config::AppConfig;
use crate::store::DatabaseHandle;
use crate::store::database::connect::ConnectionSettings;
use crate::store::database::private::{
    PrivatePostgres, PrivateServerError, PrivateServerSettings, ServerAccess, SharedPostgres,
};
use crate::telemetry::ServiceMetrics;

/// Use of the private server by this process. It has no effect on an external database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseUse {
    /// The service: runs the server, and fails if another process does.
    Service,
    /// A command: uses the running server, or runs it, on existing or new data.
    Command,
    /// A command that needs existing data.
    CommandOnData,
}

/// The configured server, or a running private one.
#[derive(Debug)]
pub struct DatabaseServer {
    private: Option<PrivateServer>,
    pub url: String,
}

/// A private server: of this process, before or under supervision, or of another process.
#[derive(Debug)]
enum PrivateServer {
    Started(Box<PrivatePostgres>),
    Supervised(SupervisedPostgres),
    /// Holds the lock of its users.
    Shared {
        _postgres: SharedPostgres,
    },
}

impl DatabaseServer {
    /// Uses the configured server, else the private one.
    pub(crate) async fn open(config: &AppConfig, purpose: DatabaseUse) -> anyhow::Result<Self> {
        let database = &config.database;
        if let Some(url) = &database.url {
            return Ok(Self { private: None, url: url.expose().clone() });
        }
        let (state, settings) = (&database.state_directory, PrivateServerSettings::from(database));
        let access = match purpose {
            DatabaseUse::Service => {
                let postgres = PrivatePostgres::start(state, &settings).await?;
                ServerAccess::Owned(Box::new(postgres))
            }
            DatabaseUse::Command => ServerAccess::open(state, &settings, true).await?,
            DatabaseUse::CommandOnData => ServerAccess::open(state, &settings, false).await?,
        };
        let (url, private) = match access {
            ServerAccess::Owned(postgres) => (postgres.url(), PrivateServer::Started(postgres)),
            ServerAccess::Shared(postgres) => {
                (postgres.url(), PrivateServer::Shared { _postgres: postgres })
            }
        };
        Ok(Self { url, private: Some(private) })
    }

    /// Fails if another process runs the private server. The service checks this first: a
    /// second one on the same state directory usually has the same ports too.
    pub(crate) fn check_unused(config: &AppConfig) -> Result<(), PrivateServerError> {
        match config.database.url {
            Some(_) => Ok(()),
            None => PrivatePostgres::check_unused(&config.database.state_directory),
        }
    }

    /// A directory on the disk of the private server, if this process runs it.
    fn directory(&self) -> Option<&Path> {
        match &self.private {
            Some(PrivateServer::Started(postgres)) => Some(postgres.directory()),
            Some(PrivateServer::Supervised(_) | PrivateServer::Shared { .. }) | None => None,
        }
    }

    /// Restarts the private server of this process from now on whenever it ends.
    fn supervise(&mut self, metrics: &Arc<ServiceMetrics>, supervisor: &TaskSupervisor) {
        self.private = self.private.take().map(|private| match private {
            PrivateServer::Started(postgres) => {
                let (metrics, supervisor) = (Arc::clone(metrics), supervisor.clone());
                let supervised = SupervisedPostgres::start(*postgres, metrics, supervisor);
                PrivateServer::Supervised(supervised)
            }
            other @ (PrivateServer::Supervised(_) | PrivateServer::Shared { .. }) => other,
        });
    }

    /// Stops the private server of this process. A command first waits until no other
    /// command uses it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self.private {
            Some(PrivateServer::Started(postgres)) => Ok(postgres.stop_when_unused().await?),
            Some(PrivateServer::Supervised(supervised)) => supervised.stop().await,
            Some(PrivateServer::Shared { .. }) | None => Ok(()),
        }
    }
}

/// Connection parameters from the settings.
pub fn connection(config: &AppConfig, url: &str) -> ConnectionSettings {
    let settings = &config.database;
    ConnectionSettings {
        url: url.to_owned(),
        max_connections: settings.max_connections,
        acquire_timeout: settings.acquire_timeout,
        time_limits: settings.time_limits,
    }
}

/// The database, with the private server if this process runs it.
#[derive(Debug)]
pub struct ManagedDatabase {
    pub db: DatabaseHandle,
    server: DatabaseServer,
    pub url: String,
}

impl ManagedDatabase {
    /// Connects to the configured database, else to the private one; migrates the schema.
    pub(crate) async fn open(config: &AppConfig, purpose: DatabaseUse) -> anyhow::Result<Self> {
        let server = DatabaseServer::open(config, purpose).await?;
        let url = server.url.clone();
        let db = DatabaseHandle::connect(&connection(config, &url)).await?;
        Ok(Self { db, server, url })
    }

    /// A directory on the disk of the private server, if this process runs it.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.server.directory()
    }

    /// Restarts the private server of this process from now on whenever it ends.
    pub(super) fn supervise(&mut self, metrics: &Arc<ServiceMetrics>, supervisor: &TaskSupervisor) {
        self.server.supervise(metrics, supervisor);
    }

    /// Closes the connections, then stops the private server of this process.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.db.close().await;
        self.server.stop().await
    }
}
