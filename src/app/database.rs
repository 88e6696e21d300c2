//! The configured database: its server, and the connections to it.

use std::path::Path;
use std::sync::Arc;

use crate::app::supervise::SupervisedPostgres;
use crate::app::task_supervisor::TaskSupervisor;
use crate::config::AppConfig;
use crate::store::DatabaseHandle;
use crate::store::database::connect::ConnectionSettings;
use crate::store::database::private::{PrivatePostgres, PrivateServerSettings};
use crate::telemetry::ServiceMetrics;

/// The configured server, or a running private one.
#[derive(Debug)]
pub struct DatabaseServer {
    private: Option<PrivateServer>,
    pub url: String,
}

/// A private server, before or under supervision.
#[derive(Debug)]
enum PrivateServer {
    Started(Box<PrivatePostgres>),
    Supervised(SupervisedPostgres),
}

impl DatabaseServer {
    /// Starts a private server unless an external one is configured.
    pub(crate) async fn start(config: &AppConfig) -> anyhow::Result<Self> {
        let settings = &config.database;
        if let Some(url) = &settings.url {
            return Ok(Self { private: None, url: url.expose().clone() });
        }
        let private = PrivatePostgres::start(
            &settings.state_directory,
            &PrivateServerSettings::from(settings),
        )
        .await?;
        let url = private.url();
        Ok(Self { url, private: Some(PrivateServer::Started(Box::new(private))) })
    }

    /// A directory on the disk of the private server; `None` with an external database.
    fn directory(&self) -> Option<&Path> {
        match &self.private {
            Some(PrivateServer::Started(postgres)) => Some(postgres.directory()),
            Some(PrivateServer::Supervised(_)) | None => None,
        }
    }

    /// Restarts the private server from now on whenever it ends.
    fn supervise(&mut self, metrics: &Arc<ServiceMetrics>, supervisor: &TaskSupervisor) {
        self.private = self.private.take().map(|private| match private {
            PrivateServer::Started(postgres) => {
                let (metrics, supervisor) = (Arc::clone(metrics), supervisor.clone());
                let supervised = SupervisedPostgres::start(*postgres, metrics, supervisor);
                PrivateServer::Supervised(supervised)
            }
            supervised @ PrivateServer::Supervised(_) => supervised,
        });
    }

    /// Stops the private server.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self.private {
            Some(PrivateServer::Started(postgres)) => Ok(postgres.stop().await?),
            Some(PrivateServer::Supervised(supervised)) => supervised.stop().await,
            None => Ok(()),
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

/// The database, with the private server if this process owns it.
#[derive(Debug)]
pub struct ManagedDatabase {
    pub db: DatabaseHandle,
    server: DatabaseServer,
    pub url: String,
}

impl ManagedDatabase {
    /// Connects to the configured database, or starts a private one; migrates the schema.
    pub(crate) async fn open(config: &AppConfig) -> anyhow::Result<Self> {
        let server = DatabaseServer::start(config).await?;
        let url = server.url.clone();
        let db = DatabaseHandle::connect(&connection(config, &url)).await?;
        Ok(Self { db, server, url })
    }

    /// A directory on the disk of the private server; `None` with an external database.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.server.directory()
    }

    /// Restarts the private server from now on whenever it ends.
    pub(super) fn supervise(&mut self, metrics: &Arc<ServiceMetrics>, supervisor: &TaskSupervisor) {
        self.server.supervise(metrics, supervisor);
    }

    /// Closes the connections, then stops the private server.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.db.close().await;
        self.server.stop().await
    }
}
