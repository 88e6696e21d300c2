//! Average run length of each detector without a change, and delay of detection after one.
//!
//! On standard normal values, which hours of any size give.

use segmentd::domain::drift::DetectionMethod;
use segmentd::domain::drift::detectors::{DetectorSet, RUN_LENGTH_HOURS};
use segmentd::domain::stats::RandomStream;

use crate::Figure;
use crate::model_support::normal;

const RUNS: usize = 400;
/// The maximal length of a run without an alarm.
const MOST_STEPS: usize = 200_000;
const CHANGED_RUNS: usize = 200;
/// Steps before the change, and after it, at most.
const QUIET: usize = 500;
const CHANGED: usize = 4000;
/// In standard deviations of z.
const SHIFTS: [f64; 5] = [0.1, 0.25, 0.5, 1.0, 2.0];

/// Each detector, and any of them.
const COLUMNS: usize = DetectionMethod::ALL.len() + 1;
/// The step of the first alarm from `QUIET` on, by column.
type First = [Option<usize>; COLUMNS];

pub(super) fn run() -> Figure {
    let quiet: Vec<First> =
        (0..RUNS).map(|run| first(RandomStream::new(run as u64, 0), 0, MOST_STEPS, 0.0)).collect();
    let changed = SHIFTS.map(|shift| -> Vec<First> {
        let of_run = |run| first(RandomStream::new(run as u64, 1), QUIET, QUIET + CHANGED, shift);
        (0..CHANGED_RUNS).map(of_run).collect()
    });
    let heads = SHIFTS.map(|shift| format!("{shift} sd"));
    println!(
        "\n| detector | alarms | mean run length | {} |\n|---|---|---|{}",
        heads.join(" | "),
        "---|".repeat(SHIFTS.len())
    );
    let mut any = f64::NAN;
    for column in 0..COLUMNS {
        let title = DetectionMethod::ALL.get(column).map_or("any of them", |method| method.title());
        let alarms = quiet.iter().filter(|first| first[column].is_some()).count();
        let steps: usize =
            quiet.iter().map(|first| first[column].map_or(MOST_STEPS, |at| at + 1)).sum();
        any = steps as f64 / alarms as f64;
        // Run lengths are assumed to be exponential.
        let factor = (1.96 / (alarms as f64).sqrt()).exp();
        let delays = changed.each_ref().map(|runs| median(runs, column));
        println!(
            "| {title} | {alarms} | {any:.0} ({:.0} to {:.0}) | {} |",
            any / factor,
            any * factor,
            delays.join(" | ")
        );
    }
    let promised = RUN_LENGTH_HOURS / DetectionMethod::ALL.len() as f64;
    Figure {
        id: super::RUN_LENGTH,
        description: "hours to a false alarm of any detector; more is better",
        value: any,
        unit: "hours",
        baseline: "promised",
        baseline_value: promised,
        ratio: any / promised,
        runs: RUNS,
    }
}

/// The stream moves by `shift` at step `from`.
fn first(mut rng: RandomStream, from: usize, end: usize, shift: f64) -> First {
    let (mut detectors, mut first) = (DetectorSet::default(), [None; COLUMNS]);
    for step in 0..end {
        let moved = if step < from { 0.0 } else { shift };
        let reported = detectors.step(moved + normal(&mut rng));
        if step < from {
            continue;
        }
        for (column, reported) in reported.into_iter().enumerate() {
            if reported.is_some() {
                first[column].get_or_insert(step);
                first[COLUMNS - 1].get_or_insert(step);
            }
        }
        if first.iter().all(Option::is_some) {
            break;
        }
    }
    first
}

/// Steps from the change to the alarm.
fn median(runs: &[First], column: usize) -> String {
    let delay = |first: &First| first[column].map_or(usize::MAX, |at| at + 1 - QUIET);
    let mut delays: Vec<usize> = runs.iter().map(delay).collect();
    delays.sort_unstable();
    match delays[delays.len() / 2] {
        usize::MAX => format!("over {CHANGED}"),
        steps => steps.to_string(),
    }
}
