//! `segmentd backfill`: rebuilds customer states from their events beside running services.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::app::Backfilling;
use crate::config::Config;
use crate::domain::feature::Value;
use crate::domain::id::CustomerKey;
use crate::service::backfill::{Backfill as Work, Finding, Tally};

#[derive(Debug, Args)]
pub(super) struct Backfill {
    /// Compare every state with its events, and rebuild the different ones (repair). By
    /// default, only states of another feature set are rebuilt.
    #[arg(long, conflicts_with = "customer")]
    all: bool,
    /// Only this customer: compare, list the features that differ, and rebuild.
    #[arg(long, value_name = "ID", value_parser = key)]
    customer: Option<CustomerKey>,
}

impl Backfill {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let open = Backfilling::open(&config).await?;
        let outcome = self.act(&open.work).await;
        open.close().await?;
        outcome
    }

    async fn act(self, work: &Work) -> anyhow::Result<()> {
        if let Some(customer) = &self.customer {
            return one(work, customer).await;
        }
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} eta {eta}")?);
        let progress = |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        };
        let tally = if self.all {
            bar.set_message("ranges of customers");
            let begun = |ranges: crate::store::customers::backfill::Ranges| {
                if !ranges.is_new {
                    let (left, at) = (ranges.left, ranges.begun_at);
                    println!("resuming the backfill begun at {at}: {left} ranges left");
                }
            };
            work.all(begun, &progress).await?
        } else {
            bar.set_message("customers");
            work.stale(&progress).await?
        };
        bar.finish_and_clear();
        report(&tally)
    }
}

pub(super) fn report(tally: &Tally) -> anyhow::Result<()> {
    let failures = tally.failures();
    println!("rebuilt {}, unchanged {}, failed {failures}", tally.rebuilt, tally.unchanged);
    for (reason, count) in &tally.failed {
        println!("  {count} failed: {reason}");
    }
    anyhow::ensure!(failures == 0, "{failures} states could not be rebuilt");
    Ok(())
}

async fn one(work: &Work, customer: &CustomerKey) -> anyhow::Result<()> {
    match work.one(customer).await? {
        Finding::Right => println!("unchanged: the state matches the events"),
        Finding::Unreadable => println!("rebuilt: there was no state of this feature set"),
        Finding::Differed(features) if features.is_empty() => {
            println!("rebuilt: the state differed, but no feature value");
        }
        Finding::Differed(features) => {
            println!("rebuilt; feature: stored value, value from events");
            for (name, stored, replayed) in features {
                println!("  {name}: {}, {}", shown(&stored), shown(&replayed));
            }
        }
        Finding::Failed(why) => anyhow::bail!("not changed: {why}"),
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Missing => "missing".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Category(text) => format!("`{text}`"),
    }
}

fn key(text: &str) -> Result<CustomerKey, String> {
    text.parse().map_err(|why: crate::domain::id::BadId| why.to_string())
}
