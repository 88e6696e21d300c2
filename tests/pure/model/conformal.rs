//! Conformal calibration: outlier p-values are ranks among rows that the fit has not seen, never
//! too small, and flag the promised share of new customers.

use proptest::prelude::*;
use segmentd::domain::drift::{CountedRow, DriftLimits, WindowLayout, check_window};
use segmentd::domain::model::{ConformalLimits, MINIMUM_CATEGORY_ROWS, SegmentScore};
use segmentd::domain::train::{CalibrationMethod, TrainingSpec};

use crate::model::support::{shop_features, shoppers, spec, train};

/// One segment of scale 1.
fn calibrated(distances: &[f32]) -> ConformalLimits {
    let held_out: Vec<(usize, f32)> = distances.iter().map(|d| (0, *d)).collect();
    ConformalLimits::calibrate(vec![1.0], &[distances.len() as f64], &held_out)
}

fn by_definition(distances: &[f32], distance: f32) -> f64 {
    let at_least = distances.iter().filter(|d| **d >= distance).count();
    (1 + at_least) as f64 / (1 + distances.len()) as f64
}

proptest! {
    #[test]
    fn small_calibrations_are_exact(
        steps in prop::collection::vec(0..60_u8, 0..500),
        asked in 0..70_u8,
    ) {
        let distances: Vec<f32> = steps.iter().map(|s| f32::from(*s) / 8.0).collect();
        let limits = calibrated(&distances);
        for distance in [f32::from(asked) / 8.0, f32::from(asked) / 8.0 + 0.01] {
            prop_assert_eq!(limits.p_value(0, distance), by_definition(&distances, distance));
        }
    }

    #[test]
    fn large_calibrations_are_never_too_small_and_hardly_too_large(
        seed in any::<u64>(),
        rows in 2000..30_000_usize,
        asked in 0.0..1.2_f32,
    ) {
        let mut rng = segmentd::domain::stats::RandomStream::new(seed, 0);
        let distances: Vec<f32> = (0..rows).map(|_| rng.uniform_unit() as f32).collect();
        let exact = by_definition(&distances, asked);
        let found = calibrated(&distances).p_value(0, asked);
        prop_assert!(exact <= found && found <= exact * (1.0 + 1.0 / 512.0), "{found} {exact}");
    }

    #[test]
    fn the_limit_is_where_the_p_value_falls_to_alpha(
        steps in prop::collection::vec(1..2000_u16, 1..900),
        alpha in 0.001..0.5_f64,
    ) {
        let distances: Vec<f32> = steps.iter().map(|s| f32::from(*s) / 16.0).collect();
        let limits = calibrated(&distances);
        let limit = limits.distance_limit(0, alpha);
        if limit.is_finite() {
            prop_assert!(limits.p_value(0, limit.next_up()) <= alpha);
            prop_assert!(limits.p_value(0, limit) > alpha);
        } else {
            prop_assert!(limits.p_value(0, f32::MAX) > alpha);
            prop_assert!(1.0 / (1.0 + distances.len() as f64) > alpha);
        }
    }
}

#[test]
fn small_segments_share_a_category_and_large_ones_have_their_own() {
    let large = MINIMUM_CATEGORY_ROWS;
    let near = (0..large).map(|i| (0, i as f32 / large as f32));
    let small = (0..300).flat_map(|i| [(1, 2.0 * i as f32), (2, 4.0 * i as f32)]);
    let held_out: Vec<(usize, f32)> = near.chain(small).collect();
    let limits =
        ConformalLimits::calibrate(vec![1.0, 2.0, 4.0], &[large as f64, 300.0, 300.0], &held_out);
    // Beyond every row of its own category, although within the others.
    assert_eq!(limits.p_value(0, 1.5), 1.0 / (large as f64 + 1.0));
    // Both small segments are ranked against all 600 rows, each on its own scale.
    assert_eq!(limits.p_value(1, 2.0 * 150.0), (1.0 + 300.0) / 601.0);
    assert_eq!(limits.p_value(2, 4.0 * 150.0), (1.0 + 300.0) / 601.0);
}

#[test]
fn without_held_out_rows_nothing_is_an_outlier() {
    let limits = calibrated(&[]);
    assert_eq!(limits.p_value(0, f32::MAX), 1.0);
    assert_eq!(limits.distance_limit(0, 0.05), f32::INFINITY);
}

/// The central interval of the binomial distribution that holds `coverage`.
fn binomial_band(n: usize, p: f64, coverage: f64) -> (usize, usize) {
    let tail = (1.0 - coverage) / 2.0;
    let mut probability = (n as f64 * (-p).ln_1p()).exp();
    let (mut cumulative, mut low) = (probability, None);
    for successes in 0..n {
        if low.is_none() && cumulative >= tail {
            low = Some(successes);
        }
        if cumulative >= 1.0 - tail {
            return (low.unwrap(), successes);
        }
        probability *= (n - successes) as f64 / (successes + 1) as f64 * p / (1.0 - p);
        cumulative += probability;
    }
    (low.unwrap_or(n), n)
}

#[test]
fn the_band_is_the_binomial_one() {
    // SciPy: binom.interval(0.95, 10000, 0.005), (0.95, 1000, 0.05), (0.999, 500, 0.01).
    assert_eq!(binomial_band(10_000, 0.005, 0.95), (37, 64));
    assert_eq!(binomial_band(1000, 0.05, 0.95), (37, 64));
    assert_eq!(binomial_band(500, 0.01, 0.999), (0, 14));
}

