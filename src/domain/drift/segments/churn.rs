//! Segment churn: customers who change segments in a period, compared with the period
//! before.
//!
//! Moves are counted one by one. Churn is net: it counts the customers whose segment at the
//! end of a period differs from that at its beginning. Only assignments of the active
//! model count. Changes by another model, by the rule-based fallback, or by a merge of
//! customer ids are counted separately.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::drift::dependence::DesignEffects;
use crate::domain::drift::output_shift::{RateComparison, RowCount};
use crate::domain::drift::statistics::contingency_table::share;
use crate::domain::model::{
    MINIMUM_REPORTED_CUSTOMERS, MigrationMatrix, MigrationSummary, Model, NamedSegment,
};
use crate::domain::stats::benjamini_hochberg;

/// Origin of a customer's first assignment in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignmentOrigin {
    /// Assigned by this model before the period began.
    AssignedBefore,
    /// Taken over by this model from another model or from the rule-based fallback.
    TakenOver,
    /// Assigned for the first time.
    FirstAssigned,
}

/// A group of customers with changes in a period, who took the same path between the
/// segments of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerPath {
    pub start: AssignmentOrigin,
    /// Key of the first segment; `None`: no assignment by this model.
    pub from: Option<Box<str>>,
    /// Key of the last segment; `None`: assigned by another model, or the customer is gone.
    pub to: Option<Box<str>>,
    pub customers: u64,
    /// Customers of the group with at least one move.
    pub movers: u64,
    /// Moves from one segment of the model to another.
    pub moves: u64,
    pub separate_changes: SeparateChanges,
}

/// Changes of assignment that do not count as moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SeparateChanges {
    /// To or from another model.
    pub by_another_model: u64,
    /// To or from the rule-based fallback.
    pub by_rules: u64,
    /// The customer was merged into another id.
    pub merged: u64,
}

/// Churn of all segments in one period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChurnReport {
    /// Over all segments.
    pub total: ChurnRate,
    /// By segment at the beginning of the period; the last entry is for customers in none.
    pub segments: Vec<SegmentChurn>,
    /// Moves from one segment of the model to another, back and forth included.
    pub moves: u64,
    /// Customers with at least one move.
    pub movers: u64,
    pub separate_changes: SeparateChanges,
    /// Flows from the segments at the beginning to those at the end, customers who stay
    /// included.
    pub flow: MigrationSummary,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentChurn {
    #[serde(flatten)]
    pub segment: NamedSegment,
    #[serde(flatten)]
    pub share: ChurnRate,
    /// The p-value, corrected for the number of segments.
    pub adjusted_p_value: Option<f64>,
    /// Customers with their first assignment ever, to this segment. `None`: too few to report
    /// without singling a customer out.
    pub new: Option<u64>,
}

/// Churn rate of a segment. `moved` and the churn rates are `None` if too few customers
/// moved to report without singling one out ([`MINIMUM_REPORTED_CUSTOMERS`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChurnRate {
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

/// Customers of a segment at the beginning of a period, and those in another one at its end.
#[derive(Clone, Copy, Default)]
struct SegmentMoves {
    customers: u64,
    moved: u64,
}

/// Counts of one period.
struct PeriodCounts {
    /// By segment at the beginning, last of none.
    moves: Vec<SegmentMoves>,
    /// First assignments ever, by segment.
    new: Vec<u64>,
    matrix: MigrationMatrix,
    /// Customers assigned by the model at the beginning, even if they left it later.
    at_beginning: Vec<u64>,
}

/// Computes the churn of the period `now` against the period `before` it.
///
/// `sizes` are the customers by segment at the end of `now`. `before` is `None` if the
/// history does not reach back that far.
pub fn compute_churn(
    model: &Model,
    sizes: &BTreeMap<Box<str>, u64>,
    now: &[CustomerPath],
    before: Option<&[CustomerPath]>,
) -> ChurnReport {
    let places = places(model);
    let at_end: Vec<u64> =
        places.iter().map(|place| sizes.get(&place.id).copied().unwrap_or(0)).collect();
    let this = PeriodCounts::new(model, &at_end, now);
    let last = match before {
        Some(before) => PeriodCounts::new(model, &this.at_beginning, before).moves,
        None => vec![SegmentMoves::default(); this.moves.len()],
    };
    let shares: Vec<ChurnRate> =
        this.moves.iter().zip(&last).map(|(now, before)| ChurnRate::of(*now, *before)).collect();
    let tested: Vec<f64> = shares.iter().filter_map(|share| share.p_value).collect();
    let mut adjusted = benjamini_hochberg(&tested).into_iter();
    let segments = places.into_iter().zip(shares).zip(&this.new);
    let segments = segments.map(|((segment, share), new)| SegmentChurn {
        segment,
        share,
        adjusted_p_value: share.p_value.and_then(|_| adjusted.next()),
        new: reportable(*new),
    });
    let (mut moves, mut movers, mut separate_changes) = (0, 0, SeparateChanges::default());
    for way in now {
        moves += way.moves;
        movers += way.movers;
        separate_changes.by_another_model += way.separate_changes.by_another_model;
        separate_changes.by_rules += way.separate_changes.by_rules;
        separate_changes.merged += way.separate_changes.merged;
    }
    ChurnReport {
        total: ChurnRate::of(sum(&this.moves), sum(&last)),
        segments: segments.collect(),
        moves,
        movers,
        separate_changes,
        flow: this.matrix.summarize(),
    }
}

