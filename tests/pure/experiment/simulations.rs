//! Simulated experiments: error rates, coverage and bias are as promised.
//!
//! Bands are four standard deviations of the binomial or normal distribution, unless stated.

use segmentd::domain::experiment::segment_effects::VariationMoments;
use segmentd::domain::experiment::{
    ComparedEffect, CustomerOutcome, ExperimentPlan, ExposureCounts, MetricMoments, PlannedMetric,
    SampleRatioReport, SegmentEffect, SegmentEffects, SegmentSettings, SequentialDesign,
};
use segmentd::domain::stats::RandomStream;

use crate::experiment::support::{assert_binomial, skewed};

const EXPERIMENTS: usize = 2_000;

/// Spend after and before the exposure: skewed and correlated.
fn draw_spend(rng: &mut RandomStream, factor: f64) -> CustomerOutcome {
    let before = skewed(rng, 20.0);
    CustomerOutcome::new(factor * (0.8 * before + skewed(rng, 12.0)), before)
}

fn draw_arm(rng: &mut RandomStream, customers: usize, factor: f64) -> MetricMoments {
    let mut moments = MetricMoments::default();
    for _ in 0..customers {
        moments.observe(&draw_spend(rng, factor));
    }
    moments
}

/// Mean of `draw_spend`.
const MEAN_SPEND: f64 = 56.0;

#[test]
fn five_percent_of_equal_variations_differ_significantly() {
    let mut rng = RandomStream::new(24, 20);
    let [mut plain, mut adjusted, mut lifts] = [0; 3];
    for _ in 0..EXPERIMENTS {
        let treatment = draw_arm(&mut rng, 250, 1.0);
        let control = draw_arm(&mut rng, 250, 1.0);
        let found = ComparedEffect::compare(&treatment, &control).unwrap();
        plain += usize::from(found.unadjusted.difference.p_value() < 0.05);
        lifts += usize::from(found.unadjusted.lift.unwrap().p_value() < 0.05);
        adjusted += usize::from(found.adjusted.unwrap().effect.difference.p_value() < 0.05);
    }
    assert_binomial(plain, EXPERIMENTS, 0.05, "differences");
    assert_binomial(lifts, EXPERIMENTS, 0.05, "lifts");
    assert_binomial(adjusted, EXPERIMENTS, 0.05, "adjusted differences");
}

/// 20 daily looks: the interval for one look fails, the always-valid one does not.
#[test]
fn daily_looks_find_at_most_five_percent_of_equal_variations_different() {
    let mut rng = RandomStream::new(24, 21);
    let design = SequentialDesign { alpha: 0.05, tuned_customers: 1_000.0 };
    let [mut always_valid, mut single] = [0; 2];
    for _ in 0..EXPERIMENTS {
        let mut arms = [MetricMoments::default(); 2];
        let [mut ever_always, mut ever_single] = [false; 2];
        for _day in 0..20 {
            for arm in &mut arms {
                arm.merge(&draw_arm(&mut rng, 50, 1.0));
            }
            let difference =
                ComparedEffect::compare(&arms[0], &arms[1]).unwrap().unadjusted.difference;
            let customers = arms[0].customers() + arms[1].customers();
            let [low, high] = design.interval(difference.estimate(), customers);
            ever_always |= low > 0.0 || high < 0.0;
            ever_single |= difference.p_value() < 0.05;
        }
        always_valid += usize::from(ever_always);
        single += usize::from(ever_single);
    }
    assert!(always_valid <= EXPERIMENTS / 20, "{always_valid} of {EXPERIMENTS}");
    assert!(single > EXPERIMENTS * 15 / 100, "{single} of {EXPERIMENTS}");
}

