//! Report of a back-test: what customers did, by the segment that earlier models had given them.

use std::fmt::Write as _;

use crate::cli::train::show::table;
use crate::domain::train::backtest::report::{OutcomeBacktest, SegmentOutcome};
use crate::domain::train::backtest::{BacktestOutcome, BacktestReport, HorizonBacktest};

/// The report: for each horizon a table of segments, or the reason why there is none.
pub(super) fn backtest_report(report: &BacktestReport) -> String {
    let mut shown = Vec::with_capacity(report.horizons.len());
    for horizon in &report.horizons {
        shown.push(describe(horizon, &report.unit));
    }
    shown.join("\n")
}

fn describe(horizon: &HorizonBacktest, unit: &str) -> String {
    let HorizonBacktest { horizon_days, from, customers, .. } = horizon;
    if let Some(gap) = &horizon.gap {
        return format!("no back-test over {horizon_days} days: {gap}");
    }
    let mut shown = format!(
        "back-test over {horizon_days} days: {customers} customers with a segment at {from}, and \
         what they did since:"
    );
    let mut segments = table(&["outcome", "segment", "customers", "mean", "lift", "95 % interval"]);
    for outcome in &horizon.outcomes {
        let OutcomeBacktest { outcome: kind, customers, base, .. } = outcome;
        let [name, base] = [name(kind, unit), mean(kind, *base)];
        segments.add_row([&*name, "all", &*customers.to_string(), &*base, "1", ""]);
        for segment in &outcome.segments {
            segments.add_row(row(kind, segment));
        }
    }
    // Writing to a String cannot fail.
    let _ = write!(shown, "\n{segments}");
    for outcome in &horizon.outcomes {
        let name = name(&outcome.outcome, unit);
        if let Some((explained, p_value)) = outcome.explained_share.zip(outcome.p_value) {
            let (explained, p_value) = (percent(explained), shown_p_value(p_value));
            let _ = write!(shown, "\nvariance of {name}: segments explain {explained} ({p_value})");
        }
        if let Some(previous) = outcome.explained_by_previous_orders {
            let explained = percent(previous);
            let _ = write!(shown, ", the orders of the {horizon_days} days before {explained}");
        }
    }
    shown
}

fn row(outcome: &BacktestOutcome, segment: &SegmentOutcome) -> [String; 6] {
    let interval = segment.interval.map(|[low, high]| format!("{low:.2} to {high:.2}"));
    [
        String::new(),
        segment.segment.name.to_string(),
        segment.customers.to_string(),
        mean(outcome, segment.mean),
        segment.lift.map_or_else(String::new, |lift| format!("{lift:.2}")),
        interval.unwrap_or_default(),
    ]
}

fn name(outcome: &BacktestOutcome, unit: &str) -> String {
    match outcome {
        BacktestOutcome::Ordered => "ordered".to_owned(),
        BacktestOutcome::Orders => "days with an order".to_owned(),
        BacktestOutcome::Spend => format!("spend ({unit})"),
        BacktestOutcome::Churned => "no order, of earlier buyers".to_owned(),
        BacktestOutcome::Feature(name) => name.to_string(),
    }
}

/// Below 0, a share is that of chance.
fn percent(share: f64) -> String {
    format!("{:.1} %", share.max(0.0) * 100.0)
}

fn shown_p_value(p_value: f64) -> String {
    if p_value < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p_value:.3}") }
}

fn mean(outcome: &BacktestOutcome, mean: f64) -> String {
    match outcome {
        BacktestOutcome::Ordered | BacktestOutcome::Churned => percent(mean),
        BacktestOutcome::Orders | BacktestOutcome::Spend | BacktestOutcome::Feature(_) => {
            format!("{mean:.2}")
        }
    }
}
