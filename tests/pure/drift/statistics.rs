//! Drift statistics equal `SciPy`, and keep their properties.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segmentd::domain::drift::output_shift::{OutlierRateTest, RateComparison, RowCount};
use segmentd::domain::drift::statistics::chi_square::{ChiSquareTest, jensen_shannon};
use segmentd::domain::drift::statistics::kolmogorov_smirnov::KolmogorovSmirnov;
use segmentd::domain::drift::statistics::psi::{StabilityBand, StabilityIndex};
use segmentd::domain::drift::statistics::wasserstein::{BinnedMedian, WassersteinShift};
use segmentd::domain::drift::statistics::welch::{ColumnSample, MeanShift};
use segmentd::domain::drift::{ContingencyTable, DesignEffects, DriftWindow};
use segmentd::domain::stats::benjamini_hochberg;
use segmentd::domain::stats::{RandomStream, special};
use serde::Deserialize;

use crate::feature::support::data;

#[derive(Deserialize)]
struct Golden {
    ln_gamma: Vec<(f64, f64)>,
    gamma_above: Vec<(f64, f64, f64)>,
    kolmogorov: Vec<(f64, f64)>,
    comparisons: BTreeMap<String, Comparison>,
    rates: Vec<GoldenRate>,
    outliers: Vec<GoldenOutliers>,
    /// Both tails: t, degrees, probability.
    student: Vec<(f64, f64, f64)>,
    /// Upper tail of F: x, degrees, other degrees, probability.
    fisher: Vec<(f64, f64, f64, f64)>,
    shifts: Vec<GoldenShift>,
    benjamini_hochberg: Adjusted,
}

#[derive(Deserialize)]
struct Comparison {
    cuts: Vec<f64>,
    before: Vec<u64>,
    now: Vec<u64>,
    ordered: GoldenPsi,
    unordered: GoldenPsi,
    chi_square: GoldenTest,
    jensen_shannon: f64,
    ks: GoldenKs,
    moved: GoldenMoved,
}

#[derive(Deserialize)]
struct GoldenPsi {
    value: f64,
    by_chance: f64,
    chance_deviation: f64,
    excess: f64,
    interval: (f64, f64),
    p_value: f64,
    bins: usize,
}

#[derive(Deserialize)]
struct GoldenTest {
    statistic: f64,
    degrees: f64,
    p_value: f64,
}

#[derive(Deserialize)]
struct GoldenKs {
    distance: f64,
    p_value: f64,
}

#[derive(Deserialize)]
struct GoldenMoved {
    distance: f64,
    shift: f64,
    scipy: f64,
}

#[derive(Deserialize)]
struct GoldenRate {
    reference: (u64, u64),
    current: (u64, u64),
    p_value: f64,
}

#[derive(Deserialize)]
struct GoldenOutliers {
    found: u64,
    scored: u64,
    alpha: f64,
    held_out: u64,
    p_value: f64,
}

#[derive(Deserialize)]
struct GoldenShift {
    trained: f64,
    was_spread: bool,
    rows: f64,
    sum: f64,
    squares: f64,
    d: f64,
    p_value: f64,
}

#[derive(Deserialize)]
struct Adjusted {
    p_values: Vec<f64>,
    adjusted: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(data("golden/drift.json")).unwrap()).unwrap()
}

/// Equal to a relative `tolerance`; values too tiny to matter are ignored.
pub(crate) fn equal(name: &str, found: f64, expected: f64, tolerance: f64) {
    let close = (found - expected).abs() <= tolerance * expected.abs() + 1e-300;
    assert!(close, "{name}: {found:e} is not {expected:e}");
}

#[test]
fn special_functions_equal_scipy() {
    let golden = golden();
    for (x, expected) in golden.ln_gamma {
        let found = special::ln_gamma(x);
        assert!((found - expected).abs() <= 1e-13 * expected.abs().max(1.0), "{x}: {found}");
    }
    for (a, x, expected) in golden.gamma_above {
        equal(&format!("Q({a}, {x})"), special::upper_regularised_gamma(a, x), expected, 1e-12);
    }
    for (x, expected) in golden.kolmogorov {
        equal(&format!("K({x})"), special::kolmogorov_upper_tail(x), expected, 1e-12);
    }
    for (t, degrees, expected) in golden.student {
        let found = special::student_two_sided_tail(t, degrees);
        equal(&format!("P(|T| ≥ {t}; {degrees})"), found, expected, 1e-7);
        assert_eq!(special::student_two_sided_tail(-t, degrees), found);
    }
    for (x, degrees, other_degrees, expected) in golden.fisher {
        let found = special::f_upper_tail(x, degrees, other_degrees);
        equal(&format!("P(F ≥ {x}; {degrees}, {other_degrees})"), found, expected, 1e-7);
    }
}

