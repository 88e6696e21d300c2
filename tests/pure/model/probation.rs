//! Probation of a new model: it is rolled back only on significant evidence against it and
//! its predecessor. Ranges of the policy.

use segmentd::domain::deployment::policy::{
    AutomationPolicy, DriftAction, DriftActions, ProbationLimits,
};
use segmentd::domain::deployment::probation::{
    EvidenceDoubt, ProbationObservations, ProbationVerdict, SegmentAgreement, rollback_reason,
    weigh_verdict,
};
use segmentd::domain::drift::{
    ApiKeyShare, DesignEffects, DriftCheck, DriftLimits, RateComparison, RowCount, Severity,
    check_window,
};
use segmentd::domain::feature::{FeatureRow, FeatureValue};

use crate::drift::check::window_of;
use crate::model::support::{shop_model, shoppers};

/// Every n-th row is an outlier.
fn checked(rows: usize, strange: Option<usize>) -> DriftCheck {
    let model = shop_model().model;
    let mut rows: Vec<FeatureRow> = shoppers(rows, 9);
    for row in rows.iter_mut().step_by(strange.unwrap_or(usize::MAX)).filter(|_| strange.is_some())
    {
        row.0[0] = FeatureValue::Number(1e6);
        row.0[1] = FeatureValue::Number(-500.0);
    }
    check_window(&model, &window_of(&model, &rows, 0.01), &DriftLimits::default()).unwrap()
}

fn of(counted: u64, all: u64) -> RowCount {
    RowCount { counted, all }
}

fn agreement(customers: u64, share: f64) -> SegmentAgreement {
    SegmentAgreement { customers, share }
}

fn alone(now: &DriftCheck) -> ProbationObservations<'_> {
    ProbationObservations { now, before: None, agreement: None }
}

#[test]
fn a_calibrated_model_stays() {
    assert_eq!(rollback_reason(&ProbationLimits::default(), &alone(&checked(2000, None))), None);
}

#[test]
fn a_model_with_many_outliers_is_rolled_back_with_a_reason() {
    let now = checked(2000, Some(8));
    let why = rollback_reason(&ProbationLimits::default(), &alone(&now)).unwrap();
    assert!(why.contains("are outliers; the promised rate is 1.0 %"), "{why}");
    // Too few rows give no verdict, and a higher limit is not reached.
    let patient = ProbationLimits { minimum_rows: 2001, ..ProbationLimits::default() };
    assert_eq!(rollback_reason(&patient, &alone(&now)), None);
    let lax = ProbationLimits { outliers: 30.0, ..ProbationLimits::default() };
    assert_eq!(rollback_reason(&lax, &alone(&now)), None);
}

/// The customers have changed, not the model.
#[test]
fn a_model_no_worse_than_its_predecessor_stays() {
    let (now, before) = (checked(2000, Some(8)), checked(2000, Some(10)));
    let observed = ProbationObservations { before: Some(&before), ..alone(&now) };
    assert_eq!(rollback_reason(&ProbationLimits::default(), &observed), None);
    // The predecessor has too few rows for a comparison.
    let little = checked(100, Some(10));
    let observed = ProbationObservations { before: Some(&little), ..alone(&now) };
    assert!(rollback_reason(&ProbationLimits::default(), &observed).is_some());
}

#[test]
fn a_model_with_many_unassigned_customers_is_rolled_back() {
    let mut now = checked(2000, None);
    now.unassigned = RateComparison::of(of(20, 1000), of(500, 2000), DesignEffects::INDEPENDENT);
    let why = rollback_reason(&ProbationLimits::default(), &alone(&now)).unwrap();
    assert_eq!(why, "25 % of its scores are in no segment; at training the share was 2.0 %");
    let mut before = checked(2000, None);
    before.unassigned = RateComparison::of(of(20, 1000), of(300, 2000), DesignEffects::INDEPENDENT);
    let observed = ProbationObservations { before: Some(&before), ..alone(&now) };
    assert_eq!(rollback_reason(&ProbationLimits::default(), &observed), None);
}

