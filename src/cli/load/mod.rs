//! `segmentd load`: sends the rows of tables as events through the API, with a column
//! mapping.

mod dry_run;
mod rejects;
mod send;
mod stream;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::mapping::ColumnMapping;
use crate::cli::table::TableSource;
use crate::config::AppConfig;
use crate::domain::time::MILLIS_PER_DAY;
use dry_run::DryRun;
pub(super) use rejects::RejectLog;
pub(super) use send::{BulkSender, SendCounts};
pub(super) use stream::TableEvents;

/// Limit of a request besides its number of events.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// Sends tables to a running service: CSV, newline-delimited JSON, Parquet or Postgres COPY
/// text, also compressed with gzip or zstd. Encoding and delimiter are detected and reported.
///
/// Exit codes: 0 every row was taken; 1 nothing new was taken; 2 the mapping or the usage is
/// invalid; 3 rows were taken, but more than `--max-rejects` were rejected or in conflict.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct LoadCommand {
    /// Column mapping from rows to events: a file (TOML; config/load.example.toml is its
    /// manual), or the name of a built-in one, such as shopify-orders.
    #[arg(long, value_name = "FILE|NAME")]
    mapping: PathBuf,
    /// URL of the running service.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A key with the scope `ingest`.
    #[arg(long, env = "SEGMENTD_KEY", hide_env_values = true, required_unless_present = "dry_run")]
    key: Option<String>,
    /// Events per request.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Shift every row by this many days, so that an old table ends today and features with
    /// time windows see it.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    shift_days: i32,
    /// Read the tables without sending anything: show the first events, what each feature of
    /// the configured feature set reads from them, and every row that would be rejected.
    #[arg(long)]
    dry_run: bool,
    /// Write every rejected row to this file, as newline-delimited JSON.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Number of rejected rows up to which the load counts as a success.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    max_rejects: u64,
    /// Tables: files, patterns such as 'orders-*.csv.gz', or `-` for standard input.
    #[arg(required = true, value_name = "TABLE")]
    tables: Vec<String>,
}

/// A load that took some rows but not all: the process ends with exit code 3.
#[derive(Debug, thiserror::Error)]
#[error(
    "{rejected} rows were rejected and {conflict} are in conflict with stored events; the others were taken"
)]
pub(super) struct PartialLoad {
    rejected: u64,
    conflict: u64,
}

impl LoadCommand {
    pub(super) async fn run(self, config: AppConfig) -> anyhow::Result<()> {
        let mapping = ColumnMapping::read(&self.mapping)?;
        let sources = TableSource::find(&self.tables)?;
        let shift_millis = i64::from(self.shift_days) * MILLIS_PER_DAY;
        let mut rejects = RejectLog::create(self.rejects.as_deref())?;
        if self.dry_run {
            let dry_run = DryRun { mapping: &mapping, sources: &sources, shift_millis };
            let rejected = dry_run.show(&config, &mut rejects)?;
            anyhow::ensure!(rejected <= self.max_rejects, PartialLoad { rejected, conflict: 0 });
            return Ok(());
        }
        let key = self.key.as_deref().context("--key is required")?;
        let sender = BulkSender::new(&self.url, key)?;
        let mut counts = SendCounts::default();
        for source in &sources {
            let load =
                TableLoad { mapping: &mapping, batch_events: self.batch as usize, shift_millis };
            let sent = load.send(&sender, source, &mut rejects).await;
            match sent {
                Ok(sent) => counts.add(sent),
                Err(error) => {
                    println!("{counts}");
                    rejects.finish()?;
                    return Err(error);
                }
            }
        }
        println!("{counts}");
        rejects.finish()?;
        self.outcome(&counts)
    }

    fn outcome(&self, counts: &SendCounts) -> anyhow::Result<()> {
        anyhow::ensure!(counts.accepted > 0, "nothing was loaded: {}", counts.why_nothing());
        let failed = counts.rejected + counts.conflict;
        if failed > self.max_rejects {
            let (rejected, conflict) = (counts.rejected, counts.conflict);
            return Err(PartialLoad { rejected, conflict }.into());
        }
        Ok(())
    }
}

/// How tables are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableLoad<'a> {
    pub(super) mapping: &'a ColumnMapping,
    pub(super) batch_events: usize,
    pub(super) shift_millis: i64,
}

impl TableLoad<'_> {
    /// Sends a whole table, with a progress bar on a terminal. The next batch is read while
    /// one is sent.
    pub(super) async fn send(
        &self,
        sender: &BulkSender,
        source: &TableSource,
        rejects: &mut RejectLog,
    ) -> anyhow::Result<SendCounts> {
        let bar = progress_bar(source)?;
        let events = TableEvents::open(source, self.mapping, self.shift_millis, &bar)?;
        let fields = events.fields();
        let limit = self.batch_events;
        let mut counts = SendCounts::default();
        let mut reading = tokio::task::spawn_blocking(move || events.read_batch(limit));
        loop {
            let mut read = reading.await??;
            for notice in read.events.take_notices() {
                bar.suspend(|| eprintln!("{}: {notice}", source.path()));
            }
            let Some(batch) = read.batch else {
                counts.rows = read.events.rows();
                counts.left_out = read.events.left_out();
                break;
            };
            let events = read.events;
            reading = tokio::task::spawn_blocking(move || events.read_batch(limit));
            for fault in &batch.faults {
                counts.reject(&fault.reason);
                bar.suspend(|| rejects.add_fault(&source.path(), fault))?;
            }
            for part in batch.parts(limit, MAX_REQUEST_BYTES) {
                let results = sender.send(part.json.to_vec(), part.origins.len()).await?;
                for result in results.faulty() {
                    let reject = result.locate(&part, &fields);
                    bar.suspend(|| rejects.add(&source.path(), &reject))?;
                }
                counts.add(results.counts());
            }
        }
        bar.finish_and_clear();
        Ok(counts)
    }
}

/// A progress bar over the bytes of the file.
pub(super) fn progress_bar(source: &TableSource) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template(
        "{msg:24} {wide_bar} {bytes}/{total_bytes} eta {eta}",
    )?);
    bar.set_message(source.file_name().unwrap_or_else(|| source.path()));
    Ok(bar)
}
