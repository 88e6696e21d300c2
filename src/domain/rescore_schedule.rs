//! Scheduled rescoring: the instant until which time alone changes neither the segment nor the
//! outlier flag of a customer without events.
//!
//! The segment is the assignment after hysteresis, which need not be the nearest one. The
//! schedule does not detect earlier that another segment has become the nearest.
//!
//! A window jumps at the midnight at which its oldest day leaves it, and no schedule reaches
//! beyond the first jump. Before it, each feature has known bounds for any instant
//! (`feature::time_change`), and a model decides whether its answer is the same everywhere within
//! these bounds (`model::bounds`). Bounds only widen with time, so bisection finds the furthest
//! instant that passes. The result is never too late and mostly a little early: at the next
//! rescore the customer is closer to the border and the bounds are tighter.

use crate::domain::encode::NumericColumn;
use crate::domain::feature::rfm::{RfmInput, RfmRules};
use crate::domain::feature::{CustomerState, FeatureRow, FeatureSet, QuietPeriod, TimeBounds};
use crate::domain::hysteresis::{HysteresisPolicy, SegmentAssignment};
use crate::domain::model::{ColumnSpan, Model, ScoringScratch, SegmentScore};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};

/// Minimum interval in milliseconds. A customer closer to a border than this is rescored after
/// it, so that no customer is rescored continuously.
pub const MIN_INTERVAL_MILLIS: i64 = 10_000;
/// Maximum interval for a customer with features that move with time, so that stored distances
/// stay approximately right too.
const MAX_INTERVAL_MILLIS: i64 = 366 * MILLIS_PER_DAY;
/// The instant found is early by at most this share of the interval.
const PRECISION: i64 = 64;

/// The time-dependent inputs of a deployment's answers, and of its audiences as far as they jump.
#[derive(Debug, Clone, Default)]
pub struct RescoreSchedule {
    /// Event sources behind the features that are read, by index.
    sources: Vec<usize>,
    /// The model's columns that move between jumps.
    columns: Vec<NumericColumn>,
    changes_with_time: bool,
}

/// The answering model, or the fallback rules, of one customer.
#[derive(Debug, Clone, Copy)]
pub struct AnswerSource<'a> {
    pub features: &'a FeatureSet,
    /// `None` for the fallback rules of the feature set.
    pub model: Option<ModelAnswer<'a>>,
}

/// A customer without events, at one instant.
#[derive(Debug, Clone, Copy)]
pub struct QuietCustomer<'a> {
    pub state: &'a CustomerState,
    /// The feature row of `state` at `now`.
    pub row: &'a FeatureRow,
    pub now: Timestamp,
}

/// A model with the customer's assignment under it.
#[derive(Debug, Clone, Copy)]
pub struct ModelAnswer<'a> {
    pub model: &'a Model,
    pub outlier_alpha: f64,
    pub hysteresis: HysteresisPolicy,
    /// The score of the customer's row.
    pub score: SegmentScore,
    /// The customer's assignment by that policy.
    pub assignment: SegmentAssignment,
}

impl RescoreSchedule {
    /// `model` must be trained on `features`. `also_read`: further features whose jumps end a
    /// schedule.
    pub fn new(features: &FeatureSet, model: Option<&Model>, also_read: &[usize]) -> Self {
        let read: Vec<usize> = match model {
            Some(model) => model.encoder().feature_indices().collect(),
            None => scored(features.rfm()).map(|scored| scored.index).to_vec(),
        };
        let mut sources = Vec::new();
        for feature in read.iter().chain(also_read) {
            features.sources_behind(*feature, &mut sources);
        }
        features.retain_distinct_jumps(&mut sources);
        let columns = model.into_iter().flat_map(|model| model.encoder().numeric_columns());
        Self {
            sources,
            columns: columns.filter(|at| features.can_drift(at.feature)).collect(),
            changes_with_time: read.iter().any(|feature| features.can_drift(*feature)),
        }
    }

    /// Returns the next instant at which to rescore a customer: the first at which the answer may
    /// change, or `no_later` if that is sooner and in the future. `None` if time never changes
    /// the answer.
    ///
    /// Every row between now and the returned instant has the answer of the current row. The
    /// exception is the minimum interval: [`MIN_INTERVAL_MILLIS`] after now or the newest event,
    /// or the next jump if that is sooner. A customer within a minimum stay is rescored when the
    /// stay ends.
    pub fn next_rescore_at(
        &self,
        answerer: AnswerSource<'_>,
        customer: QuietCustomer<'_>,
        no_later: Option<Timestamp>,
        scratch: &mut ScoringScratch,
    ) -> Option<Timestamp> {
        let bound_until = answerer.model.and_then(|by| by.assignment.minimum_stay_ends_at);
        let no_later = no_later.into_iter().chain(bound_until).min();
        let changes_at = self.changes_at(answerer, customer, no_later, scratch);
        changes_at.into_iter().chain(bound_until).min()
    }