#[test]
fn comparisons_equal_scipy() {
    let golden = golden().comparisons;
    assert_eq!(golden.len(), 7);
    for (name, golden) in golden {
        let (before, now) = (&golden.before, &golden.now);
        let ordered = ContingencyTable::ordered(before, now, DesignEffects::INDEPENDENT).unwrap();
        let unordered =
            ContingencyTable::unordered(before, now, DesignEffects::INDEPENDENT).unwrap();
        for (cells, expected) in [(&ordered, &golden.ordered), (&unordered, &golden.unordered)] {
            let psi = StabilityIndex::of(cells);
            assert_eq!(psi.bins, expected.bins, "{name}");
            assert!((psi.value - expected.value).abs() < 1e-12, "{name}: {psi:?}");
            equal(&name, psi.by_chance, expected.by_chance, 1e-12);
            equal(&name, psi.chance_deviation, expected.chance_deviation, 1e-12);
            assert!((psi.excess - expected.excess).abs() < 1e-12, "{name}: {psi:?}");
            // The reference uses numerical derivatives.
            let (found, expected_interval) = (psi.interval, expected.interval);
            assert!((found.0 - expected_interval.0).abs() < 1e-8, "{name}: {psi:?}");
            assert!((found.1 - expected_interval.1).abs() < 1e-8, "{name}: {psi:?}");
            equal(&name, psi.p_value, expected.p_value, 1e-9);
        }
        let test = ChiSquareTest::of(&unordered);
        assert!((test.statistic - golden.chi_square.statistic).abs() < 1e-9, "{name}: {test:?}");
        assert_eq!(test.degrees, golden.chi_square.degrees, "{name}");
        equal(&name, test.p_value, golden.chi_square.p_value, 1e-9);
        let distance = jensen_shannon(before, now).unwrap();
        assert!((distance - golden.jensen_shannon).abs() < 1e-9, "{name}: {distance}");
        let ks = KolmogorovSmirnov::of(before, now, DesignEffects::INDEPENDENT).unwrap();
        assert!((ks.distance - golden.ks.distance).abs() < 1e-12, "{name}: {ks:?}");
        equal(&name, ks.p_value, golden.ks.p_value, 1e-9);
        let moved = WassersteinShift::of(&golden.cuts, before, now).unwrap();
        for (found, expected, tolerance) in [
            (moved.distance, golden.moved.distance, 1e-8),
            (moved.shift, golden.moved.shift, 1e-8),
            (moved.distance, golden.moved.scipy, 1e-5),
        ] {
            assert!((found - expected).abs() < tolerance, "{name}: {found} is not {expected}");
        }
    }
}

fn count((counted, all): (u64, u64)) -> RowCount {
    RowCount { counted, all }
}

#[test]
fn rates_equal_scipy() {
    let golden = golden();
    for rate in golden.rates {
        let found = RateComparison::of(
            count(rate.reference),
            count(rate.current),
            DesignEffects::INDEPENDENT,
        )
        .unwrap();
        equal(&format!("{found:?}"), found.p_value, rate.p_value, 1e-7);
    }
    for golden in golden.outliers {
        let found = OutlierRateTest::of(
            count((golden.found, golden.scored)),
            golden.alpha,
            golden.held_out,
            DesignEffects::INDEPENDENT,
        )
        .unwrap();
        equal(&format!("{found:?}"), found.p_value, golden.p_value, 1e-7);
    }
    assert_eq!(RateComparison::of(count((0, 0)), count((1, 10)), DesignEffects::INDEPENDENT), None);
    // With 98 held-out rows no p-value can be below 1 %.
    assert_eq!(OutlierRateTest::of(count((0, 500)), 0.01, 98, DesignEffects::INDEPENDENT), None);
    assert!(OutlierRateTest::of(count((0, 500)), 0.01, 99, DesignEffects::INDEPENDENT).is_some());
}

#[test]
fn adjusted_p_values_equal_scipy() {
    let Adjusted { p_values, adjusted } = golden().benjamini_hochberg;
    for (found, expected) in benjamini_hochberg(&p_values).into_iter().zip(adjusted) {
        equal("adjusted", found, expected, 1e-12);
    }
    assert!(benjamini_hochberg(&[]).is_empty());
}

