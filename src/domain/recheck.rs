//! When to look at a quiet customer again: until then, time alone changes
//! neither segment nor outlier flag. The segment is the one where the customer
//! stands by the rules of `assign`, which need not be the nearest; that another one
//! has become the nearest is found out no sooner.
//!
//! A window jumps at the midnight at which its oldest day leaves it; no
//! customer is trusted beyond the first jump. Before it, each feature stays
//! within bounds that are known for any instant (`feature::motion`), and a
//! model tells whether its answer holds anywhere within them (`model::hold`).
//! Bounds only widen with time, so the furthest instant that passes is found by
//! halving. It is never too late and mostly a little early: looked at then, the
//! customer is closer to the border, the bounds are tighter, and so on.

use crate::domain::encode::NumberColumn;
use crate::domain::feature::rfm::{RfmRules, Scored};
use crate::domain::feature::{CustomerState, Drift, FeatureRow, FeatureSet};
use crate::domain::hysteresis::{Policy, Standing};
use crate::domain::model::{Model, Scratch, Span};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};

/// Who may be closer to a border than this, in milliseconds, is looked at again
/// after it: nobody is looked at all the time.
pub const SHORTEST: i64 = 10_000;
/// Nobody who moves at all is left alone for longer: distances are to stay
/// about right too.
const LONGEST: i64 = 366 * MILLIS_PER_DAY;
/// The instant found is early by at most this share of the time until then.
const PRECISION: i64 = 64;

/// What the answers of one lineup rest on.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Event sources behind the features that are read, by index.
    sources: Vec<usize>,
    /// The model's columns that move between jumps.
    columns: Vec<NumberColumn>,
    drifts: bool,
}

/// Who answers, and what.
#[derive(Debug, Clone, Copy)]
pub struct Answerer<'a> {
    pub features: &'a FeatureSet,
    /// `None`: the rules of the features.
    pub model: Option<ByModel<'a>>,
}

/// What a model of the features answers.
#[derive(Debug, Clone, Copy)]
pub struct ByModel<'a> {
    pub model: &'a Model,
    pub outlier_alpha: f64,
    pub policy: Policy,
    /// Where the customer stands by that policy.
    pub standing: Standing,
}

impl Watch {
    /// `model` must be one of these features.
    pub fn new(features: &FeatureSet, model: Option<&Model>) -> Self {
        let read: Vec<usize> = match model {
            Some(model) => model.encoder().features().collect(),
            None => scored(features.rfm()).map(|scored| scored.index).to_vec(),
        };
        let mut sources = Vec::new();
        for feature in &read {
            features.sources_behind(*feature, &mut sources);
        }
        sources.sort_unstable();
        sources.dedup();
        let columns = model.into_iter().flat_map(|model| model.encoder().numbers());
        Self {
            sources,
            columns: columns.filter(|at| features.can_drift(at.feature)).collect(),
            drifts: read.iter().any(|feature| features.can_drift(*feature)),
        }
    }

    /// The first instant after `now` that need be looked at, or `no_later` where
    /// that is sooner and to come; `None` when time never changes anything. `row`
    /// is the one of `state` at `now`.
    ///
    /// Every row of an instant from `now` to before it has the answer that `row`
    /// has; unless it is the least that is given: [`SHORTEST`] after `now` or the
    /// newest event, or the jump if that is sooner still. Who may not move yet is
    /// looked at when the stay ends.
    pub fn recheck_at(
        &self,
        answerer: Answerer<'_>,
        (state, row): (&CustomerState, &FeatureRow),
        (now, no_later): (Timestamp, Option<Timestamp>),
        scratch: &mut Scratch,
    ) -> Option<Timestamp> {
        let bound_until = answerer.model.and_then(|by| by.standing.bound_until);
        let no_later = no_later.into_iter().chain(bound_until).min();
        let changes_at = self.changes_at(answerer, (state, row), (now, no_later), scratch);
        changes_at.into_iter().chain(bound_until).min()
    }

    fn changes_at(
        &self,
        Answerer { features, model }: Answerer<'_>,
        (state, row): (&CustomerState, &FeatureRow),
        (now, no_later): (Timestamp, Option<Timestamp>),
        scratch: &mut Scratch,
    ) -> Option<Timestamp> {
        // Until the newest event's instant, rows are those of that instant.
        let now = state.last_event_at().map_or(now, |newest| newest.max(now));
        let jump = state.next_jump(features, &self.sources, now);
        let jump = jump.into_iter().chain(no_later.filter(|sooner| *sooner > now)).min();
        if !self.drifts {
            return jump;
        }
        let end = jump.unwrap_or(now.plus_millis(LONGEST)).min(now.plus_millis(LONGEST));
        let drift = |feature, until| state.drift(features, row, feature, (now, until));
        let found = match model {
            None => {
                let rules = scored(features.rfm());
                furthest(now, end, |until| {
                    rules
                        .iter()
                        .all(|scored| is_scored_the_same(scored, drift(scored.index, until)))
                })
            }
            Some(ByModel { model, outlier_alpha, policy, standing }) => {
                let mut hold = model.hold(row, standing.stay(policy), outlier_alpha, scratch);
                furthest(now, end, |until| {
                    let mut is_told = true;
                    let spans =
                        self.columns.iter().filter_map(|at| match drift(at.feature, until) {
                            Drift::Still => None,
                            Drift::Within(least, greatest) => {
                                let encode = |x| model.encoder().encode_number(*at, x);
                                Some(Span {
                                    column: at.column,
                                    ends: (encode(least), encode(greatest)),
                                })
                            }
                            Drift::Anywhere => {
                                is_told = false;
                                None
                            }
                        });
                    hold.holds_within(spans) && is_told
                })
            }
        };
        Some(found)
    }
}

fn scored(rules: &RfmRules) -> [&Scored; 3] {
    [&rules.recency, &rules.frequency, &rules.monetary]
}

fn is_scored_the_same(scored: &Scored, drift: Drift) -> bool {
    match drift {
        Drift::Still => true,
        Drift::Within(least, greatest) => scored.cuts_below(least) == scored.cuts_below(greatest),
        Drift::Anywhere => false,
    }
}

/// The instant after the last one found up to which `holds` is true, or `end`
/// if it is up to there; `holds` is true up to some instant, and false after it.
fn furthest(now: Timestamp, end: Timestamp, mut holds: impl FnMut(Timestamp) -> bool) -> Timestamp {
    let (mut good, mut bad) = (0, end.millis() - now.millis() - 1);
    let mut holds = |millis: i64| holds(now.plus_millis(millis));
    if holds(bad) {
        return end;
    }
    // Down by orders of magnitude, then by halves.
    while bad > SHORTEST && good == 0 {
        let closer = (bad / 8).max(SHORTEST);
        if holds(closer) { good = closer } else { bad = closer }
    }
    if good == 0 {
        return end.min(now.plus_millis(SHORTEST));
    }
    while bad - good > SHORTEST.max(good / PRECISION) {
        let middle = good + (bad - good) / 2;
        if holds(middle) { good = middle } else { bad = middle }
    }
    now.plus_millis(good + 1)
}
