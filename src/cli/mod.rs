//! Commands. Exit codes: 0 success, 1 failure, 2 invalid settings or usage.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "commands write to the terminal")]

mod backfill;
mod check;
mod demo;
mod export;
mod keys;
mod load;
pub mod mapping;
mod postgres;
mod repair;
mod serve;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, LogFormat};
use crate::domain::fault::Faults;
use crate::telemetry::trace;

/// Online customer segmentation: scores a customer's segment the moment an event arrives.
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
    /// Settings file; only the settings that differ from the defaults.
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
    /// Load a year of purchases, train, show the segments, then replay events live.
    Demo(demo::Demo),
    /// Train a model on the stored customers through the service; or offline from a table,
    /// without changing stored data.
    Train(train::Train),
    /// Rebuild customer states from their events beside running services, after a change of
    /// the features or as a repair.
    Backfill(backfill::Backfill),
    /// Repair damage in the database.
    #[command(subcommand)]
    Repair(repair::Repair),
    /// Send a table (CSV, optionally gzipped) to a running service, one event per row.
    Load(load::Load),
    /// Save the current assignments of all customers as CSV, NDJSON or Parquet.
    Export(export::Export),
    /// Create, list and revoke API keys.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Check settings and files, or the database, without running the service.
    #[command(subcommand)]
    Check(Check),
    /// Migrate the database schema.
    Migrate,
    /// Run a command with `DATABASE_URL` set to the (private) database.
    Postgres(postgres::With),
}

#[derive(Debug, Subcommand)]
enum Check {
    /// Check settings and feature set; reports all problems at once.
    Config,
    /// Check the database after a restore or an upgrade: schema, change feed, sequences,
    /// partitions, states against their events, clock, connections. Changes nothing; fails
    /// with advice if there is a problem.
    Database,
}

pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::load(cli.settings.config.as_deref(), &cli.settings.set) {
        Ok(config) => config,
        Err(faults) => return invalid_input(&faults, "in the settings"),
    };
    if let Err(error) = trace::init(&config.log.level, config.log.format == LogFormat::Json) {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve => Box::pin(serve::serve(config)).await,
            Command::Demo(demo) => Box::pin(demo.run(config)).await,
            Command::Train(train) => Box::pin(train.run(config)).await,
            Command::Backfill(backfill) => backfill.run(config).await,
            Command::Repair(repair) => repair.run(config).await,
            Command::Load(load) => load.run().await,
            Command::Export(export) => export.run().await,
            Command::Keys(keys) => keys.run(config).await,
            Command::Check(Check::Config) => check(&config),
            Command::Check(Check::Database) => check::database(&config).await,
            Command::Migrate => migrate(config).await,
            Command::Postgres(with) => with.run(config).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(faults) = error.downcast_ref::<Faults>() {
                // The context of an invalid file is its name: "in mall.csv".
                let context = error.to_string();
                let is_place = context.starts_with("in ");
                return invalid_input(faults, if is_place { &context } else { "in the input" });
            }
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints every problem of an input; `place` says where, such as `in mall.csv`.
fn invalid_input(faults: &Faults, place: &str) -> ExitCode {
    let count = faults.0.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    eprintln!("error: {count} {noun} {place}\n{faults}");
    ExitCode::from(2)
}

fn check(config: &Config) -> anyhow::Result<()> {
    let features = crate::app::features(config)?;
    println!("settings and {} features are valid", features.features().len());
    Ok(())
}

async fn migrate(config: Config) -> anyhow::Result<()> {
    crate::app::Database::open(&config).await?.close().await
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