/// A lift of 10 %: intervals contain it in 95 % of the experiments, CUPED has no bias, and its variance
/// reduction is the squared correlation.
#[test]
fn intervals_contain_the_effect_and_cuped_has_no_bias() {
    let mut rng = RandomStream::new(24, 22);
    let truth = 0.1 * MEAN_SPEND;
    let [mut plain, mut lifts, mut adjusted, mut adjusted_lifts] = [0; 4];
    let (mut errors, mut plain_squares, mut adjusted_squares, mut reduction) = (0.0, 0.0, 0.0, 0.0);
    for _ in 0..EXPERIMENTS {
        let treatment = draw_arm(&mut rng, 300, 1.1);
        let control = draw_arm(&mut rng, 200, 1.0);
        let found = ComparedEffect::compare(&treatment, &control).unwrap();
        let cuped = found.adjusted.unwrap();
        let contains =
            |[low, high]: [f64; 2], value: f64| usize::from(low <= value && value <= high);
        plain += contains(found.unadjusted.difference.interval(0.05), truth);
        lifts += contains(found.unadjusted.lift.unwrap().interval(0.05), 0.1);
        adjusted += contains(cuped.effect.difference.interval(0.05), truth);
        adjusted_lifts += contains(cuped.effect.lift.unwrap().interval(0.05), 0.1);
        errors += cuped.effect.difference.value - truth;
        plain_squares += (found.unadjusted.difference.value - truth).powi(2);
        adjusted_squares += (cuped.effect.difference.value - truth).powi(2);
        reduction += cuped.variance_reduction / EXPERIMENTS as f64;
    }
    for (count, what) in [
        (plain, "differences"),
        (lifts, "lifts"),
        (adjusted, "adjusted differences"),
        (adjusted_lifts, "adjusted lifts"),
    ] {
        assert_binomial(count, EXPERIMENTS, 0.95, what);
    }
    let trials = EXPERIMENTS as f64;
    let bias = errors / trials;
    let band = 4.0 * (adjusted_squares / trials / trials).sqrt();
    assert!(bias.abs() < band, "bias {bias}");
    // Squared correlation: 0.64 · 800 / (0.64 · 800 + 288).
    assert!((reduction - 0.64).abs() < 0.01, "variance reduction {reduction}");
    let gain = 1.0 - adjusted_squares / plain_squares;
    assert!((gain - 0.64).abs() < 0.06, "actual gain {gain}");
}

fn draw_visits(rng: &mut RandomStream, shift: f64) -> MetricMoments {
    let mut moments = MetricMoments::default();
    for _ in 0..200 {
        let visits = 1 + rng.uniform_below(5);
        let rate = 0.05 * visits as f64 + shift;
        let orders = (0..visits).filter(|_| rng.uniform_unit() < rate).count();
        moments.observe(&CustomerOutcome {
            metric: orders as f64,
            denominator: visits as f64,
            covariate: 0.0,
        });
    }
    moments
}

/// Orders per visit: customers with more visits have more orders, so visits are not independent.
#[test]
fn intervals_of_ratios_contain_the_effect() {
    let mut rng = RandomStream::new(24, 23);
    let mut covered = 0;
    for _ in 0..EXPERIMENTS {
        let arms = [0.06, 0.0].map(|shift| draw_visits(&mut rng, shift));
        let found = ComparedEffect::compare(&arms[0], &arms[1]).unwrap();
        let [low, high] = found.unadjusted.difference.interval(0.05);
        covered += usize::from(low <= 0.06 && 0.06 <= high);
    }
    assert_binomial(covered, EXPERIMENTS, 0.95, "ratios");
}

fn is_mismatched(overall: [u64; 2]) -> bool {
    let counts = ExposureCounts { overall: &overall, by_segment: &[], by_day: &[] };
    SampleRatioReport::check(&counts, &[0.5, 0.5]).is_mismatched()
}

/// Losing 6 % of one variation is found as often as the noncentral chi-square distribution says, and a
/// sound experiment is hardly ever called mismatched.
#[test]
fn sample_ratio_mismatches_are_found() {
    let mut rng = RandomStream::new(24, 24);
    let [mut sound, mut lossy] = [0; 2];
    for _ in 0..EXPERIMENTS {
        let treated = (0..10_000).filter(|_| rng.uniform_below(2) == 0).count() as u64;
        let lost = (0..treated).filter(|_| rng.uniform_unit() < 0.06).count() as u64;
        sound += usize::from(is_mismatched([treated, 10_000 - treated]));
        lossy += usize::from(is_mismatched([treated - lost, 10_000 - treated]));
    }
    // z = 0.03 · √9,700 / 0.97 = 3.05 against a limit of 3.29: 40 %.
    assert_binomial(lossy, EXPERIMENTS, 0.40, "mismatches found");
    // 0.1 % of 2,000 are 2; more than 8 have a probability of 2e-4.
    assert!(sound <= 8, "{sound} false alarms");
}

fn draw_buyers(rng: &mut RandomStream, customers: usize, rate: f64) -> MetricMoments {
    let mut moments = MetricMoments::default();
    for _ in 0..customers {
        let bought = f64::from(u8::from(rng.uniform_unit() < rate));
        moments.observe(&CustomerOutcome::new(bought, 0.0));
    }
    moments
}

/// Experiments of the planned size find the planned effect as often as planned.
#[test]
fn the_planned_power_is_reached() {
    let mut rng = RandomStream::new(24, 25);
    let metric = PlannedMetric::Proportion { rate: 0.2 };
    let plan = ExperimentPlan { metric, alpha: 0.05, treatment_ratio: 1.0 };
    let needed = plan.required_sample(0.08, 0.8).unwrap().control_customers;
    let customers = (1..1_000).find(|customers| *customers as f64 >= needed).unwrap();
    let mut found = 0;
    for _ in 0..EXPERIMENTS {
        let arms = [0.28, 0.2].map(|rate| draw_buyers(&mut rng, customers, rate));
        let effect = ComparedEffect::compare(&arms[0], &arms[1]).unwrap().unadjusted;
        found += usize::from(effect.difference.p_value() < 0.05);
    }
    assert_binomial(found, EXPERIMENTS, 0.8, "effects found");
}

