//! The gate of the sample ratio: results of a mismatched experiment are withheld.

use segmentd::domain::experiment::analysis::BlankReason;
use segmentd::domain::experiment::sample_ratio::SampleRatioVerdict;
use segmentd::domain::experiment::{
    AnalysisSettings, CustomerOutcome, ExposureCounts, GatedResults, MomentTable, OverrideReason,
    SampleRatioReport, analyse_experiment,
};

const HALVES: [f64; 2] = [0.5, 0.5];

fn report(overall: &[u64], by_segment: &[Vec<u64>], by_day: &[Vec<u64>]) -> SampleRatioReport {
    SampleRatioReport::check(&ExposureCounts { overall, by_segment, by_day }, &HALVES)
}

#[test]
fn results_of_a_balanced_experiment_are_readable() {
    let gated = GatedResults::new(report(&[5_010, 4_990], &[], &[]), "effect");
    assert_eq!(gated.read(), Ok(&"effect"));
    assert!(format!("{gated:?}").contains("effect"));
}

#[test]
fn results_of_a_mismatched_experiment_need_an_override_with_a_reason() {
    let gated = GatedResults::new(report(&[5_000, 5_400], &[], &[]), "the effect");
    let withheld = gated.read().unwrap_err();
    assert!(withheld.to_string().contains("overall p = 8.77e-5"), "{withheld}");
    assert!(!format!("{gated:?}").contains("the effect"));
    assert_eq!(OverrideReason::new("  "), Err(BlankReason));
    let reason = OverrideReason::new(" bots were removed from one variation ").unwrap();
    let overridden = gated.override_mismatch(reason);
    assert_eq!(overridden.results, "the effect");
    assert_eq!(overridden.reason.as_str(), "bots were removed from one variation");
    assert!(overridden.report.is_mismatched());
}

/// A segment and a day that cancel in the total, each in a family of its own.
#[test]
fn mismatches_of_segments_and_days_are_found() {
    let balanced = vec![500, 500];
    let segments = [balanced.clone(), vec![600, 400], vec![400, 600], vec![2, 3]];
    let found = report(&[1_502, 1_503], &segments, std::slice::from_ref(&balanced));
    assert_eq!(found.mismatched_segments().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(found.by_segment[3].verdict, SampleRatioVerdict::TooFewCustomers);
    assert!(found.is_mismatched() && !found.overall.is_mismatched());
    let days = [balanced, vec![600, 400]];
    let found = report(&[1_100, 900], &[], &days);
    assert_eq!(found.mismatched_days().collect::<Vec<_>>(), [1]);
}

/// p = 0.0005 is a mismatch on its own, but not as one of ten.
#[test]
fn the_limit_is_divided_by_the_number_of_tests() {
    let odd = vec![555, 445];
    assert!(report(&[1, 1], std::slice::from_ref(&odd), &[]).is_mismatched());
    let mut family = vec![vec![500, 500]; 9];
    family.push(odd);
    assert!(!report(&[1, 1], &family, &[]).is_mismatched());
}

#[test]
fn customers_without_a_planned_share_are_a_mismatch() {
    let counts = ExposureCounts { overall: &[500, 500, 1], by_segment: &[], by_day: &[] };
    assert!(SampleRatioReport::check(&counts, &[0.5, 0.5, 0.0]).is_mismatched());
    let counts = ExposureCounts { overall: &[500, 500, 0], by_segment: &[], by_day: &[] };
    assert!(!SampleRatioReport::check(&counts, &[0.5, 0.5, 0.0]).is_mismatched());
}

#[test]
fn an_analysis_compares_every_treatment_with_the_control() {
    let mut table = MomentTable::new(3, 2);
    for row in 0..600_u32 {
        let (variation, segment) = ((row % 3) as usize, (row / 3 % 2) as usize);
        let before = f64::from(row / 6 % 10);
        let metric = before + f64::from(row * 7 % 5) + variation as f64;
        let outcome = CustomerOutcome::new(metric, before);
        table.cell_mut(variation, segment).unwrap().observe(&outcome);
    }
    let counts = ExposureCounts { overall: &[200, 200, 200], by_segment: &[], by_day: &[] };
    let report = SampleRatioReport::check(&counts, &[1.0 / 3.0; 3]);
    let gated = analyse_experiment(&table, &AnalysisSettings::default(), report);
    let results = gated.read().unwrap();
    assert_eq!(results.iter().map(|one| one.variation).collect::<Vec<_>>(), [1, 2]);
    for result in results {
        let effect = result.overall.best().difference;
        let [low, high] = effect.interval(0.05);
        let always = &result.always_valid_difference;
        assert!(always.interval[0] < low && high < always.interval[1]);
        assert!(always.p_value > effect.p_value());
        assert!(result.overall.adjusted.unwrap().variance_reduction > 0.5);
        assert!(result.always_valid_lift.is_some());
        assert_eq!(result.segments.segments.len(), 2);
    }
}
