//! `segmentd demo`: a shop with a year of real purchases, in fast motion.
//!
//! The data is moved in time so that its last four weeks begin at the first start. Everything
//! before is loaded and trained on; these weeks are replayed. The clock of the demo runs faster
//! than real time, so the events keep their distances and all windows move on with them. Another
//! start continues where the last one ended, with the same key.

mod replay;
mod sample_data;
mod state;
mod story;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::oneshot;

use crate::api::ApiState;
use crate::app::Application;
use crate::cli::load::BulkSender;
use crate::cli::serve;
use crate::config::{AppConfig, CronSchedule};
use crate::domain::access::AccessScope;
use crate::domain::train::{SegmentCount, SegmentCountRange};
use crate::service::api_keys;
use crate::service::clock::TimeSource;
use crate::service::rescoring::on_audience_change::count_pending;
use crate::store::customers;
use crate::store::models::runs;
use replay::Replay;
use sample_data::SampleData;
use state::DemoState;

#[derive(Debug, Args)]
pub(super) struct DemoCommand {
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
        // The demo has a time of its own.
        config.clock.tolerance = None;
        // As many segments as a shop can plan for.
        config.training.segments = SegmentCount::Range(SegmentCountRange { from: 4, to: 8 });
        config.training.schedule =
            Some(CronSchedule::parse("0 3 * * *").map_err(anyhow::Error::msg)?);
        // Sample data never mixes with the data of the service.
        config.database.state_directory.push("demo");
        let mut demo = DemoState::open(&config.database.state_directory).await?;
        let (clock, clock_millis) = TimeSource::manual(demo.now());
        let app = Application::build_with(config, clock).await?;
        let api = app.api_address()?;
        let admin = app.admin_address()?;
        let state = app.state();
        state.api_keys.refresh().await?;
        let key = demo_key(&app, &mut demo).await?;
        state.api_keys.refresh().await?;
        let (finish, finished) = oneshot::channel::<()>();
        let running = app.spawn(stream::once(async move {
            tokio::select! {
                () = stop => {}
                // Also resolves if the demo failed and dropped its sender.
                _ = finished => {}
            }
        }));
        let sender = BulkSender::new(&format!("http://{api}"), &key)?;
        let shown = async {
            let data = SampleData::unpack(demo.directory())?;
            let events = load(data, &sender, &state, &mut demo).await?;
            train(&state).await?;
            let story = story::Story { api: &format!("http://{api}"), key: &key, state: &state };
            story.show_segments().await?;
            story.show_household().await?;
            println!("\nOpen     http://{api}/docs");
            println!("metrics  http://{admin}/metrics");
            println!("key      {key} (scopes: score, read, ingest)");
            if self.exit_when_ready {
                return Ok(());
            }
            run_live(events, clock_millis, &sender, &state, &mut demo).await
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
}

/// The key of an earlier start, if it is still valid; else a new one.
async fn demo_key(app: &Application, demo: &mut DemoState) -> anyhow::Result<String> {
    if let Some(key) = demo.key().filter(|key| app.state().api_keys.authenticate(key).is_ok()) {
        return Ok(key.to_owned());
    }
    let scopes = [AccessScope::Score, AccessScope::Read, AccessScope::Ingest];
    let key = api_keys::create_key(app.db(), app.clock(), "demo", &scopes).await?;
    demo.set_key(&key).await?;
    Ok(key)
}

/// Loads the events up to now, unless an earlier start did; returns the later ones.
async fn load(
    data: SampleData,
    sender: &BulkSender,
    state: &ApiState,
    demo: &mut DemoState,
) -> anyhow::Result<Vec<sample_data::SampleEvent>> {
    let shift_millis = demo.shift_millis();
    let mut events = tokio::task::spawn_blocking(move || data.read(shift_millis)).await??;
    let now = state.ingestion.now();
    let later = events.split_off(events.partition_point(|event| event.at <= now));
    if demo.is_loaded() && customers::count(&state.db).await? > 0 {
        println!("The data has been loaded by an earlier start.");
        return Ok(later);
    }
    println!("{}", sample_data::send_all(&events, sender).await?);
    demo.set_loaded().await?;
    Ok(later)
}

/// Replays the later events until they end; then the service stays, in real time.
async fn run_live(
    events: Vec<sample_data::SampleEvent>,
    clock_millis: Arc<AtomicI64>,
    sender: &BulkSender,
    state: &ApiState,
    demo: &mut DemoState,
) -> anyhow::Result<()> {
    println!(
        "\nA second is now {} minutes: orders of the next weeks arrive, and a new model is trained \
         every night. Ctrl-C stops.\n",
        replay::SPEED / 60
    );
    Replay::new(events, Arc::clone(&clock_millis), state).await?.run(sender, demo).await?;
    println!("The purchases have ended. The service goes on in real time; Ctrl-C stops.");
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        clock_millis.fetch_add(1000, Ordering::Relaxed);
        demo.set_now(state.ingestion.now()).await?;
    }
}

async fn wait_for_end<T>(running: &tokio::task::JoinHandle<T>) {
    while !running.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Trains on the loaded customers unless an earlier start did; waits until each is assigned by the
/// new model.
async fn train(state: &ApiState) -> anyhow::Result<()> {
    if state.deployments.current().active.is_some() {
        return Ok(());
    }
    println!("Training on {} households …", customers::count(&state.db).await?);
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
        let deployment = state.deployments.snapshot();
        let stale = count_pending(&state.db, &deployment).await?;
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
