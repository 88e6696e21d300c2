//! The false alarm rate without drift, and the time to detection with drift, relative to
//! Evidently on the same rows.
//!
//! Each day has one random number stream, so the peer gets the rows that the watch had.

use rayon::prelude::*;
use segmentd::domain::drift::{ComparedQuantity, DriftCheck};
use segmentd::domain::feature::FeatureRow;
use segmentd::domain::model::Model;
use segmentd::domain::stats::RandomStream;

use crate::Figure;
use crate::drift::peer::{self, Peer};
use crate::drift::watch::{HOURS, Rules, Watch};
use crate::drift::world::{self, CATEGORIES, Change, FEATURES, MOVED, MOVED_NAME};

pub(super) const SIZES: [usize; 3] = [500, 2000, 10_000];
/// The number of models, each trained on its own rows, and the days that each checks.
const MODELS: u64 = 250;
const DAYS: u64 = 4;
/// The days without drift before.
const HISTORY_DAYS: u64 = 20;
/// The number of models that check a drift; the peer gets the first of them too.
const POWER_MODELS: u64 = 100;
const PEER_MODELS: u64 = 25;
/// The days after which a drift counts as not found.
const MOST_DAYS: u64 = 14;
/// The day for which the peer also runs the whole preset, to check that the tests alone
/// give the same.
const WHOLE_PRESETS: u64 = 1;

const DRIFTS: [(&str, Change); 5] = [
    ("one feature by 0.1 sd", Change { shift: 0.1, mix: 0.0 }),
    ("one feature by 0.25 sd", Change { shift: 0.25, mix: 0.0 }),
    ("one feature by 0.5 sd", Change { shift: 0.5, mix: 0.0 }),
    ("one feature by 1 sd", Change { shift: 1.0, mix: 0.0 }),
    ("5 points from one segment to another", Change { shift: 0.0, mix: 0.05 }),
];

/// The rows of one day by hour, from their own random number stream.
struct Day {
    rng: RandomStream,
    rows: usize,
    change: Change,
}

impl Day {
    /// `drift` is the number of the change among [`DRIFTS`], from 1.
    fn new(model: u64, size: usize, drift: usize, day: u64) -> Self {
        let stream = 1 + day + 100 * (drift as u64) + 10_000 * size as u64;
        let change = drift.checked_sub(1).map_or(Change::default(), |place| DRIFTS[place].1);
        Self { rng: RandomStream::new(model, stream), rows: size, change }
    }

    fn hour(&mut self, hour: usize) -> Vec<FeatureRow> {
        let rows = (hour + 1) * self.rows / HOURS - hour * self.rows / HOURS;
        world::customers(&mut self.rng, rows, self.change)
    }

    fn all(mut self) -> Vec<FeatureRow> {
        (0..HOURS).flat_map(|hour| self.hour(hour)).collect()
    }
}

/// Days without drift in which there was…
#[derive(Default, Clone, Copy)]
struct Quiet {
    days: usize,
    /// …a finding in the check of the whole day…
    found: usize,
    /// …or in the check of any hour…
    found_by_the_hour: usize,
    /// …and an alarm that began.
    alarmed: usize,
}

impl Quiet {
    fn of(model: &Model, seed: u64, size: usize, rules: Rules) -> Self {
        let mut watch = Watch::new(model, rules);
        let mut quiet = Self::default();
        add_history(&mut watch, seed, size);
        // A first day fills the window.
        for day in 0..=DAYS {
            let mut rows = Day::new(seed, size, 0, day);
            let (mut found, mut by_the_hour, mut alarmed) = (false, false, false);
            for hour in 0..HOURS {
                let seen = watch.hour(&rows.hour(hour));
                found = !seen.check.findings.is_empty();
                by_the_hour |= found;
                alarmed |= !seen.fired.is_empty();
            }
            if day > 0 {
                quiet.days += 1;
                quiet.found += usize::from(found);
                quiet.found_by_the_hour += usize::from(by_the_hour);
                quiet.alarmed += usize::from(alarmed);
            }
        }
        quiet
    }

    fn and(self, other: Self) -> Self {
        Self {
            days: self.days + other.days,
            found: self.found + other.found,
            found_by_the_hour: self.found_by_the_hour + other.found_by_the_hour,
            alarmed: self.alarmed + other.alarmed,
        }
    }
}

/// The detection of one drift by one model.
struct Met {
    found_on_first_day: bool,
    /// Days until a day's check finds it, hours until an hour's check does, and until
    /// its alarm fires.
    days: Option<usize>,
    hours: Option<usize>,
    alarm_hours: Option<usize>,
}

