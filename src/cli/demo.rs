//! `segmentd demo`: loads a year of real purchases, trains, and replays events live.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use indicatif::ProgressBar;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::api::ApiState;
use crate::app::Application;
use crate::cli::load::{BulkSender, RejectLog, SendCounts, TableEvents, TableLoad};
use crate::cli::mapping::ColumnMapping;
use crate::cli::serve;
use crate::cli::table::TableSource;
use crate::config::{AppConfig, CronSchedule};
use crate::domain::access::AccessScope;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::api_keys;
use crate::store::customers::assignments;
use crate::store::models::runs;
use crate::store::{ReadOnlyDatabase, customers};

/// End of the data; the demo shifts it to end today.
const DATA_ENDS: Timestamp = Timestamp::from_millis(1_514_779_280_000);
const TABLES: [(&str, &str); 3] = [
    ("demographics.toml", "demographics.csv"),
    ("baskets.toml", "baskets.csv.gz"),
    ("coupon_redemptions.toml", "coupon_redemptions.csv"),
];
const BATCH_EVENTS: usize = 5000;
/// The last two weeks are replayed, this many events per second.
const TAIL_DAYS: i64 = 14;
const REPLAY_EVENTS: usize = 20;
const REPORT_EVERY: u32 = 10;

#[derive(Debug, Args)]
pub(super) struct DemoCommand {
    /// Folder with the tables and their mappings.
    #[arg(long, default_value = "tests/data/complete_journey")]
    data: PathBuf,
    /// Stop once all data is loaded, trained and assigned: for scripts.
    #[arg(long)]
    exit_when_ready: bool,
}

impl DemoCommand {
    pub(super) async fn run(self, mut config: AppConfig) -> anyhow::Result<()> {
        let signals = serve::stop_signals()?;
        let stop = async move { pin!(signals).next().await }.map(drop).boxed().shared();
        let asked_to_stop = stop.clone();
        // No load balancer is in front of a demo.
        config.http.shutdown_delay = Duration::ZERO;
        // The terminal is for the progress of the demo.
        config.log.request_share = 0.0;
        config.training.schedule =
            Some(CronSchedule::parse("* * * * *").map_err(anyhow::Error::msg)?);
        // Sample data never mixes with the data of the service.
        config.database.state_directory.push("demo");
        let state_directory = config.database.state_directory.clone();
        let app = Application::build(config).await?;
        let api = app.api_address()?;
        let admin = app.admin_address()?;
        let key =
            api_keys::create_key(app.db(), app.clock(), "demo", &[AccessScope::Score]).await?;
        let loading =
            api_keys::create_key(app.db(), app.clock(), "demo data", &[AccessScope::Ingest])
                .await?;
        let state = app.state();
        state.api_keys.refresh().await?;
        let (finish, finished) = oneshot::channel::<()>();
        let running = app.spawn(stream::once(async move {
            tokio::select! {
                () = stop => {}
                // Also resolves if the demo failed and dropped its sender.
                _ = finished => {}
            }
        }));
        let sender = BulkSender::new(&format!("http://{api}"), &loading)?;
        let shown = async {
            let shift = self.load(&sender, &state, &state_directory).await?;
            train(&state).await?;
            show_segments(&state).await?;
            println!("\nAPI      http://{api}/docs");
            println!("metrics  http://{admin}/metrics");
            println!("key      {key} (scope: score)\n");
            println!("Score a customer who came yesterday and spends well:\n");
            println!(
                "curl -s http://{api}/v1/score -H 'Authorization: Bearer {key}' \\\n  -d '{}'\n",
                example(&state)
            );
            if self.exit_when_ready {
                return Ok(());
            }
            println!(
                "Replaying the last {TAIL_DAYS} days live, retraining every minute. Ctrl-C stops."
            );
            self.replay(&sender, &state, shift).await
        };
        let outcome = tokio::select! {
            // First, because errors after the stop signal are caused by the stopping
            // service.
            biased;
            () = asked_to_stop => Ok(()),
            outcome = shown => outcome,
            () = wait_for_end(&running) => Ok(()),
        };
        // The server may have stopped by itself already.
        let _ = finish.send(());
        running.await??;
        outcome
    }

    /// Loads every table unless an earlier start did; returns the time shift in
    /// milliseconds.
    async fn load(
        &self,
        sender: &BulkSender,
        state: &ApiState,
        state_directory: &Path,
    ) -> anyhow::Result<i64> {
        let now = state.ingestion.now();
        let shift = time_shift(state_directory, now).await?;
        let done = state_directory.join("demo.loaded");
        if tokio::fs::try_exists(&done).await? && customers::count(&state.db).await? > 0 {
            println!("The data has been loaded by an earlier start.");
            return Ok(shift);
        }
        let mut counts = SendCounts::default();
        for (mapping, table) in TABLES {
            let mapping = ColumnMapping::read(&self.data.join(mapping))?;
            let load =
                TableLoad { mapping: &mapping, batch_events: BATCH_EVENTS, shift_millis: shift };
            let table = TableSource::File(self.data.join(table));
            counts.add(load.send(sender, &table, &mut RejectLog::default()).await?);
        }
        println!("{counts}");
        tokio::fs::write(&done, counts.to_string()).await?;
        Ok(shift)
    }