/// The segments, and last the place of customers in none.
fn places(model: &Model) -> Vec<NamedSegment> {
    let mut places = model.named_segments();
    places.push(NamedSegment::unassigned());
    places
}

impl PeriodCounts {
    fn new(model: &Model, at_end: &[u64], ways: &[CustomerPath]) -> Self {
        let places = places(model);
        let segments = model.named_segments();
        let mut counts = Self {
            moves: vec![SegmentMoves::default(); places.len()],
            new: vec![0; places.len()],
            matrix: MigrationMatrix::new(segments.clone(), segments),
            at_beginning: vec![0; places.len()],
        };
        // Customers without a change are not in `ways`: they are the rest of each segment.
        let mut unchanged = at_end.to_vec();
        for way in ways {
            let (from, to) =
                (index_of(&places, way.from.as_deref()), index_of(&places, way.to.as_deref()));
            if let Some(to) = to {
                unchanged[to] = unchanged[to].saturating_sub(way.customers);
            }
            match (way.start, from, to) {
                (AssignmentOrigin::FirstAssigned, Some(from), _) => {
                    counts.new[from] += way.customers;
                }
                (
                    AssignmentOrigin::AssignedBefore | AssignmentOrigin::TakenOver,
                    Some(from),
                    Some(to),
                ) => {
                    counts.add(from, to, way.customers);
                }
                _ => {}
            }
            if let (AssignmentOrigin::AssignedBefore, Some(from)) = (way.start, from) {
                counts.at_beginning[from] += way.customers;
            }
        }
        for (index, customers) in unchanged.into_iter().enumerate() {
            counts.at_beginning[index] += customers;
            counts.add(index, index, customers);
        }
        counts
    }

    fn add(&mut self, from: usize, to: usize, customers: u64) {
        let none = self.moves.len() - 1;
        let moves = &mut self.moves[from];
        moves.customers += customers;
        if from != to {
            moves.moved += customers;
        }
        let (from, to) =
            (Some(from).filter(|from| *from != none), Some(to).filter(|to| *to != none));
        self.matrix.add_all(from, to, customers);
    }
}

fn index_of(places: &[NamedSegment], id: Option<&str>) -> Option<usize> {
    places.iter().position(|place| Some(&*place.id) == id)
}

impl SegmentMoves {
    /// Share of customers who moved; `None` if it must not be reported.
    fn churn(self) -> Option<f64> {
        let moved = reportable(self.moved).filter(|_| self.customers > 0)?;
        Some(share(moved as f64, self.customers as f64))
    }

    fn row_count(self) -> RowCount {
        RowCount { counted: self.moved, all: self.customers }
    }
}

impl ChurnRate {
    fn of(this: SegmentMoves, last: SegmentMoves) -> Self {
        let (churn, churn_before) = (this.churn(), last.churn());
        let test =
            RateComparison::of(last.row_count(), this.row_count(), DesignEffects::INDEPENDENT);
        let is_reported = churn.is_some() && churn_before.is_some();
        Self {
            customers: this.customers,
            moved: reportable(this.moved),
            churn,
            churn_before,
            p_value: test.filter(|_| is_reported).map(|test| test.p_value),
        }
    }
}

/// Suppresses small counts: a count of 1 to 4 could single a customer out.
fn reportable(customers: u64) -> Option<u64> {
    (customers == 0 || customers >= MINIMUM_REPORTED_CUSTOMERS).then_some(customers)
}

fn sum(segments: &[SegmentMoves]) -> SegmentMoves {
    let mut sum = SegmentMoves::default();
    for moves in segments {
        sum.customers += moves.customers;
        sum.moved += moves.moved;
    }
    sum
}
