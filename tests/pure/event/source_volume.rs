//! The usual volume of a source of events, and deviations that raise an alert.
#![expect(clippy::cast_sign_loss, reason = "rates of events are above 0")]

use std::collections::BTreeMap;

use segmentd::domain::event::source_volume::{
    HourlyEvents, SourceAssessment, SourceHistory, SourceStatus, SourceVolumeRules, assess_source,
};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::stats::special::{
    ln_gamma, negative_binomial_cdf, negative_binomial_upper_tail,
};
use segmentd::domain::time::{MILLIS_PER_HOUR, Timestamp};

const RULES: SourceVolumeRules = SourceVolumeRules {
    min_history_hours: 168,
    ratio: 3.0,
    max_p_value: 1e-4,
    min_usual_events: 20,
    silence_gap_factor: 2.0,
    min_silence_millis: 600_000,
};
const WEEK: i64 = 168;
const MINUTE: i64 = 60_000;

/// The volume of a shop: high by day, low by night, half on the last two days of a week.
fn shop(hour: i64) -> f64 {
    let by_day = if (8..20).contains(&hour.rem_euclid(24)) { 600.0 } else { 60.0 };
    if hour.rem_euclid(WEEK) >= 120 { by_day / 2.0 } else { by_day }
}

/// The hours from 0 to `until`, each within a tenth of the usual volume.
fn past(until: i64, rate: impl Fn(i64) -> f64, seed: u64) -> SourceHistory {
    let mut rng = RandomStream::new(seed, 0);
    let mut hours = BTreeMap::new();
    for hour in 0..until {
        let events = (rate(hour) * (0.9 + 0.2 * rng.uniform_unit())).round();
        if events > 0.0 {
            hours.insert(
                hour,
                HourlyEvents { events: events as u64, longest_gap_millis: 2 * MINUTE },
            );
        }
    }
    SourceHistory { first_at: at(0, 10), last_at: at(until - 1, 59), hours }
}

fn at(hour: i64, minute: i64) -> Timestamp {
    Timestamp::from_millis(hour * MILLIS_PER_HOUR + minute * MINUTE)
}

/// The judgement at some minutes after the end of the last hour, when its counts are
/// complete.
fn assess(past: &SourceHistory, until: i64, minute: i64) -> SourceAssessment {
    let now = at(until, minute);
    assess_source(past, now, now, &RULES)
}

#[test]
fn an_hour_is_compared_with_the_same_hour_of_earlier_weeks() {
    for until in [WEEK + 30, 3 * WEEK + 100, 6 * WEEK + 7] {
        let mut past = past(until, shop, 1);
        let calm = assess(&past, until, 5);
        assert_eq!(calm.status, SourceStatus::Usual, "{until}: {calm:?}");
        let hour = until - 1;
        for (events, status) in [
            (shop(hour) * 5.0, SourceStatus::High),
            (shop(hour) * 1.5, SourceStatus::Usual),
            (shop(hour) / 1.5, SourceStatus::Usual),
            (shop(hour) / 6.0, SourceStatus::Low),
        ] {
            past.hours.insert(hour, HourlyEvents { events: events as u64, longest_gap_millis: 0 });
            let assessment = assess(&past, until, 5);
            assert_eq!(assessment.status, status, "{until}, {events}: {assessment:?}");
        }
    }
    // After four weeks an hour is compared with the same weekday, so Monday is as usual.
    let monday = 5 * WEEK + 12;
    let assessment = assess(&past(monday + 1, shop, 2), monday + 1, 5);
    let usual = assessment.last_hour.usual.unwrap();
    assert!((540.0..660.0).contains(&usual), "{assessment:?}");
}

