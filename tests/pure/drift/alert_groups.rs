//! Findings of one cause are one alert, and an independent finding is visible.

use segmentd::domain::drift::{
    AlarmRecord, AlertAnnouncement, AlertMembership, ApiKeyShare, CheckedAlarm, ComparedQuantity,
    DecisiveKey, DriftAlarmRules, DriftAlertKey, DriftAlertText, DriftChange, DriftFinding,
    FeatureInputs, FiringAlert, FiringAlerts, ScoreSource, Severity, announcement_of,
    assign_alerts, step_alarms, step_alarms_without_findings,
};
use segmentd::domain::feature::FeatureSet;
use segmentd::domain::time::{MILLIS_PER_HOUR, Timestamp};

use crate::feature::support::RETAIL;

/// Hours of a window.
const WINDOW: i64 = 24;
const SOURCE: ScoreSource = ScoreSource::Rows;
/// Fires at once, and ends after one check.
const RULES: DriftAlarmRules = DriftAlarmRules {
    findings: 1,
    checks: 1,
    critical_checks: 1,
    recovery_checks: 1,
    cool_down_millis: 20 * MILLIS_PER_HOUR,
};

fn at(hour: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 * MILLIS_PER_HOUR + hour * MILLIS_PER_HOUR)
}

fn finding(about: ComparedQuantity, feature: Option<&str>, severity: Severity) -> DriftFinding {
    DriftFinding {
        about,
        feature: feature.map(Into::into),
        segment: None,
        title: feature.unwrap_or("The model").into(),
        owner: feature.map(|_| "crm@example.com".into()),
        unit: None,
        severity,
        size: 1.0,
        relative_size: 1.0,
        p_value: 0.0,
        adjusted_p_value: 0.0,
        effective_sample_size: None,
        change: DriftChange {
            subject: feature.unwrap_or("The model").into(),
            predicate: "rose".into(),
            comparison: "typically 3 min, 2 min at training".into(),
        },
        statistics: "PSI 1".into(),
        advice: String::new(),
        decisive_key: None,
    }
}

fn values(feature: &str) -> DriftFinding {
    finding(ComparedQuantity::Values, Some(feature), Severity::Warning)
}

fn inputs() -> FeatureInputs {
    [("spend", "Order"), ("orders", "Order"), ("basket", "Order"), ("visits", "Page Viewed")]
        .map(|(feature, input)| (feature.into(), input.into()))
        .into()
}

const ORDERS: &str = "drift:values:rows:Order:crm@example.com";

/// The alarms and the alerts of a source, check by check.
#[derive(Default)]
struct Checks {
    records: Vec<AlarmRecord>,
    firing: Vec<(DriftAlertKey, FiringAlert)>,
}

/// An alert after a check: its key, its firing parts, its announcement.
type Alert = (String, usize, Option<AlertAnnouncement>);

impl Checks {
    fn check(&mut self, hour: i64, findings: &[DriftFinding]) -> Vec<Alert> {
        let records = std::mem::take(&mut self.records);
        let alarms = step_alarms(findings, SOURCE, records, &RULES, at(hour));
        self.group(alarms, hour)
    }

    fn group(&mut self, mut alarms: Vec<CheckedAlarm<'_>>, hour: i64) -> Vec<Alert> {
        let now = at(hour);
        let mut firing = FiringAlerts::new(WINDOW * MILLIS_PER_HOUR, now);
        for (key, alert) in &self.firing {
            firing.insert(key.clone(), alert.clone());
        }
        assign_alerts(&mut alarms, SOURCE, &inputs(), &mut firing, now);
        let mut keys: Vec<DriftAlertKey> = alarms
            .iter()
            .filter(|alarm| alarm.record.alarm.is_firing())
            .filter_map(CheckedAlarm::alert_key)
            .collect();
        keys.sort();
        keys.dedup();
        let mut alerts = Vec::new();
        let known = std::mem::take(&mut self.firing);
        for key in keys {
            let known = known.iter().find(|(known, _)| *known == key).map(|(_, alert)| alert);
            let parts: Vec<&CheckedAlarm<'_>> = alarms
                .iter()
                .filter(|alarm| alarm.record.alarm.is_firing())
                .filter(|alarm| alarm.alert_key().as_ref() == Some(&key))
                .collect();
            let announcement = announcement_of(&parts, known.is_some());
            alerts.push((key.to_string(), parts.len(), announcement));
            let is_news = announcement == Some(AlertAnnouncement::Again);
            let mut subjects = known.map(|alert| alert.subjects.clone()).unwrap_or_default();
            for finding in parts.iter().filter_map(|part| part.finding) {
                subjects.extend(finding.feature.clone());
            }
            let announced_at = match known {
                Some(alert) if !is_news => alert.announced_at,
                _ => now,
            };
            let alert = FiringAlert { severity: Severity::Warning, announced_at, subjects };
            self.firing.push((key, alert));
        }
        self.records = alarms.into_iter().map(|alarm| alarm.record).collect();
        alerts
    }
}