    fn changes_at(
        &self,
        AnswerSource { features, model }: AnswerSource<'_>,
        customer: QuietCustomer<'_>,
        no_later: Option<Timestamp>,
        scratch: &mut ScoringScratch,
    ) -> Option<Timestamp> {
        let QuietCustomer { state, row, now } = customer;
        // Rows before the newest event's instant are those of that instant.
        let now = state.last_event_at().map_or(now, |newest| newest.max(now));
        let jump = state.next_jump(features, &self.sources, now);
        let jump = jump.into_iter().chain(no_later.filter(|sooner| *sooner > now)).min();
        if !self.changes_with_time {
            return jump;
        }
        let end = jump
            .unwrap_or(now.plus_millis(MAX_INTERVAL_MILLIS))
            .min(now.plus_millis(MAX_INTERVAL_MILLIS));
        let found = match model {
            None => {
                let rules = scored(features.rfm());
                first_possible_change(now, end, |until| {
                    let period = QuietPeriod { from: now, until };
                    rules.iter().all(|scored| {
                        let bounds = features.time_bounds(row, scored.index, period);
                        is_scored_the_same(scored, bounds)
                    })
                })
            }
            Some(ModelAnswer { model, outlier_alpha, hysteresis: policy, score, assignment }) => {
                let mut hold = model.check_invariance(
                    row,
                    &score,
                    assignment.invariance_condition(policy),
                    outlier_alpha,
                    scratch,
                );
                first_possible_change(now, end, |until| {
                    let period = QuietPeriod { from: now, until };
                    let mut is_bounded = true;
                    let spans = self.columns.iter().filter_map(|at| {
                        match features.time_bounds(row, at.feature, period) {
                            TimeBounds::Constant => None,
                            TimeBounds::Within(least, greatest) => Some(ColumnSpan {
                                column: at.column,
                                ends: (
                                    model.encoder().encode_number(*at, least),
                                    model.encoder().encode_number(*at, greatest),
                                ),
                            }),
                            TimeBounds::Anywhere => {
                                is_bounded = false;
                                None
                            }
                        }
                    });
                    hold.is_invariant_within(spans) && is_bounded
                })
            }
        };
        Some(found)
    }
}

fn scored(rules: &RfmRules) -> [&RfmInput; 3] {
    [&rules.recency, &rules.frequency, &rules.monetary]
}

fn is_scored_the_same(scored: &RfmInput, bounds: TimeBounds) -> bool {
    match bounds {
        TimeBounds::Constant => true,
        TimeBounds::Within(least, greatest) => {
            scored.cuts_below(least) == scored.cuts_below(greatest)
        }
        TimeBounds::Anywhere => false,
    }
}

/// Bisects for the instant after the last one up to which `is_unchanged` is true; returns `end` if
/// it is true up to there. `is_unchanged` must be true up to some instant and false after it.
pub(in crate::domain) fn first_possible_change(
    now: Timestamp,
    end: Timestamp,
    mut is_unchanged: impl FnMut(Timestamp) -> bool,
) -> Timestamp {
    let (mut good, mut bad) = (0, end.millis() - now.millis() - 1);
    if is_unchanged(now.plus_millis(bad)) {
        return end;
    }
    // Shrink by factors of eight, then bisect: borders are mostly near, and `end` is up to a
    // year away.
    while bad > MIN_INTERVAL_MILLIS && good == 0 {
        let closer = (bad / 8).max(MIN_INTERVAL_MILLIS);
        if is_unchanged(now.plus_millis(closer)) { good = closer } else { bad = closer }
    }
    if good == 0 {
        return end.min(now.plus_millis(MIN_INTERVAL_MILLIS));
    }
    while bad - good > MIN_INTERVAL_MILLIS.max(good / PRECISION) {
        let middle = good + (bad - good) / 2;
        if is_unchanged(now.plus_millis(middle)) { good = middle } else { bad = middle }
    }
    now.plus_millis(good + 1)
}