impl Met {
    fn of(model: &Model, seed: u64, size: usize, drift: usize, rules: Rules) -> Self {
        let mut watch = Watch::new(model, rules);
        add_history(&mut watch, seed, size);
        let mut before = Day::new(seed, size, 0, 0);
        (0..HOURS).for_each(|hour| drop(watch.hour(&before.hour(hour))));
        let mut met =
            Self { found_on_first_day: false, days: None, hours: None, alarm_hours: None };
        for day in 0..MOST_DAYS {
            let mut rows = Day::new(seed, size, drift, day + 1);
            for hour in 0..HOURS {
                let seen = watch.hour(&rows.hour(hour));
                let after = day as usize * HOURS + hour + 1;
                if is_found(&seen.check, drift) {
                    met.hours.get_or_insert(after);
                    if hour + 1 == HOURS {
                        met.days.get_or_insert(day as usize + 1);
                        met.found_on_first_day |= day == 0;
                    }
                }
                let is_told = |(about, feature): &(&str, Option<Box<str>>)| {
                    (*about, feature.as_deref()) == wanted(drift)
                };
                if seen.fired.iter().any(is_told) {
                    met.alarm_hours.get_or_insert(after);
                }
            }
            if met.days.is_some() && met.alarm_hours.is_some() {
                break;
            }
        }
        met
    }
}

/// Adds the days from which the dependence of rows is estimated.
fn add_history(watch: &mut Watch<'_>, seed: u64, size: usize) {
    for day in 0..HISTORY_DAYS {
        let mut rows = Day::new(seed, size, 0, MOST_DAYS + 1 + day);
        (0..HOURS).for_each(|hour| watch.add(&rows.hour(hour)));
    }
}

/// The expected finding of a drift.
fn wanted(drift: usize) -> (&'static str, Option<&'static str>) {
    if DRIFTS[drift - 1].1.mix > 0.0 {
        return (ComparedQuantity::Segments.name(), None);
    }
    (ComparedQuantity::Values.name(), Some(MOVED_NAME))
}

fn is_found(check: &DriftCheck, drift: usize) -> bool {
    check.findings.iter().any(|f| (f.about.name(), f.feature.as_deref()) == wanted(drift))
}

/// The findings of the peer: by size, the quiet days with a drifted column and with a
/// drifted data set; by drift and size, the days until detection for each model.
#[derive(Default)]
struct Theirs {
    days: usize,
    column: [usize; SIZES.len()],
    data_set: [usize; SIZES.len()],
    found: [[Vec<Option<usize>>; SIZES.len()]; DRIFTS.len()],
}

pub(super) fn run(ids: &[&str]) -> Vec<Figure> {
    let rules = Rules::default();
    // Evidently runs in a child process meanwhile.
    let theirs = std::thread::spawn(theirs);
    let quiet = ids.contains(&super::FALSE_ALARMS).then(|| quiet(rules));
    let met = ids.contains(&super::POWER).then(|| met(rules));
    let theirs = theirs.join().unwrap();
    let quiet = quiet.map(|ours| false_alarms(ours, theirs.as_ref()));
    quiet.into_iter().chain(met.map(|ours| power(&ours, theirs.as_ref()))).collect()
}

/// By size.
fn quiet(rules: Rules) -> [Quiet; SIZES.len()] {
    let of_model = |seed| {
        let model = world::model(&world::training_rows(seed));
        SIZES.map(|size| Quiet::of(&model, seed, size, rules))
    };
    (0..MODELS).into_par_iter().map(of_model).reduce(Default::default, |one, other| {
        std::array::from_fn(|place| one[place].and(other[place]))
    })
}

/// By drift and size, for each model.
fn met(rules: Rules) -> Vec<[Vec<Met>; SIZES.len()]> {
    let models: Vec<Model> = (0..POWER_MODELS)
        .into_par_iter()
        .map(|seed| world::model(&world::training_rows(seed)))
        .collect();
    let of_size = |drift, size| {
        let met = |(seed, model)| Met::of(model, seed as u64, size, drift, rules);
        models.par_iter().enumerate().map(met).collect()
    };
    (1..=DRIFTS.len()).map(|drift| SIZES.map(|size| of_size(drift, size))).collect()
}

fn false_alarms(ours: [Quiet; SIZES.len()], theirs: Option<&Theirs>) -> Figure {
    println!(
        "\n| rows a day | days | found in a day's check | in any hour's check | alarms |\
         \x20Evidently: days | a column drifted | the data set drifted |\n\
         |---|---|---|---|---|---|---|---|"
    );
    let mut shares = [[0.0; 2]; SIZES.len()];
    for (place, (size, all)) in SIZES.into_iter().zip(ours).enumerate() {
        let share = |count| interval(count, all.days);
        let peer = theirs.map_or("| | ".into(), |theirs| {
            let share = |count| interval(count, theirs.days);
            let (column, whole) = (theirs.column[place], theirs.data_set[place]);
            format!("{} | {} | {}", theirs.days, share(column), share(whole))
        });
        println!(
            "| {size} | {} | {} | {} | {} | {peer} |",
            all.days,
            share(all.found),
            share(all.found_by_the_hour),
            share(all.alarmed)
        );
        shares[place] = [
            100.0 * all.found as f64 / all.days as f64,
            theirs.map_or(f64::NAN, |t| 100.0 * t.column[place] as f64 / t.days as f64),
        ];
    }
    let [value, baseline_value] = shares[0];
    Figure {
        id: super::FALSE_ALARMS,
        description: "days of 500 rows without drift in which anything is found; less is better",
        value,
        unit: "%",
        baseline: peer::NAME,
        baseline_value,
        ratio: value / baseline_value,
        runs: (MODELS * DAYS) as usize,
    }
}

