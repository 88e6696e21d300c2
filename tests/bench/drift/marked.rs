//! Change point detection on short annotated series, by a check made for samples of
//! customers.
//!
//! Each series is a feature for each of its columns. A model is trained on the first
//! observations after the last change. A window slides over the later ones and is checked
//! against it. A finding puts a change in the middle of the window, and the procedure starts
//! again there. For comparison, the sequential detectors run on the standardised values of
//! each column. Scored as in van den Burg and Williams (2020): F1 with a margin of 5
//! observations, and covering.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use segmentd::domain::drift::detectors::adwin::AdwinDetector;
use segmentd::domain::drift::detectors::page_hinkley::PageHinkley;
use segmentd::domain::drift::detectors::{ADWIN_DELTA, PAGE_HINKLEY_LIMIT, PAGE_HINKLEY_SLACK};
use segmentd::domain::drift::{DriftLimits, WindowLayout, check_window};
use segmentd::domain::feature::{FeatureRow, FeatureValue, NumberScaling, NumberTransform};
use segmentd::domain::stats::special::normal_cdf;
use segmentd::domain::stats::{mean, variance};
use segmentd::domain::train::TrainingSpec;

use crate::drift::watch::{Rules, count};
use crate::drift::world::quick;
use crate::model_support::{def, number, train};

/// The series whose files have the annotated rows. The other files have more rows than the
/// annotated series.
const SERIES: [&str; 4] =
    ["airline_passengers.csv", "occupancy.csv", "run_log.csv", "uk_coal_employment.csv"];
/// Observations of a window, and of its reference.
const WIDTHS: [usize; 3] = [20, 30, 50];
const MARGIN: usize = 5;

/// The annotated change points, by annotator.
type Marks = BTreeMap<String, BTreeSet<usize>>;

pub(super) fn run(folder: &Path) {
    let file = std::fs::File::open(folder.join("annotations.json")).unwrap();
    let marks: BTreeMap<String, Marks> = serde_json::from_reader(file).unwrap();
    println!(
        "\n| series | observations | reported by | changes reported | F1 | covering |\
         \x20F1, none reported | covering, none reported |\n|---|---|---|---|---|---|---|---|"
    );
    for name in SERIES {
        let rows = read(&folder.join(name));
        let marks = &marks[name];
        let none = BTreeSet::new();
        let of_window = |width| (format!("the check, window {width}"), changes(&rows, width));
        let mut all: Vec<(String, BTreeSet<usize>)> = WIDTHS.map(of_window).into();
        all.push(("Page-Hinkley".into(), by_page_hinkley(&rows)));
        all.push(("ADWIN".into(), by_adwin(&rows)));
        for (by, reported) in all {
            println!(
                "| {} | {} | {by} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
                name.trim_end_matches(".csv"),
                rows.len(),
                reported.len(),
                f1(marks, &reported),
                covering(marks, &reported, rows.len()),
                f1(marks, &none),
                covering(marks, &none, rows.len()),
            );
        }
    }
}

/// All columns but the first, which is the time.
fn read(path: &Path) -> Vec<FeatureRow> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let value = |field: &str| field.parse().map_or(FeatureValue::Missing, FeatureValue::Number);
    reader
        .records()
        .map(|row| FeatureRow(row.unwrap().iter().skip(1).map(value).collect()))
        .collect()
}

fn changes(rows: &[FeatureRow], width: usize) -> BTreeSet<usize> {
    let encoding = number(NumberTransform::None, NumberScaling::Standard);
    let features: Vec<_> = (0..rows[0].0.len())
        .map(|i| def(&format!("x{i}"), &format!("Column {i}"), Some(encoding)))
        .collect();
    let limits = DriftLimits { minimum_rows: width as u64, ..Rules::default().limits };
    let spec = TrainingSpec { minimum_rows: width, ..quick(1) };
    let (mut reported, mut start) = (BTreeSet::new(), 0);
    while start + 2 * width <= rows.len() {
        let model = train(spec.clone(), &features, &rows[start..start + width]).unwrap().model;
        let layout = WindowLayout::of(&model);
        let differs = |end: &usize| {
            let window = count(&model, &layout, &limits, &rows[end - width..*end]);
            !check_window(&model, &window, &limits).unwrap().findings.is_empty()
        };
        let Some(end) = (start + 2 * width..=rows.len()).find(differs) else { break };
        start = end - width / 2;
        reported.insert(start);
    }
    reported
}