fn alert(key: &str, parts: usize, announcement: AlertAnnouncement) -> Alert {
    (key.into(), parts, Some(announcement))
}

#[test]
fn findings_that_begin_in_one_window_are_one_alert() {
    let mut checks = Checks::default();
    let missing = finding(ComparedQuantity::Missing, Some("orders"), Severity::Notice);
    let segments = finding(ComparedQuantity::Segments, None, Severity::Critical);
    let first = [missing.clone(), values("spend"), segments.clone(), values("visits")];
    assert_eq!(checks.check(0, &first), [alert(ORDERS, 4, AlertAnnouncement::Normal)]);
    // Another one within the window is a silent part of the same alert.
    let second = [missing, values("spend"), segments, values("visits"), values("basket")];
    assert_eq!(checks.check(20, &second), [alert(ORDERS, 5, AlertAnnouncement::Louder)]);
    // Parts end, and the alert goes on under its key until the last one has ended.
    let last = [values("visits")];
    assert_eq!(checks.check(21, &last), [alert(ORDERS, 1, AlertAnnouncement::Normal)]);
    assert_eq!(checks.check(22, &[]), []);
}

/// The owner knows of the first event only, so the second one is told.
#[test]
fn another_event_in_a_later_check_is_an_alert_of_its_own() {
    let mut checks = Checks::default();
    checks.check(0, &[values("spend")]);
    let pages = "drift:values:rows:Page_Viewed:crm@example.com";
    assert_eq!(
        checks.check(5, &[values("spend"), values("visits")]),
        [alert(ORDERS, 1, AlertAnnouncement::Normal), alert(pages, 1, AlertAnnouncement::Normal)]
    );
}

#[test]
fn a_later_finding_is_announced_as_a_new_part_or_as_an_alert_of_its_own() {
    let mut checks = Checks::default();
    checks.check(0, &[values("spend")]);
    // The same event: a new part, announced once.
    let two = [values("spend"), values("orders")];
    assert_eq!(checks.check(30, &two), [alert(ORDERS, 2, AlertAnnouncement::Again)]);
    assert_eq!(checks.check(31, &two), [alert(ORDERS, 2, AlertAnnouncement::Normal)]);
    // A part that ends and returns is no news.
    assert_eq!(checks.check(32, &[values("spend")]), [alert(ORDERS, 1, AlertAnnouncement::Normal)]);
    assert_eq!(checks.check(90, &two), [alert(ORDERS, 2, AlertAnnouncement::Louder)]);
    // Another event, and missing values: alerts of their own.
    let missing = finding(ComparedQuantity::Missing, Some("basket"), Severity::Warning);
    let three = [values("spend"), values("orders"), values("visits")];
    let pages = "drift:values:rows:Page_Viewed:crm@example.com";
    assert_eq!(
        checks.check(120, &three),
        [alert(ORDERS, 2, AlertAnnouncement::Normal), alert(pages, 1, AlertAnnouncement::Normal)]
    );
    let four = [values("spend"), values("orders"), values("visits"), missing];
    let alerts = checks.check(160, &four);
    assert_eq!(alerts.len(), 3, "{alerts:?}");
    let absent = "drift:missing:rows:Order:crm@example.com";
    assert!(alerts.contains(&alert(absent, 1, AlertAnnouncement::Normal)), "{alerts:?}");
}

#[test]
fn a_change_of_the_answers_moves_to_the_features_that_explain_it() {
    let mut checks = Checks::default();
    let segments = finding(ComparedQuantity::Segments, None, Severity::Warning);
    let model = "drift:model:rows";
    assert_eq!(
        checks.check(0, std::slice::from_ref(&segments)),
        [alert(model, 1, AlertAnnouncement::Normal)]
    );
    let both = [segments, values("spend")];
    assert_eq!(checks.check(3, &both), [alert(ORDERS, 2, AlertAnnouncement::Normal)]);
    // The features of this alert end, and those of another one explain the rest.
    let pages = "drift:values:rows:Page_Viewed:crm@example.com";
    let [segments, spend] = both;
    checks.check(60, &[segments.clone(), spend, values("visits")]);
    let rest = checks.check(61, &[segments, values("visits")]);
    assert_eq!(rest, [alert(pages, 2, AlertAnnouncement::Normal)]);
}

#[test]
fn an_alert_that_returns_within_the_cool_down_is_the_same_and_silent() {
    let mut checks = Checks::default();
    let two = [values("spend"), values("visits")];
    checks.check(0, &two);
    assert_eq!(checks.check(1, &[]), []);
    let returned = checks.check(2, &two);
    assert_eq!(returned, [alert(ORDERS, 2, AlertAnnouncement::ReopenSilently)]);
    // With a new part it is notified.
    checks.check(3, &[]);
    let three = [values("spend"), values("visits"), values("basket")];
    assert_eq!(checks.check(4, &three), [alert(ORDERS, 3, AlertAnnouncement::Louder)]);
}

