//! `segmentd backfill`: rebuilds customer states from their events beside running services.

use crate::app::BackfillSession;
use crate::cli::progress;
use crate::config::AppConfig;
use crate::domain::feature::FeatureValue;
use crate::domain::id::CustomerKey;
use crate::service::backfill::{BackfillService, BackfillSummary, CustomerFinding};
use crate::store::customers::backfill::BackfillRanges;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct BackfillCommand {
    /// Compare every state with its events, and rebuild the different ones (repair). By
    /// default, only states of another feature set are rebuilt.
    #[arg(long, conflicts_with = "customer")]
    all: bool,
    /// Only this customer: compare, list the features that differ, and rebuild.
    #[arg(long, value_name = "ID", value_parser = customer_key)]
    customer: Option<CustomerKey>,
}

impl BackfillCommand {
    pub(super) async fn run(self, config: AppConfig) -> anyhow::Result<()> {
        let session = BackfillSession::open(&config).await?;
        let outcome = self.rebuild(&session.work).await;
        session.close().await?;
        outcome
    }

    async fn rebuild(self, work: &BackfillService) -> anyhow::Result<()> {
        if let Some(customer) = &self.customer {
            return rebuild_one(work, customer).await;
        }
        let bar = progress::bar(if self.all { "ranges of customers" } else { "customers" })?;
        let tally = if self.all {
            work.rebuild_all(report_resumed, &|done, total| progress::show(&bar, done, total))
                .await?
        } else {
            work.rebuild_unreadable(&|done, total| progress::show(&bar, done, total)).await?
        };
        bar.finish_and_clear();
        report(&tally)
    }
}

fn report_resumed(ranges: BackfillRanges) {
    if !ranges.is_new {
        let (left, at) = (ranges.open_ranges, ranges.begun_at);
        println!("resuming the backfill begun at {at}: {left} ranges left");
    }
}

pub(super) fn report(tally: &BackfillSummary) -> anyhow::Result<()> {
    let failures = tally.failure_count();
    println!("rebuilt {}, unchanged {}, failed {failures}", tally.rebuilt, tally.unchanged);
    for (reason, count) in &tally.failures_by_reason {
        println!("  {count} failed: {reason}");
    }
    anyhow::ensure!(failures == 0, "{failures} states could not be rebuilt");
    Ok(())
}

async fn rebuild_one(work: &BackfillService, customer: &CustomerKey) -> anyhow::Result<()> {
    match work.rebuild_customer(customer).await? {
        CustomerFinding::Equal => println!("unchanged: the state matches the events"),
        CustomerFinding::Restored => println!("rebuilt: there was no state of this feature set"),
        CustomerFinding::Differed(features) if features.is_empty() => {
            println!("rebuilt: the state differed, but no feature value");
        }
        CustomerFinding::Differed(features) => {
            println!("rebuilt; feature: stored value, value from events");
            for (name, stored, replayed) in features {
                println!("  {name}: {}, {}", display(&stored), display(&replayed));
            }
        }
        CustomerFinding::Failed(why) => anyhow::bail!("not changed: {why}"),
    }
    Ok(())
}

fn display(value: &FeatureValue) -> String {
    match value {
        FeatureValue::Missing => "missing".to_owned(),
        FeatureValue::Number(number) => number.to_string(),
        FeatureValue::Category(text) => format!("`{text}`"),
    }
}

fn customer_key(text: &str) -> Result<CustomerKey, String> {
    text.parse().map_err(|why: crate::domain::id::InvalidId| why.to_string())
}
