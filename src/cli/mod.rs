//! Commands. Exit codes: 0 done, 1 failed, 2 wrong settings or usage.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "commands talk to people")]

mod backfill;
mod demo;
mod export;
mod keys;
mod load;
mod mapping;
mod postgres;
mod serve;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, LogFormat};
use crate::domain::fault::Faults;
use crate::telemetry::trace;

/// Which segment a customer is in, the moment an event arrives.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Settings {
    /// Settings file; only what differs from the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, such as `http.bind=0.0.0.0:8080`; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until SIGTERM or Ctrl-C.
    Serve,
    /// Load a year of shopping, train, show the segments, then replay live.
    Demo(demo::Demo),
    /// Train a model: from the stored customers, by the service's rules; or here and
    /// now from a table, touching nothing.
    Train(train::Train),
    /// Rebuild customers' states from their events, beside running services: after
    /// the features have changed, or to repair.
    Backfill(backfill::Backfill),
    /// Send a table (CSV, also gzipped) to a running service, one event a row.
    Load(load::Load),
    /// Save where every customer stands, as CSV, NDJSON or Parquet.
    Export(export::Export),
    /// Make, list and revoke API keys.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Check files without running anything.
    #[command(subcommand)]
    Check(Check),
    /// Bring the database's schema up to date.
    Migrate,
    /// Run a command with `DATABASE_URL` set to the (private) database.
    Postgres(postgres::With),
}

#[derive(Debug, Subcommand)]
enum Check {
    /// Settings and feature set: everything that is wrong, at once.
    Config,
}

pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::load(cli.settings.config.as_deref(), &cli.settings.set) {
        Ok(config) => config,
        Err(faults) => return wrong(&faults),
    };
    if let Err(error) = trace::init(&config.log.level, config.log.format == LogFormat::Json) {
        eprintln!("segmentd: {error}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("segmentd: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve => Box::pin(serve::serve(config)).await,
            Command::Demo(demo) => Box::pin(demo.run(config)).await,
            Command::Train(train) => Box::pin(train.run(config)).await,
            Command::Backfill(backfill) => backfill.run(config).await,
            Command::Load(load) => load.run().await,
            Command::Export(export) => export.run().await,
            Command::Keys(keys) => keys.run(config).await,
            Command::Check(Check::Config) => check(&config),
            Command::Migrate => migrate(config).await,
            Command::Postgres(with) => with.run(config).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(faults) = error.downcast_ref::<Faults>() {
                return wrong(faults);
            }
            eprintln!("segmentd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wrong(faults: &Faults) -> ExitCode {
    eprintln!("segmentd: {} to put right:\n{faults}", faults.0.len());
    ExitCode::from(2)
}

fn check(config: &Config) -> anyhow::Result<()> {
    let features = crate::app::features(config)?;
    println!("settings and {} features are right", features.features().len());
    Ok(())
}

async fn migrate(config: Config) -> anyhow::Result<()> {
    crate::app::Database::open(&config).await?.close().await
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
