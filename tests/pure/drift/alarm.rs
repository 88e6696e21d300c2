//! An alarm fires once after enough findings, and ends once.

use proptest::prelude::*;
use segmentd::domain::drift::{
    AlarmTransition, ComparedQuantity, DriftAlarm, DriftAlarmRules, DriftChange, DriftFinding,
    Severity,
};
use segmentd::domain::time::Timestamp;

const MINUTE: i64 = 60_000;

fn rules() -> impl Strategy<Value = DriftAlarmRules> {
    (1_u32..6, 0_u32..4, 1_u32..6, 1_u32..5, 0_i64..200).prop_map(
        |(findings, more, critical, recovery, cool)| DriftAlarmRules {
            findings,
            checks: findings + more,
            critical_checks: critical,
            recovery_checks: recovery,
            cool_down_millis: cool * MINUTE,
        },
    )
}

/// What each check finds, and the minutes before it.
fn checks() -> impl Strategy<Value = Vec<(Option<Severity>, i64)>> {
    let severity = prop_oneof![
        2 => Just(None),
        2 => Just(Some(Severity::Notice)),
        1 => Just(Some(Severity::Warning)),
        1 => Just(Some(Severity::Critical)),
    ];
    // Long runs of equal findings too.
    let run = (severity, 1_usize..8, 1_i64..60);
    prop::collection::vec(run, 1..25).prop_map(|runs| {
        runs.into_iter().flat_map(|(found, times, gap)| vec![(found, gap); times]).collect()
    })
}

/// The knowledge of a recipient who gets only the announced changes.
#[derive(Default)]
struct People {
    /// The severity of the alert known to fire.
    firing: Option<Severity>,
    /// The severity of the last alert, and the instant of its announced end.
    over: Option<(Severity, i64)>,
}

proptest! {
    #[test]
    fn it_fires_by_enough_findings_stays_quiet_and_ends_once(
        rules in rules(),
        checks in checks(),
    ) {
        let mut alarm = DriftAlarm::default();
        let mut people = People::default();
        let mut now = 0;
        // Since the last end.
        let mut seen: Vec<Option<Severity>> = Vec::new();
        let mut worst = None;
        for (found, minutes) in checks {
            now += minutes * MINUTE;
            let was_firing = alarm.is_firing();
            let step = alarm.apply_check(found, Timestamp::from_millis(now), &rules);
            seen.push(found);
            let last = |count: u32| {
                let from = seen.len().saturating_sub(count as usize);
                seen[from..].iter().flatten().count()
            };
            let critical =
                seen.iter().rev().take_while(|one| **one == Some(Severity::Critical)).count();
            let enough = found.is_some()
                && (last(rules.checks) >= rules.findings as usize
                    || critical >= rules.critical_checks as usize);
            let recovered = seen.len() >= rules.recovery_checks as usize
                && last(rules.recovery_checks) == 0;
            // The alarm begins as soon as there are enough findings, and ends as soon as
            // there are none.
            let begins = matches!(step, AlarmTransition::Fire(_) | AlarmTransition::ReopenSilently(_) | AlarmTransition::ReopenAndNotify(_));
            prop_assert_eq!(begins, !was_firing && enough);
            prop_assert_eq!(step == AlarmTransition::Resolve, was_firing && recovered);
            prop_assert_eq!(step == AlarmTransition::StayQuiet, !was_firing && !enough);
            prop_assert_eq!(alarm.is_firing(), begins || (was_firing && !recovered));

            let cooled = people.over.is_none_or(|(_, at)| now >= at + rules.cool_down_millis);
            let before = people.over.map(|(severity, _)| severity);
            match step {
                AlarmTransition::StayQuiet => {}
                AlarmTransition::Fire(severity) => {
                    prop_assert!(cooled);
                    prop_assert_eq!(Some(severity), found);
                    people.firing = Some(severity);
                    worst = Some(severity);
                }
                AlarmTransition::ReopenSilently(severity) => {
                    prop_assert!(!cooled && Some(severity) == before && found <= before);
                    worst = Some(severity);
                }
                AlarmTransition::ReopenAndNotify(severity) => {
                    prop_assert!(!cooled && Some(severity) > before);
                    people.firing = Some(severity);
                    worst = Some(severity);
                }
                AlarmTransition::KeepFiring => {
                    // A higher severity, and a lasting recurrence, are always announced.
                    prop_assert!(found <= worst);
                    prop_assert!(people.firing.is_some() || found.is_none() || !cooled);
                }
                AlarmTransition::Notify(severity) => {
                    prop_assert!(found.is_some());
                    prop_assert!(people.firing.is_none_or(|known| severity > known));
                    prop_assert!(people.firing.is_some() || cooled || Some(severity) > before);
                    people.firing = Some(severity);
                    worst = worst.max(Some(severity));
                }
                AlarmTransition::Resolve => {
                    if let Some(severity) = people.firing.take() {
                        people.over = Some((severity, now));
                    }
                    worst = None;
                    seen.clear();
                }
            }
            // A serialized alarm reads back as the same.
            let text = serde_json::to_string(&alarm).unwrap();
            prop_assert!(text.len() < 200, "{}", text);
            prop_assert_eq!(&serde_json::from_str::<DriftAlarm>(&text).unwrap(), &alarm);
            // A forgotten alarm loses nothing.
            if alarm.is_idle(Timestamp::from_millis(now), &rules) {
                alarm = DriftAlarm::default();
                seen = vec![None; 40];
                people.over = None;
            }
        }
    }
}

