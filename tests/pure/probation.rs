//! A new model stays unless it answers badly, more than chance and more than the one
//! before it; and a policy is within its ranges or says where it is not.

use segmentd::domain::deployment::policy::{Action, Actions, Policy, Probation};
use segmentd::domain::deployment::probation::{Observed, SegmentAgreement, verdict};
use segmentd::domain::drift::{Check, Limits, Rate, RowCount, Severity, check};
use segmentd::domain::feature::{FeatureRow, Value};

use crate::drift_check::window_of;
use crate::model_support::{shop_model, shoppers};

/// Every so many of the rows is from elsewhere.
fn checked(rows: usize, strange: Option<usize>) -> Check {
    let model = shop_model().model;
    let mut rows: Vec<FeatureRow> = shoppers(rows, 9);
    for row in rows.iter_mut().step_by(strange.unwrap_or(usize::MAX)).filter(|_| strange.is_some())
    {
        row.0[0] = Value::Number(1e6);
        row.0[1] = Value::Number(-500.0);
    }
    check(&model, &window_of(&model, &rows, 0.01), &Limits::default()).unwrap()
}

fn of(counted: u64, all: u64) -> RowCount {
    RowCount { counted, all }
}

fn both(customers: u64, share: f64) -> Option<SegmentAgreement> {
    Some(SegmentAgreement { customers, share })
}

fn alone(now: &Check) -> Observed<'_> {
    Observed { now, before: None, agreement: None }
}

#[test]
fn a_model_that_answers_as_promised_stays() {
    assert_eq!(verdict(&Probation::default(), &alone(&checked(2000, None))), None);
}

#[test]
fn one_with_many_outliers_goes_and_it_is_said_why() {
    let now = checked(2000, Some(8));
    let why = verdict(&Probation::default(), &alone(&now)).unwrap();
    assert!(why.contains("are outliers; the promised rate is 1.0 %"), "{why}");
    // Of too few rows nothing is said, and a higher limit is not reached.
    let patient = Probation { minimum_rows: 2001, ..Probation::default() };
    assert_eq!(verdict(&patient, &alone(&now)), None);
    let lax = Probation { outliers: 30.0, ..Probation::default() };
    assert_eq!(verdict(&lax, &alone(&now)), None);
}

/// It is the world that has changed, not the model.
#[test]
fn one_that_is_no_worse_than_the_one_before_stays() {
    let (now, before) = (checked(2000, Some(8)), checked(2000, Some(10)));
    let observed = Observed { before: Some(&before), ..alone(&now) };
    assert_eq!(verdict(&Probation::default(), &observed), None);
    // Of what the one before met too little is known to compare with.
    let little = checked(100, Some(10));
    let observed = Observed { before: Some(&little), ..alone(&now) };
    assert!(verdict(&Probation::default(), &observed).is_some());
}

#[test]
fn one_that_leaves_many_in_no_segment_goes() {
    let mut now = checked(2000, None);
    now.unassigned = Rate::of(of(20, 1000), of(500, 2000));
    let why = verdict(&Probation::default(), &alone(&now)).unwrap();
    assert_eq!(why, "25 % of its scores are in no segment; at training the share was 2.0 %");
    let mut before = checked(2000, None);
    before.unassigned = Rate::of(of(20, 1000), of(300, 2000));
    let observed = Observed { before: Some(&before), ..alone(&now) };
    assert_eq!(verdict(&Probation::default(), &observed), None);
}

#[test]
fn one_that_the_one_before_disagrees_with_goes_where_that_is_asked_for() {
    let now = checked(2000, None);
    let observed = Observed { agreement: both(800, 0.55), ..alone(&now) };
    assert_eq!(verdict(&Probation::default(), &observed), None);
    let strict = Probation { disagreement: 0.3, ..Probation::default() };
    let why = verdict(&strict, &observed).unwrap();
    let puts = "it puts 45 % of the customers into another segment than the previous model does";
    assert_eq!(why, puts);
    let few = Observed { agreement: both(300, 0.55), ..alone(&now) };
    assert_eq!(verdict(&strict, &few), None);
    let alike = Observed { agreement: both(800, 0.75), ..alone(&now) };
    assert_eq!(verdict(&strict, &alike), None);
}

#[test]
fn a_policy_is_within_its_ranges_or_says_where_it_is_not() {
    let policy = Policy::default();
    assert_eq!(policy.clone().check(), Ok(policy.clone()));
    let mut wrong = policy.clone();
    wrong.drift.level = 0.0;
    wrong.drift.share.warning = 0.5;
    wrong.probation.outliers = f64::NAN;
    wrong.refresh.confidence = 1.5;
    let faults = wrong.check().unwrap_err();
    let paths: Vec<&str> = faults.0.iter().map(|fault| &*fault.path).collect();
    assert_eq!(paths, ["drift.level", "drift.share", "probation.outliers", "refresh.confidence"]);
    let actions = Actions { critical: vec![Action::Freeze], ..Actions::default() };
    assert_eq!(actions.at(Severity::Critical), [Action::Freeze]);
    assert_eq!(actions.at(Severity::Warning), []);
    // What is written is read again; what scoring promises is not of it.
    let mut elsewhere = policy.clone();
    elsewhere.drift.alpha = 0.05;
    let text = serde_json::to_string(&elsewhere).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
}

#[test]
fn worn_out_is_a_model_that_is_less_sure_than_asked_for() {
    let now = checked(2000, None);
    let mean = now.confidence.unwrap();
    let mut policy = Policy::default();
    assert!(!policy.is_worn_out(&now));
    policy.refresh.confidence = mean + 0.01;
    assert!(policy.is_worn_out(&now));
    // The mean is that of the scores, to half a bin.
    let model = shop_model().model;
    let mut scratch = model.scratch();
    let rows = shoppers(2000, 9);
    let all: f64 =
        rows.iter().map(|row| f64::from(model.score(row, &mut scratch).confidence())).sum();
    let exact = all / rows.len() as f64;
    assert!((mean - exact).abs() < 0.025, "{mean} is not {exact}");
}
