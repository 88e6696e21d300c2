//! Who moves between the segments of the live model, and how many: of one period, beside
//! the one before it.
//!
//! Moves are counted one by one; churn is net: who stands in another segment at the end
//! of a period than at its beginning. Only what the model itself says counts. Where
//! another model or the rules answered, or an id went up in another, changes are
//! counted apart.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::drift::output_shift::Rate;
use crate::domain::drift::statistics::benjamini_hochberg::benjamini_hochberg;
use crate::domain::drift::statistics::contingency_table::share;
use crate::domain::model::{Counts, LEAST_TOLD, Migration, Model, Place, UNASSIGNED};

/// Where a customer was first met in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// In a segment of the model, at the beginning.
    Stood,
    /// Put there by the model when it took over from another, or from the rules.
    Came,
    /// Assigned for the first time.
    New,
}

/// Customers with changes in a period who went the same way under the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub start: Start,
    /// The segment's key; `None`: never of this model.
    pub from: Option<Box<str>>,
    /// Of the end; `None`: no longer of this model, or no longer there.
    pub to: Option<Box<str>>,
    pub customers: u64,
    /// Of them, those with at least one move.
    pub movers: u64,
    /// From one segment of the model to another.
    pub moves: u64,
    pub apart: Apart,
}

/// Changes that are no moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Apart {
    /// To or from another model.
    pub by_another_model: u64,
    /// To or from the rule-based fallback.
    pub by_rules: u64,
    /// The customer is kept under another id from then on.
    pub merged: u64,
}

/// Who moved in a period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Churn {
    /// Over all segments.
    pub everybody: Share,
    /// By segment of the model at the beginning, and last of who was in none.
    pub segments: Vec<SegmentChurn>,
    /// From one segment of the model to another, by how many customers, whether or
    /// not they went back.
    pub moves: u64,
    pub movers: u64,
    pub changes_apart: Apart,
    /// Where customers stood at the beginning, and at the end; those who stay among
    /// them.
    pub flow: Migration,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentChurn {
    #[serde(flatten)]
    pub place: Place,
    /// In words; null for who was in none.
    pub label: Option<Box<str>>,
    #[serde(flatten)]
    pub share: Share,
    /// The p-value, corrected for the number of segments.
    pub adjusted_p_value: Option<f64>,
    /// Customers assigned for the first time, and to this segment. `None`: fewer than
    /// are told of.
    pub new: Option<u64>,
}

/// The share of customers who stand elsewhere at the end. `moved` and the churns are
/// `None` where fewer moved than are told of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// At the beginning, those left out who are no longer of this model at the end.
    pub customers: u64,
    pub moved: Option<u64>,
    pub churn: Option<f64>,
    /// `None` also where the history does not reach back as far.
    pub churn_before: Option<f64>,
    /// How often chance alone makes the two periods differ as much (Fisher), if each
    /// customer of each period moved by chance alone. `None` where either is not told.
    pub p_value: Option<f64>,
}

/// One period, counted.
struct Period {
    /// By where customers stood, of segments and none: all, and those who stand
    /// elsewhere at the end.
    stood: Vec<(u64, u64)>,
    new: Vec<u64>,
    counts: Counts,
    /// Of the model at the beginning, whatever became of them.
    at_beginning: Vec<u64>,
}

