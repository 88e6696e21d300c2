//! Routing of alerts to channels, and the schedule of retries.

use std::time::Duration;

use proptest::prelude::*;
use segmentd::domain::alert::schedule::{DELAY_SECONDS, delay};
use segmentd::domain::alert::{
    AlertRoute, ChannelRoute, NotificationRecord, NotifiedState, RoutedAlert, Silence, State,
    Topic, channel_key, is_owed,
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
        least_severity: Severity::Notice,
        after_seconds: 0,
    }
}

fn alert() -> RoutedAlert {
    RoutedAlert {
        key: "drift:values:spend:rows".into(),
        topic: Topic::Drift,
        owner: Some("finance".into()),
        severity: Severity::Warning,
        fired_at: at(1000),
        is_acknowledged: false,
        is_untold: false,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1000 * seconds)
}

fn firing(severity: Severity) -> NotificationRecord {
    NotificationRecord { state: State::Firing, severity, is_dead: false }
}

const END: NotificationRecord =
    NotificationRecord { state: State::Resolved, severity: Severity::Warning, is_dead: false };

#[test]
fn a_route_selects_the_alerts_that_it_names() {
    let takes = |route: AlertRoute| route.takes(&alert());
    let owners = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert!(takes(everything()));
    assert!(takes(AlertRoute { owners: owners(&["other", "finance"]), ..everything() }));
    assert!(!takes(AlertRoute { owners: owners(&["other"]), ..everything() }));
    assert!(takes(AlertRoute { topics: vec![Topic::Drift], ..everything() }));
    assert!(!takes(AlertRoute { topics: vec![Topic::Training], ..everything() }));
    assert!(takes(AlertRoute { least_severity: Severity::Warning, ..everything() }));
    assert!(!takes(AlertRoute { least_severity: Severity::Critical, ..everything() }));
    // An alert without an owner goes to channels without an owner filter.
    let nobodys = RoutedAlert { owner: None, ..alert() };
    assert!(everything().takes(&nobodys));
    assert!(!AlertRoute { owners: owners(&["finance"]), ..everything() }.takes(&nobodys));
}

#[test]
fn a_notified_channel_is_not_notified_again() {
    let owed = |told: NotifiedState| is_owed(&alert(), to("c", &everything()), told, &[], at(1000));
    let told = |sent: &[NotificationRecord]| NotifiedState::of(sent.iter().copied());
    assert!(owed(told(&[])));
    assert!(!owed(told(&[firing(Severity::Warning)])));
    assert!(!owed(told(&[firing(Severity::Critical)])));
    assert!(owed(told(&[firing(Severity::Notice)])), "it got worse");
    assert!(owed(told(&[firing(Severity::Critical), END])), "it is back");
    // An abandoned message is not retried, and a channel without the firing message gets no
    // resolution.
    let dead = NotificationRecord { is_dead: true, ..firing(Severity::Warning) };
    assert!(!owed(told(&[dead])));
    assert!(!told(&[dead]).hears_the_end() && !told(&[]).hears_the_end());
    assert!(told(&[firing(Severity::Notice), dead]).hears_the_end());
    assert!(told(&[dead, firing(Severity::Warning)]).hears_the_end());
    assert!(!told(&[firing(Severity::Warning), END]).hears_the_end());
}

#[test]
fn escalation_silence_and_cool_down() {
    let owed = |alert: &RoutedAlert, route: &AlertRoute, silences: &[Silence], now: i64| {
        is_owed(alert, to("c", route), NotifiedState::Nothing, silences, at(now))
    };
    let later = AlertRoute { after_seconds: 600, ..everything() };
    assert!(!owed(&alert(), &later, &[], 1599) && owed(&alert(), &later, &[], 1600));
    let acknowledged = RoutedAlert { is_acknowledged: true, ..alert() };
    assert!(!owed(&acknowledged, &later, &[], 9999) && owed(&acknowledged, &everything(), &[], 1));
    assert!(!owed(&RoutedAlert { is_untold: true, ..alert() }, &everything(), &[], 1000));

    let silence = Silence { topic: None, owner: None, key_prefix: None, until: at(2000) };
    let text = |text: &str| Some(text.to_owned());
    for (silence, covers) in [
        (silence.clone(), true),
        (Silence { topic: Some(Topic::Drift), ..silence.clone() }, true),
        (Silence { topic: Some(Topic::Source), ..silence.clone() }, false),
        (Silence { owner: text("finance"), ..silence.clone() }, true),
        (Silence { owner: text("other"), ..silence.clone() }, false),
        (Silence { key_prefix: text("drift:values:"), ..silence.clone() }, true),
        (Silence { key_prefix: text("drift:missing:"), ..silence.clone() }, false),
        (Silence { owner: text("other"), topic: Some(Topic::Drift), ..silence.clone() }, false),
    ] {
        assert_eq!(owed(&alert(), &everything(), std::slice::from_ref(&silence), 1999), !covers);
        assert!(owed(&alert(), &everything(), &[silence], 2000), "it is over");
    }
    // A channel gets no alert about itself.
    let about = RoutedAlert { key: channel_key("c"), topic: Topic::Channel, ..alert() };
    assert!(!owed(&about, &everything(), &[], 1000));
    assert!(is_owed(&about, to("other", &everything()), NotifiedState::Nothing, &[], at(1000)));
}

#[test]
fn ten_attempts_over_three_days() {
    assert_eq!(DELAY_SECONDS.len(), 10);
    assert_eq!(DELAY_SECONDS[0], 0);
    assert!(DELAY_SECONDS.is_sorted());
    assert_eq!(delay(10, 0.5, None), None);
    assert_eq!(delay(10, 0.5, Some(Duration::from_mins(1))), None);
    assert_eq!(delay(1, 0.5, None), Some(Duration::from_secs(5)));
    assert_eq!(delay(9, 0.5, None), Some(Duration::from_hours(24)));
}

proptest! {
    #[test]
    fn a_delay_is_near_the_plan_and_no_shorter_than_asked(
        attempts in 0_u32..12,
        chance in -1.0_f64..2.0,
        asked in prop::option::of(0_u64..1_000_000),
    ) {
        let asked = asked.map(Duration::from_secs);
        match (delay(attempts, chance, asked), DELAY_SECONDS.get(attempts as usize)) {
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
