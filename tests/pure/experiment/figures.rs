//! Effects, tests, intervals and plans equal those of `SciPy`, statsmodels and brute force.

use segmentd::domain::experiment::sample_ratio::SampleRatioVerdict;
use segmentd::domain::experiment::{
    ComparedEffect, EffectEstimate, ExperimentPlan, ExposureCounts, PlannedMetric,
    SampleRatioReport, SequentialDesign,
};
use segmentd::domain::stats::groups::meta_analysis::RandomEffects;
use segmentd::domain::stats::student::{student_tail, student_tail_quantile};
use segmentd::domain::stats::{Estimate, benjamini_hochberg};

use crate::experiment::support::{GoldenEffect, GoldenPower, assert_close, golden, moments};

#[test]
fn students_distribution_equals_scipy() {
    let golden = golden();
    for case in &golden.student {
        let found = student_tail(case.t, case.degrees);
        let error = (found / case.tail - 1.0).abs();
        assert!(error < 1e-9, "t {} degrees {}: {error}", case.t, case.degrees);
    }
    for case in &golden.student_quantiles {
        let found = student_tail_quantile(case.tail, case.degrees);
        assert_close(found, case.t, &format!("t of {} with {} degrees", case.tail, case.degrees));
    }
}

#[track_caller]
fn assert_effect(found: &EffectEstimate, expected: &GoldenEffect, what: &str) {
    assert_close(found.value, expected.value, what);
    assert_close(found.standard_error, expected.standard_error, what);
    assert_close(found.degrees_of_freedom, expected.degrees, what);
    assert_close(found.p_value(), expected.p_value, what);
    let [low, high] = found.interval(0.05);
    assert_close(low, expected.interval[0], what);
    assert_close(high, expected.interval[1], what);
}

#[test]
fn effects_equal_scipy_and_the_delta_method() {
    let mut adjusted_cases = 0;
    for case in golden().comparisons {
        let kind = case.kind.as_str();
        let found = ComparedEffect::compare(&moments(&case.treatment), &moments(&case.control));
        let found = found.unwrap();
        assert_effect(&found.unadjusted.difference, &case.difference, kind);
        assert_effect(&found.unadjusted.lift.unwrap(), &case.lift, kind);
        assert_eq!(found.adjusted.is_some(), case.adjusted.is_some(), "{kind}");
        if let (Some(found), Some(expected)) = (found.adjusted, case.adjusted) {
            assert_close(found.theta, expected.theta, kind);
            assert_close(found.variance_reduction, expected.variance_reduction, kind);
            assert_effect(&found.effect.difference, &expected.difference, kind);
            assert_effect(&found.effect.lift.unwrap(), &expected.lift, kind);
            adjusted_cases += 1;
        }
    }
    assert_eq!(adjusted_cases, 4);
}

#[test]
fn effects_without_variance_or_baseline_are_not_measured() {
    let constant = moments(&[[1.0, 1.0, 0.0]; 9]);
    assert_eq!(ComparedEffect::compare(&constant, &constant), None);
    let one = moments(&[[1.0, 1.0, 0.0]]);
    assert_eq!(ComparedEffect::compare(&one, &constant), None);
    // Denominators of 0.
    let empty = moments(&[[0.0, 0.0, 0.0]; 9]);
    assert_eq!(ComparedEffect::compare(&empty, &constant), None);
    // A control mean near 0 has no relative lift.
    let rows: Vec<[f64; 3]> = (0..99).map(|row| [f64::from(row) - 48.0, 1.0, 0.0]).collect();
    let near_zero = ComparedEffect::compare(&moments(&rows), &moments(&rows)).unwrap();
    assert_eq!((near_zero.unadjusted.lift, near_zero.adjusted), (None, None));
}

#[test]
fn always_valid_intervals_equal_the_mixture_likelihood_ratio() {
    for case in golden().always_valid {
        let design = SequentialDesign { alpha: case.alpha, tuned_customers: case.tuned_customers };
        let effect = Estimate { value: case.value, standard_error: case.standard_error };
        let [low, high] = design.interval(effect, case.customers);
        assert_close(low, case.interval[0], "lower bound");
        assert_close(high, case.interval[1], "upper bound");
        assert_close(design.p_value(effect, case.customers), case.p_value, "p-value");
        let is_significant = low > 0.0 || high < 0.0;
        assert_eq!(is_significant, design.p_value(effect, case.customers) < case.alpha);
    }
}

