//! `segmentd repair`: repairs damage in the database.

use clap::{Args, Subcommand};

use crate::app::BackfillSession;
use crate::cli::{backfill, progress};
use crate::config::AppConfig;
use crate::service::health::repair::{ClockDamage, ClockRepair};

#[derive(Debug, Subcommand)]
pub(super) enum RepairCommand {
    /// Find timestamps later than the database's clock, written while a server's clock was
    /// ahead. With --apply, correct them and rebuild their customers.
    Clock(ClockRepairArgs),
}

#[derive(Debug, Args)]
pub(super) struct ClockRepairArgs {
    /// Correct the timestamps. By default they are only counted.
    #[arg(long)]
    apply: bool,
    /// How far the clock was ahead: events are moved back by this many seconds to their
    /// true time. By default they are set to now.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    ahead_seconds: u32,
}

impl RepairCommand {
    pub(super) async fn run(self, config: AppConfig) -> anyhow::Result<()> {
        let Self::Clock(args) = self;
        let session = BackfillSession::open(&config).await?;
        let outcome = async {
            let tolerance = config.clock.tolerance.unwrap_or_default();
            let repair = ClockRepair {
                db: session.db(),
                backfill: &session.work,
                tolerance_seconds: tolerance.as_secs_f64(),
                max_future_seconds: config.ingestion.max_future.as_secs_f64(),
            };
            args.repair(&repair).await
        };
        let outcome = outcome.await;
        session.close().await?;
        outcome
    }
}

impl ClockRepairArgs {
    async fn repair(self, repair: &ClockRepair<'_>) -> anyhow::Result<()> {
        let found = repair.find_damage().await?;
        report(&found);
        if found.is_empty() {
            return Ok(());
        }
        if !self.apply {
            println!("nothing was changed; --apply corrects the timestamps");
            return Ok(());
        }
        let bar = progress::bar("customers")?;
        let ahead_seconds = f64::from(self.ahead_seconds);
        let tally = repair
            .repair_damage(&found, ahead_seconds, &|done, total| progress::show(&bar, done, total))
            .await?;
        bar.finish_and_clear();
        println!("timestamps corrected");
        backfill::report(&tally)
    }
}

fn report(found: &ClockDamage) {
    println!("timestamps later than the database's clock, {}:", found.now);
    for late in &found.late_instants {
        println!("  {}: {}", late.column, late.rows);
    }
    println!("  events: {}", found.late_events);
    println!("  customers with such a timestamp in their state: {}", found.customers.len());
}