#[test]
fn with_too_few_rows_every_part_ends() {
    let mut checks = Checks::default();
    checks.check(0, &[values("spend"), values("visits")]);
    let records = std::mem::take(&mut checks.records);
    let alarms = step_alarms_without_findings(records, &RULES, at(1));
    assert_eq!(alarms.len(), 2);
    assert_eq!(checks.group(alarms, 1), []);
}

#[test]
fn rows_of_one_key_are_an_alert_without_an_owner() {
    let key = ApiKeyShare { key: "ab12".into(), rows: 300, share: 0.3 };
    let mut one = values("spend");
    one.decisive_key = Some(DecisiveKey { key, is_contradicted: true });
    let mut checks = Checks::default();
    let alerts = checks.check(0, &[one, values("orders")]);
    let of_key = "drift:one_key:rows:ab12";
    assert_eq!(
        alerts,
        [alert(ORDERS, 1, AlertAnnouncement::Normal), alert(of_key, 1, AlertAnnouncement::Normal)]
    );
    let key = DriftAlertKey::parse(of_key).unwrap();
    assert_eq!((key.owner(), key.api_key()), (None, Some("ab12")));
}

#[test]
fn keys_are_parsed_as_they_are_written() {
    for text in
        [ORDERS, "drift:missing:events:-:a: team", "drift:model:customers", "drift:one_key:rows:k"]
    {
        assert_eq!(DriftAlertKey::parse(text).unwrap().to_string(), text);
    }
    for text in ["orders", "drift:values:rows", "drift:model:rows:x", "drift:values:lake:a:b"] {
        assert_eq!(DriftAlertKey::parse(text), None, "{text}");
    }
    let key = DriftAlertKey::parse("drift:missing:events:-:a: team").unwrap();
    assert_eq!((key.owner(), key.input()), (Some("a: team"), None));
    // A colon in the name of an event would end it.
    let inputs = [("spend".into(), "Order: paid".into())].into();
    let key = DriftAlertKey::of(&values("spend"), SOURCE, &inputs);
    assert_eq!(DriftAlertKey::parse(&key.to_string()).unwrap(), key);
}

#[test]
fn an_announcement_in_the_future_does_not_swallow_later_findings() {
    let key = DriftAlertKey::parse(ORDERS).unwrap();
    let mut firing = FiringAlerts::new(WINDOW * MILLIS_PER_HOUR, at(0));
    let subjects = ["spend".into()].into();
    let alert = FiringAlert { severity: Severity::Notice, announced_at: at(999), subjects };
    firing.insert(key.clone(), alert);
    let joined = firing.join(&key, &values("orders"), at(0));
    assert_eq!(joined, (key, AlertMembership::JoinsLater));
}

#[test]
fn the_first_sentence_names_what_the_parts_share() {
    let key = DriftAlertKey::parse(ORDERS).unwrap();
    let (lead, joined) = (values("Delay"), values("Orders"));
    let text = DriftAlertText {
        key: &key,
        lead: &lead,
        worst: None,
        joined: &[],
        features: 7,
        parts: 9,
        first_since: Timestamp::parse("2026-02-09T14:00:00Z").unwrap(),
        last_since: Timestamp::parse("2026-02-09T15:00:00Z").unwrap(),
        window_millis: WINDOW * MILLIS_PER_HOUR,
    };
    assert_eq!(text.title(), "Delay and 6 other features changed");
    assert_eq!(
        text.description(),
        "7 features have changed together in the rows sent to be scored since 9 Feb 2026, 14:00 \
         UTC, most of all Delay, which rose: typically 3 min, 2 min at training.\n\nStatistics \
         (Delay): PSI 1."
    );
    let single = DriftAlertText { features: 1, parts: 1, ..text };
    assert_eq!(single.title(), "Delay rose");
    assert!(single.description().starts_with(
        "Delay rose in the rows sent to be scored (since 9 Feb 2026, 14:00 UTC): typically 3 min, "
    ));
    let last_since = Timestamp::parse("2026-02-12T14:00:00Z").unwrap();
    let joined = [&joined];
    let later = DriftAlertText { features: 2, parts: 2, joined: &joined, last_since, ..single };
    assert_eq!(later.title(), "New: Orders rose");
    assert!(later.description().starts_with("New: Orders rose: typically 3 min, "));
    assert!(later.description().contains("the last since 12 Feb 2026, 14:00 UTC"));
}

#[test]
fn features_of_connected_events_have_one_input() {
    let inputs = FeatureSet::parse(RETAIL).unwrap().inputs();
    let of = |feature: &str| inputs.get(feature).map(|input| &**input);
    // Net of returns and not, and a ratio of both.
    for feature in ["orders", "spend_365d", "discount_365d", "order_trend", "last_store"] {
        assert_eq!(of(feature), Some("Order Completed"), "{feature}");
    }
    assert_eq!(of("campaign_coupons_365d"), Some("Coupon Redeemed"));
    assert_eq!(inputs.len(), FeatureSet::parse(RETAIL).unwrap().features().len());
}