#[test]
fn a_model_that_disagrees_with_its_predecessor_is_rolled_back_if_configured() {
    let now = checked(2000, None);
    let observed = ProbationObservations { agreement: Some(agreement(800, 0.55)), ..alone(&now) };
    assert_eq!(rollback_reason(&ProbationLimits::default(), &observed), None);
    let strict = ProbationLimits { disagreement: 0.3, ..ProbationLimits::default() };
    let why = rollback_reason(&strict, &observed).unwrap();
    let puts = "it puts 45 % of the customers into another segment than the previous model does";
    assert_eq!(why, puts);
    let few = ProbationObservations { agreement: Some(agreement(300, 0.55)), ..alone(&now) };
    assert_eq!(rollback_reason(&strict, &few), None);
    let alike = ProbationObservations { agreement: Some(agreement(800, 0.75)), ..alone(&now) };
    assert_eq!(rollback_reason(&strict, &alike), None);
}

#[test]
fn stored_customers_confirm_or_refute_bad_answers() {
    let limits = ProbationLimits::default();
    let bad = || ProbationVerdict::Bad { why: "many outliers".into() };
    let (usual, strange, few) = (checked(2000, None), checked(2000, Some(8)), checked(50, None));
    let unusual_rows = checked(2000, Some(2));
    let weigh = |verdict, answers, sample| weigh_verdict(&limits, verdict, answers, &alone(sample));
    assert_eq!(weigh(ProbationVerdict::Good, &usual, &strange), None);

    let confirmed = weigh(bad(), &usual, &strange).unwrap();
    assert_eq!(confirmed.doubt, None);
    assert!(
        confirmed.why.starts_with("many outliers; of 2000 stored customers: "),
        "{confirmed:?}"
    );
    let refuted = weigh(bad(), &usual, &usual).unwrap();
    assert_eq!(refuted.doubt, Some(EvidenceDoubt::StoredCustomers(2000)));

    // Too few customers to judge: the rows decide, unless they have drifted.
    assert_eq!(weigh(bad(), &usual, &few).unwrap().doubt, None);
    let drifted = weigh(bad(), &unusual_rows, &few).unwrap();
    let Some(EvidenceDoubt::DriftedRows(features)) = drifted.doubt else { panic!("{drifted:?}") };
    assert!(features.contains(&"Spend".into()), "{features:?}");
    let key = ApiKeyShare { key: "k".into(), rows: 600, share: 1.0 };
    let of_one = ProbationVerdict::BadBecauseOfOneKey { key: key.clone(), why: "bad".into() };
    assert_eq!(weigh(of_one, &usual, &few).unwrap().doubt, Some(EvidenceDoubt::OneKey(key)));
}

#[test]
fn a_policy_outside_its_ranges_is_refused_by_field() {
    let policy = AutomationPolicy::default();
    assert_eq!(policy.clone().check(), Ok(policy.clone()));
    let mut wrong = policy.clone();
    wrong.drift.significance_level = 0.0;
    wrong.drift.share.warning = 0.5;
    wrong.probation.outliers = f64::NAN;
    wrong.refresh.confidence = 1.5;
    let faults = wrong.check().unwrap_err();
    let paths: Vec<&str> = faults.0.iter().map(|fault| &*fault.path).collect();
    assert_eq!(
        paths,
        ["drift.significance_level", "drift.share", "probation.outliers", "refresh.confidence"]
    );
    let actions = DriftActions { critical: vec![DriftAction::Freeze], ..DriftActions::default() };
    assert_eq!(actions.for_severity(Severity::Critical), [DriftAction::Freeze]);
    assert_eq!(actions.for_severity(Severity::Warning), []);
    // A policy round-trips through JSON, without the outlier alpha of scoring.
    let mut elsewhere = policy.clone();
    elsewhere.drift.alpha = 0.05;
    let text = serde_json::to_string(&elsewhere).unwrap();
    assert_eq!(serde_json::from_str::<AutomationPolicy>(&text).unwrap(), policy);
}

#[test]
fn a_model_below_the_confidence_limit_is_due_for_retraining() {
    let now = checked(2000, None);
    let mean = now.confidence.unwrap();
    let mut policy = AutomationPolicy::default();
    assert!(!policy.is_worn_out(&now));
    policy.refresh.confidence = mean + 0.01;
    assert!(policy.is_worn_out(&now));
    // The mean is that of the scores, up to half a bin.
    let model = shop_model().model;
    let mut scratch = model.scratch();
    let rows = shoppers(2000, 9);
    let all: f64 =
        rows.iter().map(|row| f64::from(model.score(row, &mut scratch).confidence())).sum();
    let exact = all / rows.len() as f64;
    assert!((mean - exact).abs() < 0.025, "{mean} is not {exact}");
}
