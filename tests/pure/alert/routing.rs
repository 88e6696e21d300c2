//! Routing of alerts to channels, and the schedule of retries.

use std::time::Duration;

use proptest::prelude::*;
use segmentd::domain::alert::schedule::{RETRY_DELAY_SECONDS, retry_delay};
use segmentd::domain::alert::{
    AlertRoute, AlertSilence, AlertState, AlertTopic, ChannelRoute, ChannelTopic,
    NotificationRecord, NotifiedState, RoutedAlert, channel_alert_key, is_notification_due,
};
use segmentd::domain::drift::Severity;
use segmentd::domain::time::Timestamp;

fn to<'a>(channel_id: &'a str, route: &'a AlertRoute) -> ChannelRoute<'a> {
    ChannelRoute { channel_id, route }
}

fn everything() -> AlertRoute {
    AlertRoute {
        owners: vec![],
        topics: vec![],
        min_severity: Severity::Notice,
        escalation_delay_seconds: 0,
    }
}

fn alert() -> RoutedAlert {
    RoutedAlert {
        key: "drift:values:spend:rows".into(),
        topic: AlertTopic::Drift,
        owner: Some("finance".into()),
        severity: Severity::Warning,
        fired_at: at(1000),
        announced_at: at(1000),
        is_acknowledged: false,
        is_notification_suppressed: false,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1000 * seconds)
}

fn firing(severity: Severity) -> NotificationRecord {
    NotificationRecord {
        state: AlertState::Firing,
        severity,
        created_at: at(1000),
        is_undeliverable: false,
    }
}

const END: NotificationRecord = NotificationRecord {
    state: AlertState::Resolved,
    severity: Severity::Warning,
    created_at: Timestamp::from_millis(1_000_000),
    is_undeliverable: false,
};

#[test]
fn a_route_selects_the_alerts_that_it_names() {
    let takes = |route: AlertRoute| route.selects(&alert());
    let owners = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert!(takes(everything()));
    assert!(takes(AlertRoute { owners: owners(&["other", "finance"]), ..everything() }));
    assert!(!takes(AlertRoute { owners: owners(&["other"]), ..everything() }));
    assert!(takes(AlertRoute {
        topics: vec![ChannelTopic::Alert(AlertTopic::Drift)],
        ..everything()
    }));
    assert!(!takes(AlertRoute {
        topics: vec![ChannelTopic::Alert(AlertTopic::Training)],
        ..everything()
    }));
    // Moves are no alerts, and are received only if the route names them.
    assert!(!takes(AlertRoute { topics: vec![ChannelTopic::Moves], ..everything() }));
    assert!(!everything().has_moves());
    assert!(takes(AlertRoute { min_severity: Severity::Warning, ..everything() }));
    assert!(!takes(AlertRoute { min_severity: Severity::Critical, ..everything() }));
    // An alert without an owner goes to channels without an owner filter.
    let nobodys = RoutedAlert { owner: None, ..alert() };
    assert!(everything().selects(&nobodys));
    assert!(!AlertRoute { owners: owners(&["finance"]), ..everything() }.selects(&nobodys));
}

#[test]
fn a_notified_channel_is_not_notified_again() {
    let owed = |notified: NotifiedState| {
        is_notification_due(&alert(), to("c", &everything()), notified, &[], at(1000))
    };
    let notified =
        |sent: &[NotificationRecord]| NotifiedState::from_notifications(sent.iter().copied());
    assert!(owed(notified(&[])));
    assert!(!owed(notified(&[firing(Severity::Warning)])));
    assert!(!owed(notified(&[firing(Severity::Critical)])));
    assert!(owed(notified(&[firing(Severity::Notice)])), "it got worse");
    assert!(owed(notified(&[firing(Severity::Critical), END])), "it is back");
    // An abandoned message is not retried, and a channel without the firing message gets no
    // resolution.
    let dead = NotificationRecord { is_undeliverable: true, ..firing(Severity::Warning) };
    assert!(!owed(notified(&[dead])));
    assert!(!notified(&[dead]).expects_resolution() && !notified(&[]).expects_resolution());
    assert!(notified(&[firing(Severity::Notice), dead]).expects_resolution());
    assert!(notified(&[dead, firing(Severity::Warning)]).expects_resolution());
    assert!(!notified(&[firing(Severity::Warning), END]).expects_resolution());
}

