//! Segment churn: customers who change segments in a period, compared with the period
//! before.
//!
//! Moves are counted one by one. Churn is net: it counts the customers in another segment
//! at the end of a period than at its beginning. Only assignments of the active
//! model count. Changes by another model, by the rule-based fallback, or by a merge of
//! customer ids are counted separately.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::drift::output_shift::Rate;
use crate::domain::drift::statistics::benjamini_hochberg::benjamini_hochberg;
use crate::domain::drift::statistics::contingency_table::share;
use crate::domain::model::{Counts, LEAST_TOLD, Migration, Model, Place, UNASSIGNED};

/// Origin of a customer's first assignment in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Assigned by this model before the period began.
    Stood,
    /// Taken over by this model from another model or from the rule-based fallback.
    Came,
    /// Assigned for the first time.
    New,
}

/// A group of customers with changes in a period, who took the same path between the
/// segments of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub start: Start,
    /// Key of the first segment; `None`: no assignment by this model.
    pub from: Option<Box<str>>,
    /// Key of the last segment; `None`: assigned by another model, or the customer is gone.
    pub to: Option<Box<str>>,
    pub customers: u64,
    /// Customers of the group with at least one move.
    pub movers: u64,
    /// Moves from one segment of the model to another.
    pub moves: u64,
    pub apart: Apart,
}

/// Changes of assignment that do not count as moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Apart {
    /// To or from another model.
    pub by_another_model: u64,
    /// To or from the rule-based fallback.
    pub by_rules: u64,
    /// The customer was merged into another id.
    pub merged: u64,
}

/// Churn of all segments in one period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Churn {
    /// Over all segments.
    pub everybody: Share,
    /// By segment at the beginning of the period; the last entry is for customers in none.
    pub segments: Vec<SegmentChurn>,
    /// Moves from one segment of the model to another, back and forth included.
    pub moves: u64,
    /// Customers with at least one move.
    pub movers: u64,
    pub changes_apart: Apart,
    /// Flows from the segments at the beginning to those at the end, customers who stay
    /// included.
    pub flow: Migration,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentChurn {
    #[serde(flatten)]
    pub place: Place,
    /// Label of the segment; null for customers in none.
    pub label: Option<Box<str>>,
    #[serde(flatten)]
    pub share: Share,
    /// The p-value, corrected for the number of segments.
    pub adjusted_p_value: Option<f64>,
    /// Customers with their first assignment ever, to this segment. `None`: too few to report
    /// without singling a customer out.
    pub new: Option<u64>,
}

/// Churn rate of a segment. `moved` and the churn rates are `None` if too few customers
/// moved to report without singling one out ([`LEAST_TOLD`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Customers at the beginning, without those no longer assigned by this model at the
    /// end.
    pub customers: u64,
    pub moved: Option<u64>,
    pub churn: Option<f64>,
    /// Churn of the previous period. Also `None` if the history does not reach back far
    /// enough.
    pub churn_before: Option<f64>,
    /// Fisher's exact test of equal churn in both periods, if customers move
    /// independently. `None` if either churn is not reported.
    pub p_value: Option<f64>,
}

/// Counts of one period.
struct Period {
    /// By segment at the beginning, last of none: all customers, and those in another
    /// segment at the end.
    stood: Vec<(u64, u64)>,
    new: Vec<u64>,
    counts: Counts,
    /// Customers assigned by the model at the beginning, even if they left it later.
    at_beginning: Vec<u64>,
}

/// Computes the churn of the period `now` against the period `before` it.
///
/// `sizes` are the customers by segment at the end of `now`. `before` is `None` if the
/// history does not reach back that far.
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

/// Keys of the segments, and last the key for customers in none.
fn keys(model: &Model) -> Vec<&str> {
    model.segments().iter().map(|segment| &*segment.key).chain([UNASSIGNED]).collect()
}

impl Period {
    fn of(model: &Model, at_end: &[u64], ways: &[Way]) -> Self {
        let keys = keys(model);
        let none = keys.len() - 1;
        let place =
            |key: &Option<Box<str>>| keys.iter().position(|known| key.as_deref() == Some(known));
        // Customers without a change are not in `ways`: they are the rest of each segment.
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

/// Suppresses small counts: a count of 1 to 4 could single a customer out.
fn told(customers: u64) -> Option<u64> {
    (customers == 0 || customers >= LEAST_TOLD).then_some(customers)
}

fn all(parts: &[(u64, u64)]) -> (u64, u64) {
    parts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}
