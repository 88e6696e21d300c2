//! The cost of one full report after a million scores, relative to Evidently.

use std::time::Instant;

use segmentd::domain::drift::{Inside, Layout, Window, Yardstick, check_within};
use segmentd::domain::feature::{FeatureRow, Scale, Transform, Value};
use segmentd::domain::model::Model;
use segmentd::domain::stats::Rng;

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
    let mut rng = Rng::new(11, 0);
    let encoding = number(Transform::None, Scale::Standard);
    let features: Vec<_> = (0..FEATURES)
        .map(|i| def(&format!("f{i}"), &format!("Feature {i}"), Some(encoding)))
        .collect();
    let training = rows(&mut rng, TRAINING_ROWS);
    let model = train(quick(SEGMENTS), &features, &training).unwrap().model;
    let scored = rows(&mut rng, ROWS);
    let limits = Rules::default().limits;
    let by = Yardstick::of(&model).unwrap();
    let (window, inside) = count(&model, &by, &scored, limits.alpha);
    let times = (0..RUNS).map(|_| {
        let started = Instant::now();
        std::hint::black_box(check_within(&model, &window, &by, &inside, &limits).unwrap());
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
        what: "a report on 50 features in each of 10 segments after 1,000,000 scores",
        value,
        unit: "ms",
        baseline: peer::NAME,
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

/// Counts as for sampled customers: over all of them, and within segments.
fn count(model: &Model, by: &Yardstick, rows: &[FeatureRow], alpha: f64) -> (Window, Inside) {
    let layout = Layout::of(model);
    let (mut window, mut inside) = (layout.empty(), by.empty());
    let mut scratch = model.scratch();
    for row in rows {
        let score = model.score(row, &mut scratch);
        layout.count(&mut window, row, &score, score.is_outlier(alpha));
        by.count(&mut inside, model, &score, &scratch);
    }
    (window, inside)
}

fn rows(rng: &mut Rng, rows: usize) -> Vec<FeatureRow> {
    let mut row = || {
        let kind = rng.below(SEGMENTS);
        let value =
            |place| Value::Number(normal(rng) + if place % SEGMENTS == kind { 3.0 } else { 0.0 });
        FeatureRow((0..FEATURES).map(value).collect())
    };
    (0..rows).map(|_| row()).collect()
}
