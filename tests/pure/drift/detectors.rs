//! Sequential detectors equal `SciPy` and River, keep their properties, and report lasting
//! changes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segmentd::domain::drift::detectors::DetectorSet;
use segmentd::domain::drift::detectors::adwin::AdwinDetector;
use segmentd::domain::drift::detectors::martingale::{ShiryaevRoberts, ln_e_value};
use segmentd::domain::drift::detectors::page_hinkley::PageHinkley;
use segmentd::domain::drift::detectors::ranks::mann_whitney;
use segmentd::domain::drift::{
    ComparedQuantity, DetectionMethod, DetectorReport, HourlyPValues, Severity,
    lasting_change_facts, lasting_change_finding, run_detectors,
};
use segmentd::domain::model::P_VALUE_BINS;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::stats::special::{ln_normal_two_sided_tail, normal_cdf};
use segmentd::domain::time::{MILLIS_PER_HOUR, Timestamp};
use serde::Deserialize;

use crate::feature::support::data;
use crate::model::support::normal;

#[derive(Deserialize)]
struct Golden {
    ranks: Vec<GoldenRanks>,
    beyond: Vec<(f64, f64)>,
    below: Vec<(f64, f64)>,
    e_values: Vec<(f64, f64)>,
    limit: f64,
    every: usize,
    streams: BTreeMap<String, GoldenStream>,
}

#[derive(Deserialize)]
struct GoldenRanks {
    earlier: Vec<u64>,
    now: Vec<u64>,
    z: f64,
}

#[derive(Deserialize)]
struct GoldenStream {
    values: Vec<f64>,
    shiryaev_roberts: GoldenSums,
    page_hinkley: Vec<GoldenPageHinkley>,
    adwin: Vec<GoldenAdwin>,
}

#[derive(Deserialize)]
struct GoldenSums {
    alarms: Vec<usize>,
    sums: Vec<f64>,
    log10: Vec<f64>,
}

#[derive(Deserialize)]
struct GoldenPageHinkley {
    slack: f64,
    limit: f64,
    kept: f64,
    alarms: Vec<usize>,
    height: f64,
}

#[derive(Deserialize)]
struct GoldenAdwin {
    delta: f64,
    alarms: Vec<usize>,
    widths: Vec<usize>,
    means: Vec<f64>,
}

fn golden() -> Golden {
    let file = std::fs::File::open(data("golden/detectors.json")).unwrap();
    serde_json::from_reader(file).unwrap()
}

#[track_caller]
fn close(found: f64, expected: f64) {
    let apart = (found - expected).abs();
    assert!(apart <= 1e-8 * expected.abs().max(1e-8), "{found} is not {expected}");
}

/// The steps at which `step` is true, and the values of `hold` at regular intervals.
fn follow<D, T>(
    (detector, values): (&mut D, &[f64]),
    every: usize,
    step: impl Fn(&mut D, f64) -> bool,
    hold: impl Fn(&D) -> T,
) -> (Vec<usize>, Vec<T>) {
    let (mut alarms, mut held) = (vec![], vec![]);
    for (place, x) in values.iter().enumerate() {
        if step(detector, *x) {
            alarms.push(place);
        }
        if place % every == 0 {
            held.push(hold(detector));
        }
    }
    (alarms, held)
}

#[test]
fn ranks_tails_and_martingales_equal_scipy() {
    let golden = golden();
    for GoldenRanks { earlier, now, z } in &golden.ranks {
        close(mann_whitney(earlier, now).unwrap(), *z);
    }
    golden.beyond.iter().for_each(|(z, ln_p)| close(ln_normal_two_sided_tail(*z), *ln_p));
    golden.below.iter().for_each(|(z, p)| close(normal_cdf(*z), *p));
    golden.e_values.iter().for_each(|(p, e)| close(ln_e_value(p.ln()).exp(), *e));
    // Only ties, or no values.
    assert_eq!(mann_whitney(&[0, 40, 0], &[0, 3, 0]), None);
    assert_eq!(mann_whitney(&[1, 40, 0], &[0, 0, 0]), None);
    assert_eq!(mann_whitney(&[0, 0, 0], &[1, 2, 3]), None);
}

