//! `segmentd postgres -- COMMAND …`: a look into the private database.

use anyhow::Context;
use clap::Args;

use crate::app::Database;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct With {
    /// The command and its arguments, such as `psql`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl With {
    /// Migrates, runs the command with `DATABASE_URL` set, and stops the
    /// private server again.
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let database = Database::open(&config).await?;
        let (program, arguments) = self.command.split_first().context("no command")?;
        let status = tokio::process::Command::new(program)
            .args(arguments)
            .env("DATABASE_URL", &database.url)
            .status()
            .await
            .with_context(|| format!("cannot run {program}"));
        database.close().await?;
        let status = status?;
        anyhow::ensure!(status.success(), "{program}: {status}");
        Ok(())
    }
}
