//! `segmentd repair`: mends what an accident has left in the database.

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::app::Backfilling;
use crate::config::Config;
use crate::service::health::repair::{ClockRepair, Found};

#[derive(Debug, Subcommand)]
pub(super) enum Repair {
    /// Find instants that are later than the database's clock, written while a server's
    /// clock was ahead; with --apply, mend them and rebuild their customers.
    Clock(Clock),
}

#[derive(Debug, Args)]
pub(super) struct Clock {
    /// Mend what is found. Without this, it is only counted.
    #[arg(long)]
    apply: bool,
    /// By how much the clock was ahead: events are set back by so many seconds, and are
    /// then dated right. Without this, they are dated now.
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
            println!("nothing was changed; --apply mends it");
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
        println!("mended");
        super::backfill::report(&tally)
    }
}

fn report(found: &Found) {
    println!("later than the database's clock, {}:", found.now);
    for late in &found.instants {
        println!("  {}: {}", late.column, late.rows);
    }
    println!("  events: {}", found.events);
    println!("  customers whose states hold such an instant: {}", found.customers.len());
}
