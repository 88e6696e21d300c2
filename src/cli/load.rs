//! `segmentd load`: sends the rows of a table as events through the API, with a column
//! mapping.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use url::Url;

use crate::cli::mapping::ColumnMapping;
use crate::domain::time::MILLIS_PER_DAY;
use crate::outbound::service_client::ServiceClient;

#[derive(Debug, Args)]
pub(super) struct LoadCommand {
    /// Column mapping from rows to events (TOML); see config/load.example.toml.
    #[arg(long, value_name = "FILE")]
    mapping: PathBuf,
    /// URL of the running service.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A key with the scope `ingest`.
    #[arg(long, env = "SEGMENTD_KEY", hide_env_values = true)]
    key: String,
    /// Events per request.
    #[arg(long, default_value_t = 5000)]
    batch: usize,
    /// Shift every row by this many days, so that an old table ends today and features with
    /// time windows see it.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    shift_days: i32,
    /// The table: CSV with a header line, optionally compressed (`.gz`).
    table: PathBuf,
}

impl LoadCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let sender = BulkSender::new(&self.url, &self.key)?;
        let shift_millis = i64::from(self.shift_days) * MILLIS_PER_DAY;
        let counts =
            send_table(&sender, &self.mapping, &self.table, self.batch, shift_millis).await?;
        println!("{counts}");
        Ok(())
    }
}

/// Results of the sent events.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct SendCounts {
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) duplicate: u64,
    pub(super) rejected: u64,
    /// Rejections by reason.
    pub(super) reasons: BTreeMap<String, u64>,
}

impl SendCounts {
    pub(super) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

impl fmt::Display for SendCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, accepted, duplicate, rejected, reasons } = self;
        write!(f, "sent {sent}, accepted {accepted}, duplicate {duplicate}, rejected {rejected}")?;
        for (reason, count) in reasons {
            write!(f, "\n  {count} rejected: {reason}")?;
        }
        Ok(())
    }
}

/// Client of the bulk endpoint.
#[derive(Debug)]
pub(super) struct BulkSender {
    client: ServiceClient,
    url: Url,
}

#[derive(Deserialize)]
struct LineResult {
    status: String,
    #[serde(default)]
    errors: Vec<LineFault>,
}

#[derive(Deserialize)]
struct LineFault {
    field: String,
    problem: String,
}

impl BulkSender {
    pub(super) fn new(url: &str, key: &str) -> anyhow::Result<Self> {
        let url = format!("{}/v1/events/bulk", url.trim_end_matches('/'));
        Ok(Self { client: ServiceClient::new(key)?, url: Url::parse(&url).context("--url")? })
    }

    /// Sends NDJSON; fails unless every line got a result.
    pub(super) async fn send(&self, lines: Vec<u8>, count: u64) -> anyhow::Result<SendCounts> {
        let response =
            self.client.post(&self.url, lines).await.context("cannot reach the service")?;
        let status = response.status;
        let text = response.text().await?;
        anyhow::ensure!(status.is_success(), "the service answered {status}: {text}");
        let mut counts = SendCounts { sent: count, ..SendCounts::default() };
        for line in text.lines() {
            let result: LineResult = serde_json::from_str(line)?;
            match result.status.as_str() {
                "accepted" => counts.accepted += 1,
                "duplicate" => counts.duplicate += 1,
                "rejected" | "conflict" => {
                    counts.rejected += 1;
                    let reasons: Vec<String> = result
                        .errors
                        .into_iter()
                        .map(|fault| format!("{} {}", fault.field, fault.problem))
                        .collect();
                    *counts.reasons.entry(reasons.join("; ")).or_default() += 1;
                }
                "locked" => anyhow::bail!(
                    "a customer is locked by another session of the database; load the table \
                     again, duplicates are ignored: {line}"
                ),
                _ => anyhow::bail!("the service stopped: {line}"),
            }
        }
        let results = counts.accepted + counts.duplicate + counts.rejected;
        anyhow::ensure!(results == count, "{count} events sent, but {results} results received");
        Ok(counts)
    }
}

/// Sends a whole table, with a progress bar on a terminal.
pub(super) async fn send_table(
    sender: &BulkSender,
    mapping: &Path,
    table: &Path,
    batch: usize,
    shift_millis: i64,
) -> anyhow::Result<SendCounts> {
    let file = File::open(table).with_context(|| format!("cannot open {}", table.display()))?;
    let bar = ProgressBar::new(file.metadata()?.len());
    bar.set_style(ProgressStyle::with_template(
        "{msg:24} {wide_bar} {bytes}/{total_bytes} eta {eta}",
    )?);
    bar.set_message(table.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let mut reader = csv::Reader::from_reader(decompressed(table, bar.wrap_read(file)));
    let mapping = ColumnMapping::read(mapping, reader.headers()?)?;
    let mut counts = SendCounts::default();
    let mut lines = Vec::new();
    let mut pending = 0;
    for (row, line) in reader.records().zip(1..) {
        let event = mapping.event(&row?, line, shift_millis);
        serde_json::to_writer(&mut lines, &event)?;
        lines.push(b'\n');
        pending += 1;
        if pending == batch as u64 {
            counts.add(sender.send(std::mem::take(&mut lines), pending).await?);
            pending = 0;
        }
    }
    if pending > 0 {
        counts.add(sender.send(lines, pending).await?);
    }
    bar.finish_and_clear();
    Ok(counts)
}

/// The table's bytes, decompressed if the name ends in `.gz`.
pub(super) fn decompressed(path: &Path, bytes: impl Read + 'static) -> Box<dyn Read> {
    if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(MultiGzDecoder::new(bytes))
    } else {
        Box::new(bytes)
    }
}
