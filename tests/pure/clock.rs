//! Timestamps in the future, written by a wrong clock, block nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segmentd::domain::alert::{
    AlertRoute, AlertTopic, ChannelRoute, NotifiedState, RoutedAlert, is_notification_due,
};
use segmentd::domain::drift::{AlarmTransition, DriftAlarm, DriftAlarmRules, Severity};
use segmentd::domain::event::source_volume::{HourlyEvents, SourceHistory};
use segmentd::domain::hysteresis::{HysteresisPolicy, MoveDecision, SegmentDistances};
use segmentd::domain::time::{MILLIS_PER_DAY, MILLIS_PER_HOUR, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn later(days: i64) -> Timestamp {
    NOW.plus_millis(days * MILLIS_PER_DAY)
}

#[test]
fn an_alarm_resolved_in_the_future_fires_again() {
    let rules = DriftAlarmRules {
        findings: 1,
        checks: 1,
        critical_checks: 1,
        recovery_checks: 1,
        cool_down_millis: MILLIS_PER_HOUR,
    };
    for (over_at, expected) in [
        (later(40), AlarmTransition::Fire(Severity::Warning)),
        (NOW.plus_millis(-MILLIS_PER_HOUR / 2), AlarmTransition::ReopenSilently(Severity::Warning)),
    ] {
        let mut alarm = DriftAlarm::default();
        let found = Some(Severity::Warning);
        assert_eq!(
            alarm.apply_check(found, over_at, &rules),
            AlarmTransition::Fire(Severity::Warning)
        );
        assert_eq!(alarm.apply_check(None, over_at, &rules), AlarmTransition::Resolve);
        assert_eq!(alarm.is_idle(NOW, &rules), over_at > NOW);
        assert_eq!(alarm.apply_check(found, NOW, &rules), expected);
    }
}

#[test]
fn a_move_in_the_future_does_not_start_a_minimum_stay() {
    let policy = HysteresisPolicy { hysteresis: 0.0, minimum_stay_millis: MILLIS_PER_DAY };
    let distances = SegmentDistances { nearest: 1.0, current: 2.0 };
    let decide = |moved_at| policy.decide_move(distances, Some(moved_at), NOW);
    assert_eq!(decide(later(40)), MoveDecision::Moves);
    assert_eq!(decide(NOW), MoveDecision::StaysUntil(later(1)));
}

#[test]
fn an_alert_raised_in_the_future_is_escalated() {
    let route = AlertRoute {
        owners: vec![],
        topics: vec![],
        min_severity: Severity::Notice,
        escalation_delay_seconds: 600,
    };
    let is_owed_since = |fired_at| {
        let alert = RoutedAlert {
            key: "drift:values:spend:rows".into(),
            topic: AlertTopic::Drift,
            owner: None,
            severity: Severity::Warning,
            fired_at,
            announced_at: fired_at,
            is_acknowledged: false,
            is_notification_suppressed: false,
        };
        let channel = ChannelRoute { channel_id: "channel", route: &route };
        is_notification_due(&alert, channel, NotifiedState::NotNotified, &[], NOW)
    };
    assert!(is_owed_since(later(40)));
    assert!(!is_owed_since(NOW));
    assert!(is_owed_since(later(-1)));
}

#[test]
fn a_source_with_events_in_the_future_was_active_until_its_last_hour() {
    let sent = HourlyEvents { events: 5, longest_gap_millis: 0 };
    let hours = BTreeMap::from([
        (NOW.hour() - 30, sent),
        (NOW.hour() - 7, sent),
        (later(40).hour(), HourlyEvents { longest_gap_millis: 40 * MILLIS_PER_DAY, ..sent }),
    ]);
    let past = SourceHistory { first_at: later(-9), last_at: later(40), hours };
    let until = past.clone().truncated_at(NOW);
    assert_eq!(until.last_at.hour(), NOW.hour() - 6);
    assert_eq!(until.hours.len(), 2);
    assert_eq!(until.first_at, later(-9));
    let right = SourceHistory { last_at: NOW, ..past };
    assert_eq!(right.clone().truncated_at(NOW).hours.len(), right.hours.len());
}

proptest! {
    /// The text of an instant is that of chrono, and is parsed back.
    #[test]
    fn instants_are_written_as_rfc_3339(millis in -62_167_219_200_000..=253_402_300_799_999_i64) {
        let instant = Timestamp::from_millis(millis);
        let expected = chrono::DateTime::from_timestamp_millis(millis).unwrap();
        let expected = expected.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        prop_assert_eq!(instant.to_string(), expected.clone());
        prop_assert_eq!(serde_json::to_string(&instant).unwrap(), format!("\"{expected}\""));
        prop_assert_eq!(Timestamp::parse(&expected), Some(instant));
    }
}