/// `sizes`: who stands in which segment at the end of `now`, the second of both periods;
/// `before`: `None` where nobody knows.
pub fn churn(
    model: &Model,
    sizes: &BTreeMap<Box<str>, u64>,
    now: &[Way],
    before: Option<&[Way]>,
) -> Churn {
    let keys = keys(model);
    let at_end: Vec<u64> = keys.iter().map(|key| sizes.get(*key).copied().unwrap_or(0)).collect();
    let this = Period::of(model, &at_end, now);
    let last = before.map(|before| Period::of(model, &this.at_beginning, before).stood);
    let last = last.unwrap_or_else(|| vec![(0, 0); this.stood.len()]);
    let shares = this.stood.iter().zip(&last).map(|(now, before)| Share::of(*now, *before));
    let shares: Vec<Share> = shares.collect();
    let tested: Vec<f64> = shares.iter().filter_map(|share| share.p_value).collect();
    let mut adjusted = benjamini_hochberg(&tested).into_iter();
    let mut places = Place::of_model(model);
    places.push(Place::none());
    let labels = model.segments().iter().map(|segment| Some(segment.label.clone())).chain([None]);
    let segments = places.into_iter().zip(labels).zip(shares).zip(&this.new);
    let segments = segments.map(|(((place, label), share), new)| SegmentChurn {
        place,
        label,
        share,
        adjusted_p_value: share.p_value.and_then(|_| adjusted.next()),
        new: told(*new),
    });
    let sum = |of: fn(&Way) -> u64| now.iter().map(of).sum();
    Churn {
        everybody: Share::of(all(&this.stood), all(&last)),
        segments: segments.collect(),
        moves: sum(|way| way.moves),
        movers: sum(|way| way.movers),
        changes_apart: Apart {
            by_another_model: sum(|way| way.apart.by_another_model),
            by_rules: sum(|way| way.apart.by_rules),
            merged: sum(|way| way.apart.merged),
        },
        flow: this.counts.told(),
    }
}

/// Of the segments, and last of none.
fn keys(model: &Model) -> Vec<&str> {
    model.segments().iter().map(|segment| &*segment.key).chain([UNASSIGNED]).collect()
}

impl Period {
    fn of(model: &Model, at_end: &[u64], ways: &[Way]) -> Self {
        let keys = keys(model);
        let none = keys.len() - 1;
        let place =
            |key: &Option<Box<str>>| keys.iter().position(|known| key.as_deref() == Some(known));
        // Whoever has no change stays.
        let mut stayed = at_end.to_vec();
        let mut at_beginning = vec![0; keys.len()];
        let (mut stood, mut new) = (vec![(0, 0); keys.len()], vec![0; keys.len()]);
        let places = Place::of_model(model);
        let mut counts = Counts::new(places.clone(), places);
        let segment = |place: usize| (place != none).then_some(place);
        for way in ways {
            let (from, to) = (place(&way.from), place(&way.to));
            if let Some(to) = to {
                stayed[to] = stayed[to].saturating_sub(way.customers);
            }
            match (way.start, from, to) {
                (Start::New, Some(from), _) => new[from] += way.customers,
                (Start::Stood | Start::Came, Some(from), Some(to)) => {
                    stood[from].0 += way.customers;
                    stood[from].1 += if from == to { 0 } else { way.customers };
                    counts.add_all(segment(from), segment(to), way.customers);
                }
                _ => {}
            }
            if let (Start::Stood, Some(from)) = (way.start, from) {
                at_beginning[from] += way.customers;
            }
        }
        for (place, customers) in stayed.into_iter().enumerate() {
            at_beginning[place] += customers;
            stood[place].0 += customers;
            counts.add_all(segment(place), segment(place), customers);
        }
        Self { stood, new, counts, at_beginning }
    }
}

impl Share {
    fn of((customers, moved): (u64, u64), (customers_before, moved_before): (u64, u64)) -> Self {
        let churn = |moved: u64, customers: u64| {
            let known = told(moved).filter(|_| customers > 0);
            known.map(|moved| share(moved as f64, customers as f64))
        };
        let (now, before) = (churn(moved, customers), churn(moved_before, customers_before));
        let test = Rate::of((moved_before, customers_before), (moved, customers));
        let p_value = test.filter(|_| now.is_some() && before.is_some()).map(|test| test.p_value);
        Self { customers, moved: told(moved), churn: now, churn_before: before, p_value }
    }
}

/// Few enough to single anybody out are not told of.
fn told(customers: u64) -> Option<u64> {
    (customers == 0 || customers >= LEAST_TOLD).then_some(customers)
}

fn all(parts: &[(u64, u64)]) -> (u64, u64) {
    parts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}