#[test]
fn sample_ratio_tests_equal_scipy() {
    for case in golden().sample_ratios {
        let counts = ExposureCounts { overall: &case.counts, by_segment: &[], by_day: &[] };
        let found = SampleRatioReport::check(&counts, &case.shares).overall;
        assert_close(found.chi_square, case.chi_square, "chi-square");
        assert_close(found.p_value, case.p_value, "p-value");
        assert_eq!(found.verdict == SampleRatioVerdict::Mismatched, case.p_value < 0.001);
    }
}

#[test]
fn adjusted_p_values_equal_statsmodels() {
    for case in golden().p_value_adjustments {
        let found = benjamini_hochberg(&case.p_values);
        for (found, expected) in found.iter().zip(&case.adjusted) {
            assert_close(*found, *expected, "adjusted p-value");
        }
    }
}

#[test]
fn heterogeneity_and_shrinkage_equal_statsmodels() {
    for case in golden().heterogeneity {
        let effects: Vec<Estimate> = case
            .effects
            .iter()
            .zip(&case.errors)
            .map(|(value, error)| Estimate { value: *value, standard_error: *error })
            .collect();
        let found = RandomEffects::combine(&effects).unwrap();
        assert_close(found.cochran_q, case.q, "Q");
        assert_close(found.heterogeneity_p_value, case.p_value, "p-value");
        assert_close(found.heterogeneity_share, case.i_squared, "I²");
        assert_close(found.between_variance, case.between_variance, "τ²");
        assert_close(found.mean.value, case.mean, "mean");
        assert_close(found.mean.standard_error, case.mean_error, "error of the mean");
        for (index, effect) in effects.into_iter().enumerate() {
            let shrunken = found.shrink(effect);
            assert_close(shrunken.value, case.shrunken[index], "shrunken effect");
            assert_close(shrunken.standard_error, case.shrunken_errors[index], "its error");
        }
    }
    let one = Estimate { value: 1.0, standard_error: 1.0 };
    assert_eq!(RandomEffects::combine(&[one]), None);
    assert_eq!(RandomEffects::combine(&[one, Estimate { standard_error: 0.0, ..one }]), None);
}

#[test]
fn plans_equal_statsmodels() {
    let golden = golden();
    for case in golden.power_of_means.iter().chain(&golden.power_of_proportions) {
        let plan = plan(case);
        let power = plan.power(case.difference, case.customers).unwrap();
        assert_close(power, case.power, "power");
        let needed = plan.required_sample(case.difference, 0.8).unwrap();
        assert_close(needed.control_customers, case.needed, "customers");
        assert_close(needed.treatment_customers, case.needed * case.ratio, "treated customers");
        let detectable = plan.minimum_detectable_difference(case.customers, 0.8).unwrap();
        assert_close(detectable, case.detectable, "detectable difference");
        let customers = needed.control_customers.ceil() + needed.treatment_customers.ceil();
        assert_eq!(needed.days(customers / 2.0), 2.0);
    }
}

fn plan(case: &GoldenPower) -> ExperimentPlan {
    let metric = match (case.deviation, case.rate) {
        (Some(standard_deviation), _) => PlannedMetric::Mean { standard_deviation },
        (None, rate) => PlannedMetric::Proportion { rate: rate.unwrap() },
    };
    ExperimentPlan { metric, alpha: case.alpha, treatment_ratio: case.ratio }
}

#[test]
fn impossible_plans_have_no_figures() {
    let metric = PlannedMetric::Proportion { rate: 0.9 };
    let plan = ExperimentPlan { metric, alpha: 0.05, treatment_ratio: 1.0 };
    assert_eq!(plan.power(0.2, 100.0), None);
    assert_eq!(plan.required_sample(0.2, 0.8), None);
    assert_eq!(plan.required_sample(0.0, 0.8), None);
    assert_eq!(plan.minimum_detectable_difference(5.0, 0.8), None);
}
