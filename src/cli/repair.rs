//! `segmentd repair`: repairs damage in the database.

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::app::Backfilling;
use crate::config::Config;
use crate::service::health::repair::{ClockRepair, Found};

#[derive(Debug, Subcommand)]
pub(super) enum Repair {
    /// Find timestamps later than the database's clock, written while a server's clock was
    /// ahead. With --apply, correct them and rebuild their customers.
    Clock(Clock),
}

#[derive(Debug, Args)]
pub(super) struct Clock {
    /// Correct the timestamps. By default they are only counted.
    #[arg(long)]
    apply: bool,
    /// How far the clock was ahead: events are moved back by this many seconds to their
    /// true time. By default they are set to now.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    ahead_seconds: u32,
}

impl Repair {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let Self::Clock(clock) = self;
        let open = Backfilling::open(&config).await?;
        let outcome = async {
            let tolerance = config.clock.tolerance.unwrap_or_default();
            let repair = ClockRepair {
                backfill: &open.work,
                tolerance_seconds: tolerance.as_secs_f64(),
                max_future_seconds: config.intake.max_future.as_secs_f64(),
            };
            clock.act(&repair).await
        };
        let outcome = outcome.await;
        open.close().await?;
        outcome
    }
}

impl Clock {
    async fn act(self, repair: &ClockRepair<'_>) -> anyhow::Result<()> {
        let found = repair.look().await?;
        report(&found);
        if found.is_empty() {
            return Ok(());
        }
        if !self.apply {
            println!("nothing was changed; --apply corrects the timestamps");
            return Ok(());
        }
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} eta {eta}")?);
        bar.set_message("customers");
        let progress = |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        };
        let tally = repair.apply(&found, f64::from(self.ahead_seconds), &progress).await?;
        bar.finish_and_clear();
        println!("timestamps corrected");
        super::backfill::report(&tally)
    }
}

fn report(found: &Found) {
    println!("timestamps later than the database's clock, {}:", found.now);
    for late in &found.instants {
        println!("  {}: {}", late.column, late.rows);
    }
    println!("  events: {}", found.events);
    println!("  customers with such a timestamp in their state: {}", found.customers.len());
}
