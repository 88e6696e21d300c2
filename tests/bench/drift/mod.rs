//! Drift: false alarm rate, time to detection, the cost of a report, and findings in real
//! data.
//!
//! `make bench ONLY=drift`; `ONLY="drift FOLDER"` also takes the data that may not be
//! committed, from folders of the names in the README. The peer, Evidently, runs in a
//! virtual environment made under `target/`; pictures are written to
//! `target/bench/`.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small counts and shares"
)]

mod chart;
mod dependence;
mod incidents;
mod marked;
mod peer;
mod run_length;
mod stories;
mod time;
mod trials;
mod unseen;
mod watch;
mod weeks;
mod world;

use std::path::PathBuf;

use crate::Figure;

const FALSE_ALARMS: &str = "drift_false_alarms";
const DEPENDENCE: &str = "drift_dependence_false_alarms";
const POWER: &str = "drift_found_on_first_day";
const UNSEEN: &str = "drift_unseen_found";
const REPORT: &str = "drift_report_vs_evidently";
const RUN_LENGTH: &str = "drift_run_length";
/// Prints its findings itself.
const REAL: &str = "drift_real";
/// Prints the messages itself. It needs the folder with data.
const STORIES: &str = "drift_stories";

pub(crate) const FIGURES: [&str; 8] =
    [FALSE_ALARMS, DEPENDENCE, POWER, UNSEEN, RUN_LENGTH, REPORT, REAL, STORIES];

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let mut figures = Vec::new();
    if ids.contains(&REAL) {
        let folder = std::env::args().skip(1).filter(|one| !one.starts_with("--")).nth(1);
        let folder = folder.map(PathBuf::from);
        weeks::run(folder.as_deref());
        match folder {
            Some(folder) => {
                marked::run(&folder.join("drift_changepoints_river"));
                incidents::run(&folder.join("clickstream_retentioneering"));
            }
            None => println!("drift: no folder with data given: ONLY=\"drift FOLDER\""),
        }
    }
    if ids.contains(&STORIES) {
        match std::env::args().skip(1).filter(|one| !one.starts_with("--")).nth(1) {
            Some(folder) => stories::run(&PathBuf::from(folder)),
            None => println!("drift: no folder with data given: ONLY=\"drift_stories FOLDER\""),
        }
    }
    if ids.contains(&FALSE_ALARMS) || ids.contains(&POWER) {
        figures.extend(trials::run(ids));
    }
    if ids.contains(&DEPENDENCE) {
        figures.push(dependence::run());
    }
    if ids.contains(&UNSEEN) {
        figures.push(unseen::run());
    }
    if ids.contains(&RUN_LENGTH) {
        figures.push(run_length::run());
    }
    if ids.contains(&REPORT) {
        figures.push(time::run());
    }
    figures
}