#[test]
fn the_median_splits_the_rows_in_half() {
    let cuts = [10.0, 20.0, 40.0];
    assert_eq!(BinnedMedian::of(&cuts, &[1, 2, 2, 1]), Some(BinnedMedian::Near(20.0)));
    assert_eq!(BinnedMedian::of(&cuts, &[1, 0, 4, 0]), Some(BinnedMedian::Near(27.5)));
    assert_eq!(BinnedMedian::of(&cuts, &[9, 0, 4, 0]), Some(BinnedMedian::AtMost(10.0)));
    assert_eq!(BinnedMedian::of(&cuts, &[0, 0, 4, 5]), Some(BinnedMedian::Above(40.0)));
    assert_eq!(BinnedMedian::of(&cuts, &[0, 0, 0, 0]), None);
    assert_eq!(BinnedMedian::of(&[], &[7]), None);
}

#[test]
fn severity_bands_are_the_customary_ones() {
    let bands = [0.0, 0.099, 0.1, 0.249, 0.25].map(StabilityBand::of);
    assert_eq!(
        bands,
        [
            StabilityBand::Stable,
            StabilityBand::Stable,
            StabilityBand::Moderate,
            StabilityBand::Moderate,
            StabilityBand::Large
        ]
    );
}

fn draw(rng: &mut RandomStream, weights: &[f64], rows: usize) -> Vec<u64> {
    let mut counts = vec![0; weights.len()];
    for _ in 0..rows {
        counts[rng.weighted_index(weights, weights.iter().sum())] += 1;
    }
    counts
}

/// Both samples are drawn again each time, so both vary by chance.
#[test]
fn psi_under_chance_has_the_stated_distribution() {
    let uneven = [0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.03, 0.02, 0.01];
    for (weights, n, m) in [([0.1; 10], 2000, 200), ([0.1; 10], 2000, 2000), (uneven, 5000, 300)] {
        let mut rng = RandomStream::new(n as u64 + m as u64, 1);
        let trials = 1000;
        let (mut found, mut mean, mut by_chance) = ([0; 2], 0.0, 0.0);
        for _ in 0..trials {
            let (before, now) = (draw(&mut rng, &weights, n), draw(&mut rng, &weights, m));
            let psi = StabilityIndex::of(
                &ContingencyTable::ordered(&before, &now, DesignEffects::INDEPENDENT).unwrap(),
            );
            found[0] += usize::from(psi.p_value <= 0.05);
            found[1] += usize::from(psi.p_value <= 0.01);
            mean += psi.value / f64::from(trials);
            by_chance += psi.by_chance / f64::from(trials);
        }
        // 50 and 10 are expected; 4 standard deviations are 28 and 13.
        assert!((22..78).contains(&found[0]) && found[1] < 23, "{n} {m}: {found:?}");
        assert!((mean / by_chance - 1.0).abs() < 0.07, "{n} {m}: {mean} is not {by_chance}");
    }
}

#[test]
fn the_confidence_interval_covers_the_population_index() {
    let even = [0.1; 10];
    for strength in [0.02, 0.05, 0.1] {
        let moved: Vec<f64> =
            (0..10).map(|i| 0.1 * (strength * (f64::from(i) - 4.5)).exp()).collect();
        let all: f64 = moved.iter().sum();
        let index: f64 = moved.iter().map(|w| (w / all - 0.1) * (w / all / 0.1).ln()).sum();
        let mut rng = RandomStream::new(3, 2);
        let trials = 400;
        let held = (0..trials).filter(|_| {
            let (before, now) = (draw(&mut rng, &even, 3000), draw(&mut rng, &moved, 1000));
            let (low, high) = StabilityIndex::of(
                &ContingencyTable::ordered(&before, &now, DesignEffects::INDEPENDENT).unwrap(),
            )
            .interval;
            (low..=high).contains(&index)
        });
        // 380 are expected; 4 standard deviations are 17.
        let held = held.count();
        assert!(held >= 363, "{held} of {trials} at {index}");
    }
}

fn counts() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
    (1..12_usize).prop_flat_map(|bins| {
        let side = || prop::collection::vec(0..400_u64, bins);
        (side(), side())
    })
}

