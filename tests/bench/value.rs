//! Customer value: the forecasts of one customer, and a fit on a million customers beside lifetimes.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use segmentd::domain::feature::PurchaseHistory;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::Timestamp;
use segmentd::domain::value::fit::fit_purchases;
use segmentd::domain::value::{PurchaseModelKind, fit_value_model};

use crate::value_support::{draw_customers, model, no_pause};
use crate::{Figure, median, peers};

pub(crate) const FIGURES: [&str; 3] =
    ["value_one_customer", "value_summary", "value_fit_1m_vs_lifetimes"];

const RUNS: usize = 5;
const CUSTOMERS: usize = 1_000_000;
/// Number of different customers per measurement, so that branch prediction does not favour one.
const VALUED: usize = 10_000;
/// The aim for all forecasts of one customer.
const AIM_MICROSECONDS: f64 = 2.0;
const PARAMETERS: [f64; 4] = [0.7, 40.0, 0.5, 2.5];
const ENVIRONMENT: &str = "target/bench/lifetimes";
const PACKAGES: [&str; 4] = ["lifetimes==0.11.3", "numpy==2.4.6", "pandas==3.1.1", "scipy==1.17.0"];
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/value_peer.py");

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let mut figures = Vec::new();
    if ids.contains(&"value_one_customer") || ids.contains(&"value_summary") {
        figures.extend(one_customer().into_iter().filter(|figure| ids.contains(&figure.id)));
    }
    if ids.contains(&"value_fit_1m_vs_lifetimes") {
        figures.extend(fit());
    }
    figures
}

/// Times of all forecasts, and of those that every event's answer has, for each family.
fn one_customer() -> [Figure; 2] {
    let (mut whole, mut summaries) = (0.0_f64, 0.0_f64);
    let kinds = [
        (PurchaseModelKind::BgNbd, PARAMETERS),
        (PurchaseModelKind::MbgNbd, PARAMETERS),
        (PurchaseModelKind::ParetoNbd, [0.8, 40.0, 0.4, 200.0]),
    ];
    for (kind, parameters) in kinds {
        let mut rng = RandomStream::new(24, 4);
        let orders = draw_customers(&mut rng, &model(kind, parameters), 900, VALUED);
        let fitted = fit_value_model(&orders, no_pause).unwrap();
        let now = Timestamp::from_millis(0);
        let (mut forecasts, mut shorts) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            forecasts.push(micros_each(&orders.customers, |one| {
                black_box(fitted.forecast(&one.history, now));
            }));
            shorts.push(micros_each(&orders.customers, |one| {
                black_box(fitted.summarise(&one.history, now));
            }));
        }
        let (forecast, summary) = (median(forecasts), median(shorts));
        let chosen = fitted.purchases.kind().name();
        println!("  value of one customer by {chosen}: {forecast:.2} µs, summary {summary:.2} µs");
        (whole, summaries) = (whole.max(forecast), summaries.max(summary));
    }
    let figure = |id, description, value| Figure {
        id,
        description,
        value,
        unit: "µs",
        baseline: "the aim",
        baseline_value: AIM_MICROSECONDS,
        ratio: value / AIM_MICROSECONDS,
        runs: RUNS,
    };
    [
        figure("value_one_customer", "all forecasts with intervals, slowest family", whole),
        figure("value_summary", "the forecasts of an event's answer, slowest family", summaries),
    ]
}

fn micros_each<T>(customers: &[T], work: impl Fn(&T)) -> f64 {
    let started = Instant::now();
    customers.iter().for_each(work);
    started.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(customers.len()).unwrap())
}

/// Fits BG/NBD, prints the times of the other families and of the whole choice.
fn fit() -> Option<Figure> {
    let python = peers::environment(ENVIRONMENT, &PACKAGES)?;
    let mut rng = RandomStream::new(24, 5);
    let drawn =
        draw_customers(&mut rng, &model(PurchaseModelKind::BgNbd, PARAMETERS), 900, CUSTOMERS);
    let histories: Vec<PurchaseHistory> = drawn.customers.iter().map(|one| one.history).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let numbers = histories
        .iter()
        .flat_map(|one| [one.repeat_days, one.last_day, one.age_days].map(u32::to_le_bytes));
    std::fs::write(file.path(), numbers.flatten().collect::<Vec<u8>>()).unwrap();
    let before = peak_mebibytes();
    for kind in PurchaseModelKind::ALL {
        let started = Instant::now();
        black_box(fit_purchases(kind, &histories, no_pause));
        println!("  {} on {CUSTOMERS}: {:.2} s", kind.name(), started.elapsed().as_secs_f64());
    }
    let (mut ours, mut found) = (Vec::new(), [0.0; 4]);
    for _ in 0..RUNS {
        let started = Instant::now();
        let fitted = fit_purchases(PurchaseModelKind::BgNbd, &histories, no_pause);
        ours.push(started.elapsed().as_secs_f64());
        found = fitted.model.parameters().map(|(_, value)| value);
    }
    let started = Instant::now();
    let chosen = fit_value_model(&drawn, no_pause).unwrap();
    println!(
        "  choice of {} with hold-out and order values: {:.2} s, {:.0} MiB more at the peak",
        chosen.purchases.kind().name(),
        started.elapsed().as_secs_f64(),
        peak_mebibytes() - before
    );
    let answer = Command::new(python).arg(SCRIPT).arg(file.path()).output().unwrap();
    let answer = String::from_utf8(answer.stdout).unwrap();
    let numbers: Vec<f64> =
        answer.split_whitespace().map(|number| number.parse().unwrap()).collect();
    println!("  parameters {found:?}, of lifetimes {:?}", &numbers[1..]);
    let (value, baseline_value) = (median(ours), numbers[0]);
    Some(Figure {
        id: "value_fit_1m_vs_lifetimes",
        description: "BG/NBD fitted to 1,000,000 customers",
        value,
        unit: "s",
        baseline: "lifetimes 0.11.3, one run",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    })
}

/// The largest resident set of this process so far.
fn peak_mebibytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kibibytes.unwrap_or_default() / 1024.0
}