#[test]
fn an_alert_with_news_is_sent_once_more() {
    let news = RoutedAlert { announced_at: at(5000), ..alert() };
    let owed = |sent: &[NotificationRecord]| {
        let state = NotifiedState::from_notifications(sent.iter().copied());
        is_notification_due(&news, to("c", &everything()), state, &[], at(5000))
    };
    let before = firing(Severity::Critical);
    let after = NotificationRecord { created_at: at(5000), ..firing(Severity::Warning) };
    assert!(owed(&[before]));
    assert!(!owed(&[before, after]));
    // A channel that was created between both hears of it once.
    assert!(!owed(&[after]));
}

#[test]
fn escalation_silence_and_cool_down() {
    let owed = |alert: &RoutedAlert, route: &AlertRoute, silences: &[AlertSilence], now: i64| {
        is_notification_due(alert, to("c", route), NotifiedState::NotNotified, silences, at(now))
    };
    let later = AlertRoute { escalation_delay_seconds: 600, ..everything() };
    assert!(!owed(&alert(), &later, &[], 1599) && owed(&alert(), &later, &[], 1600));
    let acknowledged = RoutedAlert { is_acknowledged: true, ..alert() };
    assert!(!owed(&acknowledged, &later, &[], 9999) && owed(&acknowledged, &everything(), &[], 1));
    assert!(!owed(
        &RoutedAlert { is_notification_suppressed: true, ..alert() },
        &everything(),
        &[],
        1000
    ));

    let silence = AlertSilence { topic: None, owner: None, key_prefix: None, until: at(2000) };
    let text = |text: &str| Some(text.to_owned());
    for (silence, covers) in [
        (silence.clone(), true),
        (AlertSilence { topic: Some(AlertTopic::Drift), ..silence.clone() }, true),
        (AlertSilence { topic: Some(AlertTopic::Source), ..silence.clone() }, false),
        (AlertSilence { owner: text("finance"), ..silence.clone() }, true),
        (AlertSilence { owner: text("other"), ..silence.clone() }, false),
        (AlertSilence { key_prefix: text("drift:values:"), ..silence.clone() }, true),
        (AlertSilence { key_prefix: text("drift:missing:"), ..silence.clone() }, false),
        (
            AlertSilence {
                owner: text("other"),
                topic: Some(AlertTopic::Drift),
                ..silence.clone()
            },
            false,
        ),
    ] {
        assert_eq!(owed(&alert(), &everything(), std::slice::from_ref(&silence), 1999), !covers);
        assert!(owed(&alert(), &everything(), &[silence], 2000), "it is over");
    }
    // A channel gets no alert about itself.
    let about = RoutedAlert { key: channel_alert_key("c"), topic: AlertTopic::Channel, ..alert() };
    assert!(!owed(&about, &everything(), &[], 1000));
    assert!(is_notification_due(
        &about,
        to("other", &everything()),
        NotifiedState::NotNotified,
        &[],
        at(1000)
    ));
}

#[test]
fn ten_attempts_over_three_days() {
    assert_eq!(RETRY_DELAY_SECONDS.len(), 10);
    assert_eq!(RETRY_DELAY_SECONDS[0], 0);
    assert!(RETRY_DELAY_SECONDS.is_sorted());
    assert_eq!(retry_delay(10, 0.5, None), None);
    assert_eq!(retry_delay(10, 0.5, Some(Duration::from_mins(1))), None);
    assert_eq!(retry_delay(1, 0.5, None), Some(Duration::from_secs(5)));
    assert_eq!(retry_delay(9, 0.5, None), Some(Duration::from_hours(24)));
}

proptest! {
    #[test]
    fn a_delay_is_near_the_plan_and_no_shorter_than_asked(
        attempts in 0_u32..12,
        chance in -1.0_f64..2.0,
        asked in prop::option::of(0_u64..1_000_000),
    ) {
        let asked = asked.map(Duration::from_secs);
        match (retry_delay(attempts, chance, asked), RETRY_DELAY_SECONDS.get(attempts as usize)) {
            (None, None) => {}
            (Some(delay), Some(planned)) => {
                let planned = f64::from(*planned);
                let asked = asked.unwrap_or_default().min(Duration::from_hours(24));
                prop_assert!(delay >= asked);
                prop_assert!(delay.as_secs_f64() >= 0.9 * planned - 1e-6);
                prop_assert!(delay.as_secs_f64() <= (1.1 * planned).max(asked.as_secs_f64()) + 1e-6);
            }
            (delay, planned) => prop_assert!(false, "{:?} {:?}", delay, planned),
        }
    }
}