    async fn replay(
        &self,
        sender: &BulkSender,
        state: &ApiState,
        shift: i64,
    ) -> anyhow::Result<()> {
        let mut tail = self.tail(shift)?;
        let started = state.ingestion.now().millis();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut counts = SendCounts::default();
        for tick in 1_u32.. {
            ticks.tick().await;
            let now = state.ingestion.now();
            let mut lines = Vec::new();
            for number in 0..REPLAY_EVENTS {
                let Some(mut event) = tail.pop_front() else { break };
                tail.push_back(event.clone());
                event["message_id"] = format!("live-{started}-{tick}-{number}").into();
                event["timestamp"] = now.to_string().into();
                serde_json::to_writer(&mut lines, &event)?;
                lines.push(b'\n');
            }
            counts.add(sender.send(lines, REPLAY_EVENTS).await?.counts());
            if tick % REPORT_EVERY == 0 {
                let deployment = state.deployments.snapshot();
                let model =
                    deployment.active.as_ref().map_or("fallback", |model| model.id().short());
                println!(
                    "{now}  {} events accepted, generation {}, model {model}",
                    counts.accepted, deployment.generation
                );
            }
        }
        Ok(())
    }

    fn tail(&self, shift: i64) -> anyhow::Result<VecDeque<Value>> {
        let (mapping, table) = TABLES[1];
        let mapping = ColumnMapping::read(&self.data.join(mapping))?;
        let source = TableSource::File(self.data.join(table));
        let mut events = TableEvents::open(&source, &mapping, shift, &ProgressBar::hidden())?;
        let from = DATA_ENDS.plus_millis(shift - TAIL_DAYS * MILLIS_PER_DAY);
        let mut tail = VecDeque::new();
        while let Some(batch) = events.next_batch(BATCH_EVENTS)? {
            for line in batch.json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let event: Value = serde_json::from_slice(line)?;
                let at = event["timestamp"].as_str().and_then(Timestamp::parse);
                if at.is_some_and(|at| at >= from) {
                    tail.push_back(event);
                }
            }
        }
        anyhow::ensure!(!tail.is_empty(), "{} has no rows to replay", source.path());
        Ok(tail)
    }
}

async fn wait_for_end<T>(running: &tokio::task::JoinHandle<T>) {
    while !running.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Time shift from the end of the data to now, in whole days; the same at every start.
async fn time_shift(state_directory: &Path, now: Timestamp) -> anyhow::Result<i64> {
    tokio::fs::create_dir_all(state_directory).await?;
    let file = state_directory.join("demo.shift_days");
    if let Ok(text) = tokio::fs::read_to_string(&file).await {
        let days: i64 = text.trim().parse().with_context(|| format!("in {}", file.display()))?;
        return Ok(days * MILLIS_PER_DAY);
    }
    let days = (now.millis() - DATA_ENDS.millis()).div_euclid(MILLIS_PER_DAY);
    tokio::fs::write(&file, days.to_string()).await?;
    Ok(days * MILLIS_PER_DAY)
}

/// Trains on the loaded customers; waits until each is assigned by the new model.
async fn train(state: &ApiState) -> anyhow::Result<()> {
    println!("Training on {} customers …", customers::count(&state.db).await?);
    let spec = state.training.default_spec();
    let run = state
        .training
        .request_run(spec, "demo", None)
        .await?
        .context("the training run was not queued")?;
    let deadline = tokio::time::Instant::now() + Duration::from_mins(5);
    loop {
        let row =
            runs::find(&state.db, &run).await?.context("the training run no longer exists")?;
        if let Some(error) = row.error {
            anyhow::bail!("training failed: {error}");
        }
        let generation = state.deployments.current().oldest_generation();
        let stale = customers::count_assigned_before(&state.db, generation).await?;
        if row.model.is_some() && state.deployments.current().active.is_some() && stale == 0 {
            return Ok(());
        }
        anyhow::ensure!(
            tokio::time::Instant::now() < deadline,
            "training exceeded 5 minutes: see the log"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn show_segments(state: &ApiState) -> anyhow::Result<()> {
    let deployment = state.deployments.snapshot();
    let model = deployment.active.as_ref().context("no model is live")?;
    let sizes = sizes(&state.db, model.id()).await?;
    let all: i64 = sizes.iter().map(|(_, size)| size).sum();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["segment", "customers", "share", "id"]);
    for segment in model.segments() {
        let size = sizes.iter().find(|(id, _)| **id == *segment.id).map_or(0, |(_, n)| *n);
        let percent = size * 1000 / all.max(1);
        table.add_row([
            segment.name.to_string(),
            size.to_string(),
            format!("{}.{} %", percent / 10, percent % 10),
            segment.id.to_string(),
        ]);
    }
    println!("\n{table}");
    Ok(())
}

async fn sizes(
    db: &ReadOnlyDatabase,
    model: &crate::domain::id::ModelId,
) -> anyhow::Result<Vec<(String, i64)>> {
    let rows = assignments::count_by_segment(db, Some(model)).await?;
    Ok(rows.into_iter().map(|(segment, customers, _)| (segment, customers)).collect())
}

/// A request body for `/v1/score`, with the feature names of the deployment.
fn example(state: &ApiState) -> String {
    let deployment = state.deployments.snapshot();
    let rules = deployment.features.rfm();
    let body = serde_json::json!({ "features": {
        &*rules.recency.feature: 1,
        &*rules.frequency.feature: rules.frequency.cuts[3],
        &*rules.monetary.feature: rules.monetary.cuts[3],
    } });
    body.to_string()
}