proptest! {
    #[test]
    fn the_index_is_symmetric_and_its_figures_are_consistent((a, b) in counts()) {
        for cells in [ContingencyTable::ordered, ContingencyTable::unordered] {
            let cells = |one: &[u64], other: &[u64]| cells(one, other, DesignEffects::INDEPENDENT);
            let (Some(one), Some(other)) = (cells(&a, &b), cells(&b, &a)) else {
                prop_assert!(cells(&a, &b).is_none() && cells(&b, &a).is_none());
                continue;
            };
            let (one, other) = (StabilityIndex::of(&one), StabilityIndex::of(&other));
            prop_assert!((one.value - other.value).abs() <= 1e-12 * one.value.max(1.0));
            prop_assert!((one.p_value - other.p_value).abs() <= 1e-9);
            prop_assert!(one.value >= 0.0 && one.excess <= one.value);
            prop_assert!((0.0..=1.0).contains(&one.p_value));
            prop_assert!(0.0 <= one.interval.0 && one.interval.0 <= one.excess);
            prop_assert!(one.excess <= one.interval.1);
        }
    }

    #[test]
    fn equal_shares_have_no_distance((a, _) in counts(), times in 1..9_u64) {
        let b: Vec<u64> = a.iter().map(|count| count * times).collect();
        if let Some(cells) = ContingencyTable::ordered(&a, &b, DesignEffects::INDEPENDENT) {
            prop_assert!(StabilityIndex::of(&cells).value < 1e-12);
            prop_assert!(ChiSquareTest::of(&cells).statistic < 1e-9);
            prop_assert!(StabilityIndex::of(&cells).p_value > 1.0 - 1e-9);
        }
        if let (Some(distance), Some(ks)) = (jensen_shannon(&a, &b), KolmogorovSmirnov::of(&a, &b, DesignEffects::INDEPENDENT)) {
            prop_assert!(distance < 1e-7 && ks.distance < 1e-12 && ks.p_value > 1.0 - 1e-9);
        }
    }

    #[test]
    fn distances_are_within_their_bounds((a, b) in counts()) {
        let cuts: Vec<f64> = (1..a.len()).map(|i| (i * i) as f64).collect();
        if let Some(moved) = WassersteinShift::of(&cuts, &a, &b) {
            let width = cuts[cuts.len() - 1] - cuts[0];
            prop_assert!(moved.shift.abs() <= moved.distance + 1e-9);
            prop_assert!(moved.distance <= width + 1e-9);
            let back = WassersteinShift::of(&cuts, &b, &a).unwrap();
            prop_assert!((back.distance - moved.distance).abs() < 1e-9);
            prop_assert!((back.shift + moved.shift).abs() < 1e-9);
        }
        if let (Some(distance), Some(ks)) = (jensen_shannon(&a, &b), KolmogorovSmirnov::of(&a, &b, DesignEffects::INDEPENDENT)) {
            prop_assert!((0.0..=1.0).contains(&distance) && (0.0..=1.0).contains(&ks.distance));
        }
    }

    #[test]
    fn merging_is_associative_and_takes_no_side(
        (a, b) in counts(),
        c in prop::collection::vec(0..400_u64, 12),
    ) {
        let window = |counts: &[u64]| DriftWindow { counts: counts.to_vec() };
        let (a, b, c) = (window(&a), window(&b), window(&c[..b.len()]));
        let merged = |one: &DriftWindow, other: &DriftWindow| {
            let mut sum = one.clone();
            sum.merge(other).unwrap();
            sum
        };
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
    }

    #[test]
    fn the_correction_is_monotone(p_values in prop::collection::vec(0.0..=1.0_f64, 1..40)) {
        let adjusted = benjamini_hochberg(&p_values);
        for (i, p) in p_values.iter().enumerate() {
            prop_assert!(*p <= adjusted[i] && adjusted[i] <= 1.0);
            for (j, q) in p_values.iter().enumerate() {
                prop_assert!(p > q || adjusted[i] <= adjusted[j]);
            }
        }
    }

    #[test]
    fn tails_fall_from_one_and_mirror(
        rows in 1..300_u64,
        (marked, draws) in (0..300_u64, 0..300_u64),
    ) {
        let some = 0..=draws.min(rows);
        let (marked, draws) = (marked.min(rows) as f64, draws.min(rows) as f64);
        let (rows, mut last) = (rows as f64, 1.0);
        for drawn in some {
            let drawn = drawn as f64;
            let above = special::hypergeometric_upper_tail(drawn, rows, marked, draws);
            prop_assert!((0.0..=1.0).contains(&above) && above <= last + 1e-9);
            // The order of sampling and marking does not matter.
            let other = special::hypergeometric_upper_tail(drawn, rows, draws, marked);
            prop_assert!((above - other).abs() < 1e-9, "{} {}", above, other);
            last = above;
        }
    }
}

#[test]
fn shifts_within_a_segment_equal_scipy() {
    for golden in golden().shifts {
        let GoldenShift { rows, sum, squares, .. } = golden;
        let now = ColumnSample { rows, sum, squares };
        let found = MeanShift::of(golden.trained, golden.was_spread, now).unwrap();
        assert!((found.d - golden.d).abs() <= 1e-12, "{found:?}");
        equal(&format!("{found:?}"), found.p_value, golden.p_value, 1e-9);
    }
    let now = ColumnSample { rows: 1.0, sum: 1.0, squares: 1.0 };
    assert_eq!(MeanShift::of(100.0, true, now), None);
    assert_eq!(MeanShift::of(1.0, true, ColumnSample { rows: 50.0, ..now }), None);
}