#[test]
fn the_first_week_is_for_learning_and_few_events_are_no_evidence() {
    let young = past(WEEK - 1, shop, 3);
    assert_eq!(assess(&young, WEEK - 1, 50).status, SourceStatus::Learning);
    let mut small = past(4 * WEEK, |_| 6.0, 4);
    small.hours.remove(&(4 * WEEK - 1));
    small.hours.insert(4 * WEEK - 2, HourlyEvents { events: 1, longest_gap_millis: 0 });
    assert_eq!(assess(&small, 4 * WEEK, 1).status, SourceStatus::Usual);
    small.hours.insert(4 * WEEK - 1, HourlyEvents { events: 90, longest_gap_millis: 0 });
    assert_eq!(assess(&small, 4 * WEEK, 1).status, SourceStatus::High);
}

#[test]
fn silence_is_measured_by_the_usual_gaps() {
    let until = 5 * WEEK;
    let mut steady = past(until, shop, 5);
    // Twice two minutes would be less than the minimum.
    assert_eq!(assess(&steady, until, 8).status, SourceStatus::Usual);
    let quiet = assess(&steady, until, 9);
    assert_eq!((quiet.status, quiet.silent_at), (SourceStatus::Silent, Some(at(until, 9))));
    // One gap of five hours is not usual; a repeated one is.
    let outage = HourlyEvents { events: 500, longest_gap_millis: 5 * 60 * MINUTE };
    steady.hours.insert(until - 30, outage);
    assert_eq!(assess(&steady, until, 9).status, SourceStatus::Silent);
    steady.hours.insert(until - 30 - WEEK, outage);
    assert_eq!(assess(&steady, until, 9).status, SourceStatus::Usual);
    assert_eq!(assess(&steady, until + 9, 59).status, SourceStatus::Silent);
    // Not quiet yet, but an hour without events is lower than usual.
    assert_eq!(assess(&steady, until + 9, 58).status, SourceStatus::Low);
}

#[test]
fn a_source_with_one_event_cannot_go_quiet_and_a_quiet_one_stays_quiet() {
    let once = past(3, shop, 6);
    assert_eq!(assess(&once, 3 * WEEK, 0).status, SourceStatus::Learning);
    let gone = past(2 * WEEK, shop, 7);
    assert_eq!(assess(&gone, 6 * WEEK + 100, 0).status, SourceStatus::Silent);
}

/// The rate of false alarms for sources that vary by a third from hour to hour.
#[test]
fn random_variation_of_a_source_rarely_raises_an_alert() {
    let (mut hours, mut false_ones) = (0, 0);
    for seed in 0..10 {
        let mut rng = RandomStream::new(seed, 1);
        let mut all = past(7 * WEEK, shop, seed);
        for (hour, sent) in &mut all.hours {
            // Twelve of them are nearly normal, with a variance of 1.
            let normal = (0..12).map(|_| rng.uniform_unit()).sum::<f64>() - 6.0;
            let factor = (0.33 * normal).exp();
            sent.events = (shop(*hour) * factor).round() as u64;
        }
        for until in 5 * WEEK..7 * WEEK {
            let mut past = all.clone();
            past.hours.retain(|hour, _| *hour < until);
            past.last_at = at(until, 0);
            hours += 1;
            false_ones += usize::from(assess(&past, until, 2).status != SourceStatus::Usual);
        }
    }
    assert!(false_ones <= hours / 1000, "{false_ones} of {hours}");
}

#[test]
fn the_tails_of_the_negative_binomial_are_its_sums() {
    for (mean, size) in [(0.5, 3.0), (20.0, 4.0), (300.0, 50.5)] {
        let p: f64 = size / (size + mean);
        let probability = |k: f64| {
            (ln_gamma(k + size) - ln_gamma(size) - ln_gamma(k + 1.0)
                + size * p.ln()
                + k * (1.0 - p).ln())
            .exp()
        };
        let mut below = 0.0;
        for k in 0..400 {
            let k = f64::from(k);
            let above = negative_binomial_upper_tail(k, mean, size);
            assert!((above - (1.0 - below)).abs() < 1e-9, "{k}, {mean}, {size}");
            below += probability(k);
            let found = negative_binomial_cdf(k, mean, size);
            assert!((found - below).abs() < 1e-9, "{k}, {mean}, {size}");
        }
    }
}
