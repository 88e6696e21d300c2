//! Commands. Exit codes: 0 success, 1 failure, 2 invalid settings or usage, 3 a load that took
//! only some of its rows.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "commands write to the terminal")]

mod backfill;
mod channels;
mod check;
mod demo;
mod experiment;
mod export;
mod feature_rows;
mod keys;
mod load;
pub mod mapping;
mod postgres;
mod progress;
mod repair;
mod serve;
pub mod table;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::{DatabaseUse, ManagedDatabase};
use crate::config::{AppConfig, LogFormat};
use crate::domain::fault::ValidationFaults;
use crate::service::error::ErrorChain;
use crate::telemetry::trace;

/// Online customer segmentation: scores a customer's segment the moment an event arrives.
#[derive(Debug, Parser)]
#[command(version, about)]
struct CommandLine {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Args)]
struct SettingsArgs {
    /// Settings file; only the settings that differ from the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, such as `http.bind=0.0.0.0:8080`; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run the service until SIGTERM or Ctrl-C.
    Serve,
    /// Load a year of purchases, train, show the segments, then replay events live.
    Demo(demo::DemoCommand),
    /// Train a model on the stored customers through the service; or offline from a table,
    /// without changing stored data.
    Train(train::TrainCommand),
    /// Rebuild customer states from their events beside running services, after a change of
    /// the features or as a repair.
    Backfill(backfill::BackfillCommand),
    /// Repair damage in the database.
    #[command(subcommand)]
    Repair(repair::RepairCommand),
    Load(load::LoadCommand),
    /// Plan an experiment, assign customers to its variations, and analyse its results.
    #[command(subcommand)]
    Experiment(experiment::ExperimentCommand),
    /// Save the current assignments of all customers as CSV, NDJSON or Parquet.
    Export(export::ExportCommand),
    /// Create, list, rotate and revoke API keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Create channels, which alerts are sent to.
    #[command(subcommand)]
    Channels(channels::ChannelsCommand),
    /// Check settings and files, or the database, without running the service.
    #[command(subcommand)]
    Check(CheckCommand),
    /// Migrate the database schema.
    Migrate,
    /// Run a command with `DATABASE_URL` set to the (private) database.
    Postgres(postgres::PostgresCommand),
}

#[derive(Debug, Subcommand)]
enum CheckCommand {
    /// Check settings and feature set; reports all problems at once.
    Config,
    /// Check the database after a restore or an upgrade: schema, change feed, sequences,
    /// partitions, states against their events, clock, connections. Changes nothing; fails
    /// with advice if there is a problem.
    Database,
}

pub fn run() -> ExitCode {
    let line = CommandLine::parse();
    let config = match AppConfig::load(line.settings.config.as_deref(), &line.settings.set) {
        Ok(config) => config,
        Err(faults) => return invalid_input(&faults, "in the settings"),
    };
    if let Err(error) = trace::init_logging(&config.log.level, config.log.format == LogFormat::Json)
    {
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
        match line.command {
            CliCommand::Serve => Box::pin(serve::serve(config)).await,
            CliCommand::Demo(demo) => Box::pin(demo.run(config)).await,
            CliCommand::Train(train) => Box::pin(train.run(config)).await,
            CliCommand::Backfill(backfill) => backfill.run(config).await,
            CliCommand::Repair(repair) => repair.run(config).await,
            CliCommand::Load(load) => Box::pin(load.run(config)).await,
            CliCommand::Experiment(experiment) => experiment.run(&config),
            CliCommand::Export(export) => export.run().await,
            CliCommand::Keys(keys) => keys.run(config).await,
            CliCommand::Channels(channels) => channels.run(config).await,
            CliCommand::Check(CheckCommand::Config) => check(&config),
            CliCommand::Check(CheckCommand::Database) => check::database(&config).await,
            CliCommand::Migrate => migrate(config).await,
            CliCommand::Postgres(with) => with.run(config).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(faults) = error.downcast_ref::<ValidationFaults>() {
                // The context of an invalid file is its name: "in mall.csv".
                let context = error.to_string();
                let is_place = context.starts_with("in ");
                return invalid_input(faults, if is_place { &context } else { "in the input" });
            }
            eprintln!("error: {}", ErrorChain(&*error));
            if error.is::<load::PartialLoad>() { ExitCode::from(3) } else { ExitCode::FAILURE }
        }
    }
}

/// Prints every problem of an input, a single one on one line; `place` says where, such as
/// `in mall.csv`.
fn invalid_input(faults: &ValidationFaults, place: &str) -> ExitCode {
    match faults.0.len() {
        1 => eprintln!("error: 1 problem {place}: {faults}"),
        count => eprintln!("error: {count} problems {place}\n{faults}"),
    }
    ExitCode::from(2)
}

fn check(config: &AppConfig) -> anyhow::Result<()> {
    let features = crate::app::features(config)?;
    println!("settings and {} features are valid", features.features().len());
    Ok(())
}

async fn migrate(config: AppConfig) -> anyhow::Result<()> {
    let database = ManagedDatabase::open(&config, DatabaseUse::Command).await?;
    database.close().await
}

/// Error context of a request to a service that does not answer.
fn unreachable_service(url: &str) -> String {
    format!(
        "cannot reach the service at {url}; start it with `segmentd serve`, or name the address \
         of a running one with --url"
    )
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