/// Six segments, with true effects of this deviation between segments.
fn draw_segments(rng: &mut RandomStream, deviation: f64) -> (Vec<f64>, Vec<VariationMoments>) {
    let (mut truths, mut segments) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let truth = deviation * rng.standard_normal();
        let mut moments = VariationMoments::default();
        for _ in 0..100 {
            let treated = CustomerOutcome::new(truth + rng.standard_normal(), 0.0);
            moments.treatment.observe(&treated);
            moments.control.observe(&CustomerOutcome::new(rng.standard_normal(), 0.0));
        }
        truths.push(truth);
        segments.push(moments);
    }
    (truths, segments)
}

/// Equal segments: 5 % of the heterogeneity tests reject, and at most 5 % of the experiments have any
/// segment with a small adjusted p-value. Effects by segment have no effect at all here.
#[test]
fn five_percent_of_experiments_find_a_difference_of_equal_segments() {
    let mut rng = RandomStream::new(24, 26);
    let design = SequentialDesign::default();
    let [mut heterogeneous, mut any_effect, mut any_rest] = [0; 3];
    for _ in 0..EXPERIMENTS {
        let (_, segments) = draw_segments(&mut rng, 0.0);
        let found = SegmentEffects::measure(&segments, &SegmentSettings::default(), &design);
        heterogeneous += usize::from(found.heterogeneity.unwrap().heterogeneity_p_value < 0.05);
        any_effect += usize::from(found.segments.iter().any(|one| one.adjusted_p_value < 0.05));
        any_rest +=
            usize::from(found.segments.iter().any(|one| one.rest.unwrap().adjusted_p_value < 0.05));
    }
    assert_binomial(heterogeneous, EXPERIMENTS, 0.05, "heterogeneous");
    assert_binomial(any_effect, EXPERIMENTS, 0.05, "any effect");
    // The comparisons share customers: the rate is only bounded.
    assert!(any_rest as f64 <= 0.05 * EXPERIMENTS as f64 + 39.0, "{any_rest} of {EXPERIMENTS}");
}

/// Outcome of the shrinkage of simulated effects.
#[derive(Default)]
struct ShrinkageTally {
    own_squares: f64,
    shrunken_squares: f64,
    /// Excess of the largest measured effect over its truth.
    own_excess: f64,
    shrunken_excess: f64,
    covered: usize,
}

impl ShrinkageTally {
    fn simulate(rng: &mut RandomStream, deviation: f64) -> Self {
        let mut tally = Self::default();
        for _ in 0..EXPERIMENTS {
            let (truths, segments) = draw_segments(rng, deviation);
            let settings = SegmentSettings::default();
            let found = SegmentEffects::measure(&segments, &settings, &SequentialDesign::default());
            tally.add(&found.segments, &truths);
        }
        tally
    }

    fn add(&mut self, segments: &[SegmentEffect], truths: &[f64]) {
        for (segment, truth) in segments.iter().zip(truths) {
            self.own_squares += (segment.effect.value - truth).powi(2);
            self.shrunken_squares += (segment.shrunken.value - truth).powi(2);
            let [low, high] = segment.shrunken.interval();
            self.covered += usize::from(low <= *truth && *truth <= high);
        }
        let by_effect =
            |a: &&SegmentEffect, b: &&SegmentEffect| a.effect.value.total_cmp(&b.effect.value);
        let largest = segments.iter().max_by(by_effect).unwrap();
        let truth = truths[largest.segment];
        self.own_excess += largest.effect.value - truth;
        self.shrunken_excess += largest.shrunken.value - truth;
    }
}

/// The standard error of a measured effect is 0.14. Whether true effects differ less or more, shrinkage
/// lowers the squared error, the largest effect is not exaggerated any more, and intervals contain about
/// 95 % of the true effects.
#[test]
fn shrunken_effects_are_closer_to_the_truth() {
    let mut rng = RandomStream::new(24, 27);
    for (deviation, least_gain) in [(0.05, 0.5), (0.14, 0.25), (0.4, 0.02)] {
        let tally = ShrinkageTally::simulate(&mut rng, deviation);
        let gain = 1.0 - tally.shrunken_squares / tally.own_squares;
        assert!(gain > least_gain, "gain {gain} at a deviation of {deviation}");
        let left = (tally.shrunken_excess / tally.own_excess).abs();
        assert!(left < 0.4, "{left} of the excess is left at a deviation of {deviation}");
        let covered = tally.covered as f64 / (6 * EXPERIMENTS) as f64;
        assert!((0.925..0.985).contains(&covered), "{covered} at a deviation of {deviation}");
    }
}
