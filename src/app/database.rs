//! The database of the settings: its server, and the connections to it.

use anyhow::Context;

use crate::config::Config;
use crate::store::Db;
use crate::store::connect::Connection;
use crate::store::private::{PrivatePostgres, Settings};

/// The configured server, or a running private one.
#[derive(Debug)]
pub struct DatabaseServer {
    private: Option<PrivatePostgres>,
    pub url: String,
}

impl DatabaseServer {
    /// Starts a private server unless another one is configured.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let settings = &config.database;
        if let Some(url) = &settings.url {
            return Ok(Self { private: None, url: url.expose().clone() });
        }
        let private =
            PrivatePostgres::start(&settings.state_directory, &Settings::from(settings)).await?;
        Ok(Self { url: private.url(), private: Some(private) })
    }

    /// Stops the private server.
    pub async fn stop(self) -> anyhow::Result<()> {
        if let Some(private) = self.private {
            private.stop().await?;
        }
        Ok(())
    }
}

/// How to connect, by the settings.
pub fn connection(config: &Config, url: &str) -> Connection {
    let settings = &config.database;
    Connection {
        url: url.to_owned(),
        max_connections: settings.max_connections,
        acquire_timeout: settings.acquire_timeout,
        time_limits: settings.time_limits,
    }
}

/// The database, and the private server when it is ours.
#[derive(Debug)]
pub struct Database {
    pub db: Db,
    server: DatabaseServer,
    pub url: String,
}

impl Database {
    /// Connects to the configured database, or starts a private one; migrates.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let server = DatabaseServer::start(config).await?;
        let url = server.url.clone();
        let db = Db::connect(&connection(config, &url)).await;
        let db = db.context("cannot open the database")?;
        Ok(Self { db, server, url })
    }

    /// Closes the connections, then stops the private server.
    pub async fn close(self) -> anyhow::Result<()> {
        self.db.close().await;
        self.server.stop().await
    }
}