/// 50,000 rows calibrate, and 8,000 new ones are tested: the deviation of the calibration
/// is at most two fifths of that of the test.
#[test]
fn new_customers_are_flagged_at_the_calibrated_rate() {
    let spec = TrainingSpec { starts: 2, seed: 5, holdout_share: 0.5, ..spec(4) };
    let trained = train(spec, &shop_features(), &shoppers(100_000, 21)).unwrap();
    let model = trained.model;
    let mut scratch = model.scratch();
    let scores: Vec<SegmentScore> =
        shoppers(8000, 22).iter().map(|row| model.score(row, &mut scratch)).collect();

    for alpha in [0.005, 0.01, 0.05] {
        let flagged =
            |scores: &[&SegmentScore]| scores.iter().filter(|s| s.is_outlier(alpha)).count();
        let all: Vec<&SegmentScore> = scores.iter().collect();
        // Three bands here and twelve below: wider, so that all hold at once.
        let (low, high) = binomial_band(all.len(), alpha, 0.983);
        let count = flagged(&all);
        assert!((low..=high).contains(&count), "{count} of 8000 at {alpha}: not {low} to {high}");

        for segment in 0..4 {
            // Within each segment by the distance to it, which is the second p-value of the
            // model.
            let own: Vec<&SegmentScore> = scores.iter().filter(|s| s.nearest == segment).collect();
            assert!(own.len() > 600, "segment {segment} has {} rows", own.len());
            let (low, high) = binomial_band(own.len(), alpha, 0.995);
            let count = own.iter().filter(|s| s.edge_p_value <= alpha).count();
            assert!(
                (low..=high).contains(&count),
                "{count} of {} in segment {segment} at {alpha}: not {low} to {high}",
                own.len()
            );
        }
        // The check that the model makes on its held-out rows agrees.
        let check = trained.report.outliers.checks.iter().find(|c| c.alpha == alpha).unwrap();
        let rate = check.flagged as f64 / check.rows as f64;
        assert_eq!(check.rows, 25_000);
        // Both halves deviate: twice the variance, four deviations.
        let band = 4.0 * (2.0 * alpha * (1.0 - alpha) / 25_000.0).sqrt();
        assert!((rate - alpha).abs() < band, "{rate} is not {alpha} ± {band}");
    }
}

/// Of 150 customers 45 are held out, which alone could flag at no rate below 1/46. The rate of one
/// model deviates as its 150 calibrating rows do, so the mean over 40 models is compared.
#[test]
fn of_few_customers_each_calibrates_and_new_ones_are_flagged_at_the_rate() {
    const MODELS: usize = 40;
    const CUSTOMERS: usize = 150;
    const NEW: usize = 500;
    let alphas = [0.01, 0.05, 0.1];
    let mut flagged = [0; 3];
    for seed in 0..MODELS as u64 {
        let spec = TrainingSpec { starts: 1, minimum_rows: 100, holdout_share: 0.3, ..spec(4) };
        let trained = train(spec, &shop_features(), &shoppers(CUSTOMERS, 100 + seed)).unwrap();
        let outliers = &trained.report.outliers;
        assert_eq!(outliers.method, CalibrationMethod::LeaveOneOut);
        assert_eq!(outliers.calibrating_rows, CUSTOMERS as u64);
        assert_eq!(outliers.smallest_p_value, 1.0 / 151.0);
        assert_eq!(trained.model.smallest_p_value(), 1.0 / 151.0);
        let mut scratch = trained.model.scratch();
        for row in shoppers(NEW, 1000 + seed) {
            let score = trained.model.score(&row, &mut scratch);
            for (count, alpha) in flagged.iter_mut().zip(alphas) {
                *count += usize::from(score.is_outlier(alpha));
            }
        }
    }
    for (count, alpha) in flagged.into_iter().zip(alphas) {
        let rate = count as f64 / (MODELS * NEW) as f64;
        // The largest of the possible p-values 1/151, 2/151, … that is at most alpha.
        let expected = (alpha * 151.0_f64).floor() / 151.0;
        // Deviations of the calibrating rows and of the tested ones, three of them.
        let variance = expected * (1.0 - expected) * (1.0 / CUSTOMERS as f64 + 1.0 / NEW as f64);
        let band = 3.0 * (variance / MODELS as f64).sqrt();
        assert!((rate - expected).abs() < band, "{rate} is not {expected} ± {band}");
    }
}

/// The stored customers of a small shop are those that it was trained on. Their p-values are not
/// those of the calibration, in which each is measured against the others only.
#[test]
fn few_training_customers_do_not_drift_from_themselves() {
    let rows = shoppers(300, 7);
    let spec = TrainingSpec { starts: 1, minimum_rows: 100, holdout_share: 0.3, ..spec(4) };
    let trained = train(spec, &shop_features(), &rows).unwrap();
    assert_eq!(trained.report.outliers.method, CalibrationMethod::LeaveOneOut);
    let model = trained.model;
    let layout = WindowLayout::of(&model);
    let (mut window, mut scratch) = (layout.empty(), model.scratch());
    for row in &rows {
        let score = model.score(row, &mut scratch);
        layout.count_row(&mut window, &CountedRow::new(row, &score, score.is_outlier(0.01)));
    }
    let check = check_window(&model, &window, &DriftLimits::default()).unwrap();
    let p_values = check.p_values.unwrap();
    assert_eq!(p_values.value, 0.0, "{p_values:?}");
    assert!(check.findings.is_empty(), "{:?}", check.findings);
}
