//! Cost of audiences: throughput of events with 200 audiences, and latency of events while a new
//! audience is evaluated for all customers.

use std::time::Instant;

use crate::ingest::{BATCH, CALLERS, CUSTOMERS, ORDERS, RUNS, grow, send};
use crate::server::{Server, settle};
use crate::{Figure, median};

pub(crate) const FIGURES: [&str; 2] =
    ["ingest_200_audiences_vs_none", "ingest_p99_during_backfill"];

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let mut figures = Vec::new();
    if ids.contains(&FIGURES[0]) {
        figures.push(audiences_vs_none());
    }
    if ids.contains(&FIGURES[1]) {
        figures.push(p99_during_backfill());
    }
    figures
}

/// Requests per second while the latency of single events is measured: about a tenth of the
/// capacity.
const STEADY_RATE: f64 = 400.0;
/// Measurements of five seconds each: the p99 of one varies by a factor of two.
const LATENCY_RUNS: usize = 15;

/// The 99th percentile of the latency of single events while 1,000,000 customers are evaluated for
/// a new audience, relative to that without.
fn p99_during_backfill() -> Figure {
    const MANY: usize = 1_000_000;
    // Copies of one customer are no population: probation would take the model back, and a check of
    // stored states would find customers without events.
    let settings = [("policy.rollback", "false"), ("consistency_check.customers_per_sample", "0")];
    let server = Server::start_with(&settings);
    server.load(CUSTOMERS, ORDERS);
    let model = server.train(6);
    server.promote(&model);
    // Copies of a customer that still awaits its rescore would be rescored first.
    server.until_evaluated();
    server.runtime.block_on(async {
        grow(&server.database_url, MANY).await;
        settle(&server.database_url).await;
    });
    let rate = Some(STEADY_RATE);
    send(&server, 1, 8, rate, MANY);
    let quiet: Vec<f64> =
        (0..LATENCY_RUNS).map(|_| send(&server, 1, 8, rate, MANY).p99_ms).collect();
    let started = Instant::now();
    server.define_audience("recent", "features.recency_days < 20 and features.orders >= 2");
    let mut during = Vec::new();
    while during.len() < LATENCY_RUNS && server.pending_customers() > MANY / 10 {
        during.push(send(&server, 1, 8, rate, MANY).p99_ms);
    }
    let evaluated = MANY - server.pending_customers();
    println!(
        "  {evaluated} of {MANY} customers evaluated in {:.0?}; p99 {during:.2?} ms, before {quiet:.2?} ms",
        started.elapsed()
    );
    server.stop();
    let (runs, value, baseline_value) = (during.len(), median(during), median(quiet));
    Figure {
        id: "ingest_p99_during_backfill",
        description: "/v1/events, 400 single events a second; 1,000,000 customers are evaluated",
        value,
        unit: "ms",
        baseline: "no customers to evaluate",
        baseline_value,
        ratio: value / baseline_value,
        runs,
    }
}

/// Throughput with 200 audiences and without one, in turn.
fn audiences_vs_none() -> Figure {
    let server = Server::start();
    server.load(CUSTOMERS, ORDERS);
    server.load_before(300, CUSTOMERS / 10, ORDERS);
    let model = server.train(6);
    server.promote(&model);
    send(&server, BATCH, CALLERS, None, CUSTOMERS);
    server.runtime.block_on(settle(&server.database_url));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let rules = audience_rules();
    // The evaluation of all customers leaves dead rows, which vacuum removes in service.
    let settled = || server.runtime.block_on(settle(&server.database_url));
    for _ in 0..RUNS {
        settled();
        without.push(send(&server, BATCH, CALLERS, None, CUSTOMERS).requests_per_second * 100.0);
        server.define_audiences(&rules);
        settled();
        with.push(send(&server, BATCH, CALLERS, None, CUSTOMERS).requests_per_second * 100.0);
        server.delete_audiences(&rules);
    }
    server.stop();
    let (value, baseline_value) = (median(with), median(without));
    Figure {
        id: "ingest_200_audiences_vs_none",
        description: "/v1/events, 100 a request, with 200 audiences",
        value,
        unit: "ev/s",
        baseline: "no audience",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// The rules of 200 audiences: all kinds of operands, thresholds all over their ranges, and one in
/// five names another.
fn audience_rules() -> Vec<(String, String)> {
    let mut rules = Vec::new();
    for i in 0..200_u32 {
        let step = f64::from(i / 5);
        let expression = match i % 5 {
            0 => format!("features.recency_days > {} and features.orders >= 2", 1.0 + 5.0 * step),
            1 => format!("features.spend_365d >= {} USD or outlier", 25.0 * step),
            2 => format!("value.churn_probability > {} and confidence >= 0.2", step / 50.0),
            3 => {
                format!("features.spend_recent < {} and features.orders_28d in (1, 2)", 4.0 * step)
            }
            _ => format!("features.tenure_days < {} and not audiences.a{}", 10.0 * step, i - 4),
        };
        rules.push((format!("a{i}"), expression));
    }
    rules
}