#[test]
fn cumulative_sums_equal_those_computed_by_hand() {
    let Golden { streams, limit, every, .. } = golden();
    for (name, GoldenStream { values, shiryaev_roberts: expected, .. }) in streams {
        let mut bets = ShiryaevRoberts::new(limit);
        let step = |bets: &mut ShiryaevRoberts, z| bets.step(ln_normal_two_sided_tail(z));
        let hold = |bets: &ShiryaevRoberts| (bets.statistic(), bets.martingale_log10());
        let (alarms, held) = follow((&mut bets, &values), every, step, hold);
        assert_eq!(alarms, expected.alarms, "{name}");
        let after_alarm = |place: usize| alarms.contains(&(place * every));
        for (place, (sum, log10)) in held.into_iter().enumerate() {
            close(log10, expected.log10[place]);
            assert!(!after_alarm(place) || sum >= limit);
            close(sum, expected.sums[place]);
        }
    }
}

#[test]
fn page_hinkley_alarms_when_river_alarms() {
    for (name, GoldenStream { values, page_hinkley, .. }) in golden().streams {
        for expected in page_hinkley {
            let mut test = PageHinkley::new(expected.slack, expected.limit, expected.kept);
            let (alarms, _) = follow((&mut test, &values), 1, PageHinkley::step, |_| ());
            assert_eq!(alarms, expected.alarms, "{name}");
            close(test.statistic(), expected.height);
        }
    }
}

#[test]
fn adwin_alarms_when_river_alarms() {
    let Golden { streams, every, .. } = golden();
    for (name, GoldenStream { values, adwin, .. }) in streams {
        let values: Vec<f64> = values.iter().map(|z| normal_cdf(*z)).collect();
        for expected in adwin {
            let mut window = AdwinDetector::new(expected.delta);
            let hold = |window: &AdwinDetector| (window.width(), window.mean());
            let (alarms, held) = follow((&mut window, &values), every, AdwinDetector::step, hold);
            assert_eq!(alarms, expected.alarms, "{name}");
            for (place, (width, mean)) in held.into_iter().enumerate() {
                assert_eq!(width, expected.widths[place], "{name}");
                close(mean, expected.means[place]);
            }
        }
    }
}