fn power(ours: &[[Vec<Met>; SIZES.len()]], theirs: Option<&Theirs>) -> Figure {
    println!(
        "\n| drift | rows a day | found on the first day | days until a day's check finds it |\
         \x20hours until an hour's check does | hours until the alarm | Evidently, first day |\
         \x20days until it finds it |\n\
         |---|---|---|---|---|---|---|---|"
    );
    let mut shares = [f64::NAN; 2];
    for (((name, _), of_sizes), drift) in DRIFTS.iter().zip(ours).zip(1..) {
        for (place, (size, met)) in SIZES.into_iter().zip(of_sizes).enumerate() {
            let first = met.iter().filter(|met| met.found_on_first_day).count();
            let of = |delay: fn(&Met) -> Option<usize>| delays(met.iter().map(delay).collect());
            let peer = theirs.map(|theirs| {
                let found = &theirs.found[drift - 1][place];
                let first = found.iter().filter(|days| **days == Some(1)).count();
                (first, found.len(), delays(found.clone()))
            });
            println!(
                "| {name} | {size} | {} | {} | {} | {} | {} |",
                interval(first, met.len()),
                of(|met| met.days),
                of(|met| met.hours),
                of(|met| met.alarm_hours),
                peer.as_ref().map_or(" |".into(), |(first, of, delays)| {
                    format!("{} | {delays}", interval(*first, *of))
                }),
            );
            if (drift, place) == (2, 1) {
                let percent = |(found, of)| 100.0 * found as f64 / of as f64;
                let peer = peer.map_or(f64::NAN, |(first, of, _)| percent((first, of)));
                shares = [percent((first, met.len())), peer];
            }
        }
    }
    let [value, baseline_value] = shares;
    Figure {
        id: super::POWER,
        description: "a shift by 0.25 sd found among 2,000 rows of its first day; more is better",
        value,
        unit: "%",
        baseline: peer::NAME,
        baseline_value,
        ratio: value / baseline_value,
        runs: POWER_MODELS as usize,
    }
}

/// The peer also gets the segment of each row, because it has no model.
fn theirs() -> Option<Theirs> {
    let kind = |place| if CATEGORIES.contains(&place) { 'c' } else { 'n' };
    let kinds: String = (0..FEATURES).map(kind).chain(['c']).collect();
    let mut peer = Peer::start(&kinds)?;
    let mut theirs = Theirs::default();
    for seed in 0..PEER_MODELS {
        let rows = world::training_rows(seed);
        let model = world::model(&rows);
        peer.ask("reference", &with_segments(&model, &rows));
        for (place, size) in SIZES.into_iter().enumerate() {
            for day in 1..=DAYS {
                let columns = with_segments(&model, &Day::new(seed, size, 0, day).all());
                let flags = peer.ask("tests", &columns);
                let drifted = flags[..FEATURES].iter().filter(|flag| **flag > 0.0).count();
                theirs.column[place] += usize::from(drifted > 0);
                theirs.data_set[place] += usize::from(2 * drifted >= FEATURES);
                if (seed, day) < (WHOLE_PRESETS, 2) {
                    assert_eq!(peer.ask("preset", &columns)[1..], flags);
                }
            }
            for drift in 1..=DRIFTS.len() {
                let reported = if DRIFTS[drift - 1].1.mix > 0.0 { FEATURES } else { MOVED };
                let found = (1..=MOST_DAYS).find(|day| {
                    let rows = Day::new(seed, size, drift, *day).all();
                    peer.ask("tests", &with_segments(&model, &rows))[reported] > 0.0
                });
                theirs.found[drift - 1][place].push(found.map(|day| day as usize));
            }
        }
        theirs.days += DAYS as usize;
    }
    peer.stop();
    Some(theirs)
}

fn with_segments(model: &Model, rows: &[FeatureRow]) -> Vec<Vec<f64>> {
    let mut scratch = model.scratch();
    let mut columns = peer::columns(rows);
    let segment = |row| model.score(row, &mut scratch).segment().map_or(f64::NAN, |s| s as f64);
    columns.push(rows.iter().map(segment).collect());
    columns
}

/// A share with its 95 % Wilson interval.
fn interval(count: usize, of: usize) -> String {
    const Z: f64 = 1.959_964;
    let (n, share) = (of as f64, count as f64 / of as f64);
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let percent = |share: f64| 100.0 * share.clamp(0.0, 1.0);
    let (low, high) = (percent(middle - half), percent(middle + half));
    format!("{:.1} % ({low:.1} to {high:.1})", percent(share))
}

/// Median and 90 % point.
fn delays(mut delays: Vec<Option<usize>>) -> String {
    delays.sort_by_key(|delay| delay.unwrap_or(usize::MAX));
    let at = |share: f64| {
        let place = (share * delays.len() as f64).ceil() as usize - 1;
        delays[place].map_or("never".into(), |delay| delay.to_string())
    };
    format!("{}, {}", at(0.5), at(0.9))
}