fn by_page_hinkley(rows: &[FeatureRow]) -> BTreeSet<usize> {
    let of_column = |values: Vec<f64>| {
        let mut test = PageHinkley::new(PAGE_HINKLEY_SLACK, PAGE_HINKLEY_LIMIT, 1.0);
        let reported = |(place, z)| Some(place + 1 - test.step(z).then(|| test.since_change())?);
        values.into_iter().enumerate().filter_map(reported).collect::<Vec<_>>()
    };
    columns(rows).flat_map(of_column).collect()
}

fn by_adwin(rows: &[FeatureRow]) -> BTreeSet<usize> {
    let of_column = |values: Vec<f64>| {
        let mut window = AdwinDetector::new(ADWIN_DELTA);
        let mut is_told = |z| window.step(normal_cdf(z)).then(|| window.since_change());
        let reported = |(place, z)| Some(place + 1 - is_told(z)?);
        values.into_iter().enumerate().filter_map(reported).collect::<Vec<_>>()
    };
    columns(rows).flat_map(of_column).collect()
}

/// The known values of each column, standardised by all of them; an unknown one is as
/// the mean.
fn columns(rows: &[FeatureRow]) -> impl Iterator<Item = Vec<f64>> {
    (0..rows[0].0.len()).map(|column| {
        let value = |row: &FeatureRow| match row.0[column] {
            FeatureValue::Number(x) => Some(x),
            _ => None,
        };
        let known: Vec<f64> = rows.iter().filter_map(value).collect();
        let middle = mean(&known);
        let deviation = variance(&known, middle).sqrt().max(f64::MIN_POSITIVE);
        let z = |row: &FeatureRow| value(row).map_or(0.0, |x| (x - middle) / deviation);
        rows.iter().map(z).collect()
    })
}

/// Change points of `marked` with one of `reported` within the margin, each used once.
fn hits(marked: &BTreeSet<usize>, reported: &BTreeSet<usize>) -> usize {
    let mut left = reported.clone();
    let mut near = |mark: &&usize| {
        let within = mark.saturating_sub(MARGIN)..=*mark + MARGIN;
        let nearest = left.range(within).min_by_key(|place| place.abs_diff(**mark)).copied();
        nearest.is_some_and(|place| left.remove(&place))
    };
    marked.iter().filter(|mark| near(mark)).count()
}

/// The first observation counts as a change point of every annotator and detector.
fn with_start(places: &BTreeSet<usize>) -> BTreeSet<usize> {
    places.iter().copied().chain([0]).collect()
}

/// Precision over the change points of all annotators; recall as a mean over annotators.
fn f1(marks: &Marks, reported: &BTreeSet<usize>) -> f64 {
    let reported = with_start(reported);
    let anybody: BTreeSet<usize> = marks.values().flat_map(with_start).collect();
    let precision = hits(&anybody, &reported) as f64 / reported.len() as f64;
    let recalls = marks.values().map(|marked| {
        let marked = with_start(marked);
        hits(&marked, &reported) as f64 / marked.len() as f64
    });
    let recall = recalls.sum::<f64>() / marks.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

/// Covering: the best overlap of each annotated segment with a detected one, as a mean over
/// observations and annotators.
fn covering(marks: &Marks, reported: &BTreeSet<usize>, rows: usize) -> f64 {
    let stretches = |places: &BTreeSet<usize>| -> Vec<(usize, usize)> {
        let starts: Vec<usize> = with_start(places).into_iter().collect();
        let ends = starts.iter().skip(1).copied().chain([rows]);
        starts.iter().copied().zip(ends).collect()
    };
    let reported = stretches(reported);
    let overlap = |a: (usize, usize), b: (usize, usize)| {
        let both = a.1.min(b.1).saturating_sub(a.0.max(b.0));
        both as f64 / (a.1 - a.0 + b.1 - b.0 - both) as f64
    };
    let of_annotator = |marked: &BTreeSet<usize>| -> f64 {
        let covered = stretches(marked).into_iter().map(|stretch| {
            let best = reported.iter().map(|one| overlap(stretch, *one)).fold(0.0, f64::max);
            (stretch.1 - stretch.0) as f64 * best
        });
        covered.sum::<f64>() / rows as f64
    };
    marks.values().map(of_annotator).sum::<f64>() / marks.len() as f64
}