/// By quadrature in t = −ln p, where the integrand is smooth.
#[test]
fn a_martingale_is_fair() {
    let (steps, most) = (400_000, 4e4);
    // In u = ln(1 + t), by Simpson's rule: f(e^−t) e^−t ends like 1 / t².
    let width = f64::ln_1p(most) / f64::from(steps);
    let pays = |u: f64| {
        let t = u.exp_m1();
        (ln_e_value(-t) - t + u).exp()
    };
    let weight = |i: u32| match i {
        0 => 1.0,
        i if i == steps => 1.0,
        i if i % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let sum: f64 = (0..=steps).map(|i| weight(i) * pays(f64::from(i) * width)).sum();
    let integral = sum * width / 3.0;
    // The truncated tail is 1 / most.
    assert!((integral + 1.0 / most - 1.0).abs() < 1e-6, "{integral}");
}

proptest! {
    #[test]
    fn ranks_from_the_other_end_are_the_same_with_the_other_sign(
        bins in prop::collection::vec((0_u64..50, 0_u64..50), 2..20),
    ) {
        let (mut earlier, mut now): (Vec<u64>, Vec<u64>) = bins.into_iter().unzip();
        let z = mann_whitney(&earlier, &now);
        let swapped = mann_whitney(&now, &earlier);
        earlier.reverse();
        now.reverse();
        let reversed = mann_whitney(&earlier, &now);
        prop_assert_eq!(z.is_some(), reversed.is_some());
        if let (Some(z), Some(reversed), Some(swapped)) = (z, reversed, swapped) {
            prop_assert!((z + reversed).abs() < 1e-9 && (z + swapped).abs() < 1e-9);
        }
    }

    #[test]
    fn an_e_value_falls_with_its_p_value_and_is_never_below_a_half(
        ln_ps in prop::collection::vec(-1e6_f64..=0.0, 2),
    ) {
        let [less, more] = [ln_ps[0].min(ln_ps[1]), ln_ps[0].max(ln_ps[1])].map(ln_e_value);
        prop_assert!(less >= more && more >= 0.5_f64.ln() - 1e-12 && less.is_finite());
    }

    #[test]
    fn the_window_of_adwin_is_as_long_and_has_the_mean_of_its_last_values(
        values in prop::collection::vec(0.0_f64..=1.0, 1..400), delta in 0.001_f64..0.9,
    ) {
        let (mut window, mut since) = (AdwinDetector::new(delta), 0);
        for (place, x) in values.iter().enumerate() {
            let is_alarm = window.step(*x);
            let last = &values[place + 1 - window.width()..=place];
            let mean = last.iter().sum::<f64>() / last.len() as f64;
            prop_assert!((window.mean() - mean).abs() < 1e-9);
            prop_assert_eq!(is_alarm, window.statistic() > 1.0);
            if is_alarm {
                prop_assert!(window.width() >= 5);
                since = place + 1;
            } else {
                prop_assert_eq!(window.width(), place + 1 - since);
            }
        }
    }

    #[test]
    fn sums_of_negated_values_give_the_same_alarms(
        values in prop::collection::vec(-4.0_f64..4.0, 1..300),
    ) {
        let [mut one, mut other] = [(); 2].map(|()| PageHinkley::new(0.1, 6.0, 1.0));
        for x in values {
            prop_assert_eq!(one.step(x), other.step(-x));
            prop_assert!(one.statistic() >= 0.0);
            prop_assert!((one.statistic() - other.statistic()).abs() < 1e-9);
        }
    }
}

/// A single factor can exceed the range of floats.
#[test]
fn overwhelming_evidence_does_not_overflow() {
    let mut detectors = DetectorSet::default();
    let alarms = [0.0, 300.0, -5000.0, 0.0].map(|z| detectors.step(z)[0].is_some());
    assert_eq!(alarms, [false, true, true, false]);
    let mut bets = ShiryaevRoberts::new(1e4);
    assert!(bets.step(ln_normal_two_sided_tail(5000.0)));
    assert!(bets.statistic().is_finite() && bets.martingale_log10() > 1e6);
    // The sum restarts, but not the martingale.
    assert!(!bets.step(0.0));
    assert!((bets.statistic() - 0.5).abs() < 1e-12 && bets.martingale_log10() > 1e6);
}

/// The benchmark `drift_run_length` measures run lengths in more detail.
#[test]
fn alarms_are_rare_while_nothing_changes_and_soon_when_something_does() {
    let mut rng = RandomStream::new(4, 0);
    let mut alarms = [0; 3];
    for _ in 0..20 {
        let mut detectors = DetectorSet::default();
        for _ in 0..2000 {
            for (count, alarm) in alarms.iter_mut().zip(detectors.step(normal(&mut rng))) {
                *count += usize::from(alarm.is_some());
            }
        }
    }
    // In 40,000 hours one or two alarms are expected of each detector.
    assert!(alarms.iter().all(|count| *count <= 5), "{alarms:?}");
    let mut detectors = DetectorSet::default();
    let mut first = [None; 3];
    for step in 0..1000 {
        let shift = if step < 500 { 0.0 } else { 1.0 };
        let reported = detectors.step(shift + normal(&mut rng));
        for (first, reported) in first.iter_mut().zip(reported) {
            if let (Some(after), true) = (reported, step >= 500) {
                first.get_or_insert((step, step + 1 - after));
            }
        }
    }
    for (at, since) in first.into_iter().flatten() {
        assert!(at < 620 && (440..560).contains(&since), "{first:?}");
    }
    assert!(first.iter().all(Option::is_some), "{first:?}");
}

const ROWS: usize = 60;

/// Hours of customers whose p-values are lower by `shift` from some hour on; another
/// spread by day than by night.
fn hours(
    weeks: usize,
    shift: f64,
    from: usize,
    rows: impl Fn(usize) -> usize,
) -> Vec<HourlyPValues> {
    let mut rng = RandomStream::new(9, 3);
    let hour = |place: usize| {
        let mut counts = [0; P_VALUE_BINS];
        for _ in 0..rows(place) {
            let night = if place % 24 < 8 { 0.6 } else { 0.0 };
            let shift = if place >= from { shift } else { 0.0 };
            let p = normal_cdf(normal(&mut rng) - night - shift);
            let bin = (1..P_VALUE_BINS).filter(|bin| 20.0 * p > *bin as f64).count();
            counts[bin] += 1;
        }
        HourlyPValues { at: at(place), counts }
    };
    (0..168 * weeks).map(hour).collect()
}

fn at(hour: usize) -> Timestamp {
    Timestamp::from_millis(MILLIS_PER_HOUR * (490_000 + i64::try_from(hour).unwrap()))
}

fn last(stream: &DetectorReport) -> [Option<Timestamp>; 3] {
    std::array::from_fn(|place| stream.detectors[place].changed_at)
}

#[test]
fn daily_seasonality_is_no_change() {
    let quiet = run_detectors(&hours(6, 0.0, 0, |_| ROWS), 30);
    assert_eq!((quiet.steps, quiet.since), (5 * 168, Some(at(168))));
    assert_eq!(last(&quiet), [None; 3], "{quiet:?}");
    assert!(quiet.martingale_log10 < 0.0);
    assert_eq!(lasting_change_finding(&quiet, at(0), at(6 * 168)), None);
    let names: Vec<&str> = quiet.detectors.iter().map(|one| one.name.name()).collect();
    assert_eq!(names, DetectionMethod::ALL.map(DetectionMethod::name));
    assert_eq!(serde_json::to_value(&quiet).unwrap()["detectors"][1]["name"], "page_hinkley");
}

#[test]
fn hours_with_few_rows_are_only_used_for_comparison() {
    let few = run_detectors(&hours(3, 0.0, 0, |_| 29), 30);
    assert_eq!((few.steps, few.since, few.martingale_log10), (0, None, 0.0));
    // The hours of the first two weeks together suffice as a reference for the third.
    let grown = run_detectors(&hours(3, 0.0, 0, |place| if place < 336 { 15 } else { 40 }), 30);
    assert_eq!((grown.steps, grown.since), (168, Some(at(336))));
    assert_eq!(run_detectors(&[], 30).steps, 0);
}

#[test]
fn a_small_lasting_change_is_reported_with_its_start() {
    let from = 4 * 168;
    let reported = run_detectors(&hours(6, 0.15, from, |_| ROWS), 30);
    let end = at(6 * 168);
    let about = reported.detectors.iter().filter_map(|one| one.about_since);
    let apart = about.map(|at| (at.millis() - self::at(from).millis()) / MILLIS_PER_HOUR);
    let apart: Vec<i64> = apart.collect();
    assert!(!apart.is_empty() && apart.iter().all(|hours| hours.abs() < 72), "{reported:?}");

    let finding = lasting_change_finding(&reported, at(0), end).unwrap();
    assert_eq!((finding.about, &finding.feature), (ComparedQuantity::Stream, &None));
    let expected = if apart.len() > 1 { Severity::Warning } else { Severity::Notice };
    assert_eq!((finding.severity, finding.size), (expected, apart.len() as f64));
    assert!(finding.p_value > 0.0 && finding.p_value < 0.11, "{finding:?}");
    assert!(finding.statistics.contains("Page-Hinkley"), "{finding:?}");
    let facts = lasting_change_facts(&reported, at(0));
    assert_eq!(facts.len(), apart.len() + 2, "{facts:?}");

    // Reported from the end of its hour, within the requested hours only.
    let newest = last(&reported).into_iter().flatten().max().unwrap();
    for (hours, is_told) in [(0, true), (1, true), (2, false)] {
        let since = newest.plus_millis(hours * MILLIS_PER_HOUR);
        assert_eq!(lasting_change_finding(&reported, since, end.max(since)).is_some(), is_told);
    }
}
