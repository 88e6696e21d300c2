//! `segmentd postgres -- COMMAND …`: runs a command on the private database.

use anyhow::Context;
use clap::Args;

use crate::app::{self, DatabaseServer, DatabaseUse};
use crate::config::AppConfig;
use crate::store::DatabaseHandle;

#[derive(Debug, Args)]
pub(super) struct PostgresCommand {
    /// Do not migrate the schema: to restore a backup into a new database, or to make a
    /// backup before an upgrade.
    #[arg(long)]
    no_migrate: bool,
    /// The command and its arguments, such as `psql`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl PostgresCommand {
    /// Migrates, then runs the command with `DATABASE_URL` set.
    pub(super) async fn run(self, config: AppConfig) -> anyhow::Result<()> {
        let server = DatabaseServer::open(&config, DatabaseUse::Command).await?;
        let outcome = self.run_on(&config, &server.url).await;
        server.stop().await?;
        outcome
    }

    async fn run_on(self, config: &AppConfig, url: &str) -> anyhow::Result<()> {
        if !self.no_migrate {
            DatabaseHandle::connect(&app::connection(config, url)).await?.close().await;
        }
        let (program, arguments) = self.command.split_first().context("no command")?;
        let status = tokio::process::Command::new(program)
            .args(arguments)
            .env("DATABASE_URL", url)
            .status()
            .await
            .with_context(|| format!("cannot run {program}"))?;
        anyhow::ensure!(status.success(), "{program}: {status}");
        Ok(())
    }
}