const RULES: DriftAlarmRules = DriftAlarmRules {
    findings: 2,
    checks: 3,
    critical_checks: 2,
    recovery_checks: 3,
    cool_down_millis: 360 * MINUTE,
};

/// The actions after hourly `checks`: `n`, `w`, `c` by severity, `-` for no finding.
fn steps(rules: &DriftAlarmRules, checks: &str) -> String {
    let mut alarm = DriftAlarm::default();
    let mut hour = 0;
    checks
        .chars()
        .map(|check| {
            hour += 60 * MINUTE;
            let found = match check {
                'n' => Some(Severity::Notice),
                'w' => Some(Severity::Warning),
                'c' => Some(Severity::Critical),
                _ => None,
            };
            match alarm.apply_check(found, Timestamp::from_millis(hour), rules) {
                AlarmTransition::StayQuiet => '.',
                AlarmTransition::Fire(_) => 'F',
                AlarmTransition::ReopenSilently(_) => 'r',
                AlarmTransition::ReopenAndNotify(_) => 'R',
                AlarmTransition::KeepFiring => ' ',
                AlarmTransition::Notify(_) => 'T',
                AlarmTransition::Resolve => 'E',
            }
        })
        .collect()
}

#[test]
fn days_as_they_come() {
    for (checks, expected) in [
        // One finding now and then is chance.
        ("w--w--w--", "........."),
        // Two of three are not.
        ("w-wwww---", "..F     E"),
        // A short alarm.
        ("ww-w-w--w---", ".F         E"),
        // A higher severity is announced, a lower one is not.
        ("nnwnwcc---", ".FT  T   E"),
        // Firing again too soon: neither the alarm nor its end is announced…
        ("ww---ww---", ".F  E.r  E"),
        // …unless it lasts,
        ("ww---wwwwwww---", ".F  E.r   T   E"),
        // or is more severe.
        ("ww---cc---", ".F  E.R  E"),
        // Firing again later: another alert.
        ("ww--------------ww", ".F  E............F"),
    ] {
        assert_eq!(steps(&RULES, checks).trim_end(), expected, "{checks}");
    }
}

#[test]
fn a_critical_finding_needs_fewer_checks() {
    let patient = DriftAlarmRules { findings: 6, checks: 8, ..RULES };
    for (checks, expected) in [
        ("wwwwww", ".....F"),
        ("cc", ".F"),
        // A single more severe finding does not raise the severity.
        ("wcwcwc", ".....F"),
        ("c-c-c-c", "......."),
        ("wcc", "..F"),
    ] {
        assert_eq!(steps(&patient, checks), expected, "{checks}");
    }
}

fn finding(size: f64) -> DriftFinding {
    DriftFinding {
        about: ComparedQuantity::Missing,
        feature: Some("spend".into()),
        segment: None,
        title: "Spend".into(),
        owner: None,
        unit: None,
        severity: Severity::Warning,
        size,
        relative_size: size,
        p_value: 0.0,
        adjusted_p_value: 0.0,
        effective_sample_size: None,
        change: DriftChange {
            subject: "Spend".into(),
            predicate: "had missing values more often".into(),
            comparison: size.to_string(),
        },
        statistics: String::new(),
        advice: String::new(),
        decisive_key: None,
    }
}

/// The hours of an alarm: what its findings are, and what the alarm remembers as its worst.
#[test]
fn a_firing_alarm_remembers_its_worst_finding_until_the_next_alert() {
    let mut alarm = DriftAlarm::default();
    let mut check = |hour: i64, found: Option<(f64, Severity)>| {
        let now = Timestamp::from_millis(hour * 60 * MINUTE);
        alarm.apply_check(found.map(|(_, severity)| severity), now, &RULES);
        if let Some((size, severity)) = found {
            alarm.record_finding(&finding(size), severity, now);
        }
        alarm.worst().map(|worst| (worst.description.clone(), worst.found_at.millis()))
    };
    let remembered = |size: f64, hour: i64| Some((finding(size).description(), hour * 60 * MINUTE));
    // It does not fire yet.
    assert_eq!(check(1, Some((0.9, Severity::Notice))), None);
    assert_eq!(check(2, Some((0.1, Severity::Warning))), remembered(0.1, 2));
    assert_eq!(check(3, Some((0.4, Severity::Critical))), remembered(0.4, 3));
    assert_eq!(check(4, Some((0.08, Severity::Warning))), remembered(0.4, 3));
    (5..8).for_each(|hour| drop(check(hour, None)));
    // Within the cool-down the same alert goes on; a later one is another.
    assert_eq!(check(8, Some((0.1, Severity::Warning))), remembered(0.4, 3));
    assert_eq!(check(9, Some((0.1, Severity::Warning))), remembered(0.4, 3));
    (10..20).for_each(|hour| drop(check(hour, None)));
    check(20, Some((0.1, Severity::Warning)));
    assert_eq!(check(21, Some((0.2, Severity::Warning))), remembered(0.2, 21));
}
