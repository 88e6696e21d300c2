//! The cost of one full report after a million scores, relative to Evidently.

use std::time::Instant;

use segmentd::domain::drift::{
    CountedRow, DeviationUnits, DriftWindow, SegmentSums, WindowLayout,
    check_window_within_segments,
};
use segmentd::domain::feature::{FeatureRow, FeatureValue, NumberScaling, NumberTransform};
use segmentd::domain::model::Model;
use segmentd::domain::stats::RandomStream;

use crate::drift::peer::{self, Peer};
use crate::drift::watch::Rules;
use crate::drift::world::quick;
use crate::model_support::{def, normal, number, train};
use crate::{Figure, median};

const FEATURES: usize = 50;
const SEGMENTS: usize = 10;
const TRAINING_ROWS: usize = 100_000;
const ROWS: usize = 1_000_000;
const RUNS: usize = 21;

pub(super) fn run() -> Figure {
    let mut rng = RandomStream::new(11, 0);
    let encoding = number(NumberTransform::None, NumberScaling::Standard);
    let features: Vec<_> = (0..FEATURES)
        .map(|i| def(&format!("f{i}"), &format!("Feature {i}"), Some(encoding)))
        .collect();
    let training = rows(&mut rng, TRAINING_ROWS);
    let model = train(quick(SEGMENTS), &features, &training).unwrap().model;
    let scored = rows(&mut rng, ROWS);
    let limits = Rules::default().limits;
    let by = DeviationUnits::of(&model).unwrap();
    let (window, inside) = count(&model, &by, &scored, limits.alpha);
    let times = (0..RUNS).map(|_| {
        let started = Instant::now();
        std::hint::black_box(
            check_window_within_segments(&model, &window, &by, &inside, &limits).unwrap(),
        );
        started.elapsed().as_secs_f64() * 1e3
    });
    let value = median(times.collect());
    let baseline_value = Peer::start(&"n".repeat(FEATURES)).map_or(f64::NAN, |mut peer| {
        peer.ask("reference", &peer::columns(&training));
        let seconds = peer.ask("preset", &peer::columns(&scored))[0];
        peer.stop();
        1e3 * seconds
    });
    Figure {
        id: super::REPORT,
        description: "a report on 50 features in each of 10 segments after 1,000,000 scores",
        value,
        unit: "ms",
        baseline: peer::NAME,
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// Counts as for sampled customers: over all of them, and within segments.
fn count(
    model: &Model,
    by: &DeviationUnits,
    rows: &[FeatureRow],
    alpha: f64,
) -> (DriftWindow, SegmentSums) {
    let layout = WindowLayout::of(model);
    let (mut window, mut inside) = (layout.empty(), by.empty());
    let mut scratch = model.scratch();
    for row in rows {
        let score = model.score(row, &mut scratch);
        layout.count_row(&mut window, &CountedRow::new(row, &score, score.is_outlier(alpha)));
        by.count_row(&mut inside, model, &score, &scratch);
    }
    (window, inside)
}

fn rows(rng: &mut RandomStream, rows: usize) -> Vec<FeatureRow> {
    let mut row = || {
        let kind = rng.uniform_below(SEGMENTS);
        let value = |place| {
            FeatureValue::Number(normal(rng) + if place % SEGMENTS == kind { 3.0 } else { 0.0 })
        };
        FeatureRow((0..FEATURES).map(value).collect())
    };
    (0..rows).map(|_| row()).collect()
}
