//! Benchmarks: `make bench`; `ONLY=score` for one group, or the start of an id for
//! some of its figures. Prints a table and writes `target/bench/report.json`. Figures
//! are ratios to a baseline measured in the same run with the same generator, as the
//! machine is shared. The results are in README.md of this folder.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark talks, and may fail")]

mod algorithms;
mod audiences;
mod drift;
mod features;
mod ingest;
mod load;
mod outliers;
mod peers;
mod pgbench;
mod score;
mod select;
mod server;
mod train;
mod value;

// Shared with the tests, which use all of them.
#[expect(dead_code, reason = "benchmarks need fewer")]
#[path = "../pure/feature/support.rs"]
mod feature_support;
#[expect(dead_code, reason = "benchmarks need fewer")]
#[path = "../pure/model/support.rs"]
mod model_support;
#[expect(dead_code, reason = "benchmarks need fewer")]
#[path = "../pure/value/support.rs"]
mod value_support;

use serde::Serialize;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One line of the report. For times, a ratio below 1 is faster.
#[derive(Debug, Serialize)]
struct Figure {
    id: &'static str,
    description: &'static str,
    value: f64,
    unit: &'static str,
    baseline: &'static str,
    baseline_value: f64,
    ratio: f64,
    runs: usize,
}

/// Measures the figures with these ids.
type Group = fn(&[&str]) -> Vec<Figure>;

fn main() {
    if std::env::args().any(|argument| argument == train::STREAM_ARGUMENT) {
        return train::take_the_stream();
    }
    // Cargo adds `--bench`.
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let groups: [(&str, &[&str], Group); 10] = [
        ("score", &score::FIGURES, score::run),
        ("ingest", &ingest::FIGURES, ingest::run),
        ("ingest", &audiences::FIGURES, audiences::run),
        ("features", &features::FIGURES, features::run),
        ("outliers", &outliers::FIGURES, outliers::run),
        ("select", &select::FIGURES, select::run),
        ("drift", &drift::FIGURES, drift::run),
        ("value", &value::FIGURES, value::run),
        ("train", &train::FIGURES, train::run),
        ("train", &algorithms::FIGURES, algorithms::run),
    ];
    let mut figures = Vec::new();
    for (group, ids, run) in groups {
        let wanted =
            |id: &&str| only.as_deref().is_none_or(|only| only == group || id.starts_with(only));
        let ids: Vec<&str> = ids.iter().copied().filter(wanted).collect();
        if !ids.is_empty() {
            figures.extend(run(&ids));
        }
    }
    for f in &figures {
        println!(
            "{:28} {:>12.precision$} {:6} {:>12.precision$} {:>7.3}  {}",
            f.id,
            f.value,
            f.unit,
            f.baseline_value,
            f.ratio,
            f.description,
            // Areas are between 0 and 1.
            precision = if f.unit == "area" { 3 } else { 1 },
        );
    }
    std::fs::create_dir_all("target/bench").unwrap();
    let report = serde_json::to_vec_pretty(&figures).unwrap();
    std::fs::write("target/bench/report.json", report).unwrap();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
