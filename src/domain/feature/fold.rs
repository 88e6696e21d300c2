//! Fold cells: mergeable aggregates for one time bucket of one feature.
//!
//! Adding to cells and merging them is commutative: counts, exact sums, extremes, or the
//! greatest of tied values. So the order of events has no effect. Every cell starts empty
//! (`Default`), and merging with an empty cell changes nothing.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::domain::event::Scalar;
use crate::domain::feature::Value;
use crate::domain::feature::define::Kind;
use crate::domain::feature::exact::Exact;

/// Whether stored bytes can be this instant: within about 285,000 years of 1970. Every
/// timestamp that can be written is in this range, and arithmetic within it cannot overflow.
pub(super) const fn is_plausible(millis: i64) -> bool {
    millis.unsigned_abs() < 1 << 53
}

/// An aggregate that can be merged with another one of its type.
pub(super) trait Cell: Default {
    fn merge(&mut self, other: &Self);
}

/// A term of totals: a number of events, or an exact sum.
pub(super) trait Amount: Copy + Default {
    /// Adds with saturation.
    fn add(&mut self, other: Self);
    fn to_f64(self) -> f64;
}

impl Amount for u64 {
    fn add(&mut self, other: Self) {
        *self = self.saturating_add(other);
    }

    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl Amount for Exact {
    fn add(&mut self, other: Self) {
        *self = self.plus(other);
    }

    fn to_f64(self) -> f64 {
        self.nearest()
    }
}

/// A cell that a decaying window can weight: a numerator and a denominator (1 for totals).
pub(super) trait Parts: Cell {
    /// (numerator, denominator)
    fn parts(&self) -> (f64, f64);
}

/// Cell of the folds count and sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Total<A>(pub(super) A);

impl<A: Amount> Cell for Total<A> {
    fn merge(&mut self, other: &Self) {
        self.0.add(other.0);
    }
}

impl<A: Amount> Parts for Total<A> {
    fn parts(&self) -> (f64, f64) {
        (self.0.to_f64(), 1.0)
    }
}

/// Cell of the folds mean (sum over count) and share (matching over all).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair<P, W> {
    pub(super) part: P,
    pub(super) whole: W,
}

impl<P: Amount, W: Amount> Cell for Pair<P, W> {
    fn merge(&mut self, other: &Self) {
        self.part.add(other.part);
        self.whole.add(other.whole);
    }
}

impl<P: Amount, W: Amount> Parts for Pair<P, W> {
    fn parts(&self) -> (f64, f64) {
        (self.part.to_f64(), self.whole.to_f64())
    }
}

/// Cell of the folds min and max: the greatest number if `KEEP_GREATER`, else the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Extreme<const KEEP_GREATER: bool>(pub(super) Option<f64>);

impl<const KEEP_GREATER: bool> Extreme<KEEP_GREATER> {
    /// `total_cmp` distinguishes -0 from 0, so that even these two are independent of order.
    pub(super) fn add(&mut self, value: f64) {
        let wins = if KEEP_GREATER { Ordering::Greater } else { Ordering::Less };
        if self.0.is_none_or(|held| value.total_cmp(&held) == wins) {
            self.0 = Some(value);
        }
    }
}

impl<const KEEP_GREATER: bool> Cell for Extreme<KEEP_GREATER> {
    fn merge(&mut self, other: &Self) {
        if let Some(value) = other.0 {
            self.add(value);
        }
    }
}

/// Cell of the fold mean gap: first and last instant and the number of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Span(pub(super) Option<Stretch>);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "(i64, i64, u64)", from = "(i64, i64, u64)")]
pub(super) struct Stretch {
    pub(super) first_millis: i64,
    pub(super) last_millis: i64,
    pub(super) count: u64,
}

/// Stored as (first, last - first, count), which is shorter: a day's events are close together.
impl From<Stretch> for (i64, i64, u64) {
    fn from(stretch: Stretch) -> Self {
        let Stretch { first_millis, last_millis, count } = stretch;
        (first_millis, last_millis - first_millis, count)
    }
}

impl From<(i64, i64, u64)> for Stretch {
    fn from((first_millis, length, count): (i64, i64, u64)) -> Self {
        // A saturated value fails `is_sound` afterwards.
        Self { first_millis, last_millis: first_millis.saturating_add(length), count }
    }
}

impl Span {
    pub(super) fn add(&mut self, millis: i64) {
        self.merge(&Self(Some(Stretch { first_millis: millis, last_millis: millis, count: 1 })));
    }

    pub(super) fn is_sound(&self) -> bool {
        self.0.is_none_or(|span| {
            is_plausible(span.first_millis)
                && is_plausible(span.last_millis)
                && span.first_millis <= span.last_millis
        })
    }
}

impl Cell for Span {
    fn merge(&mut self, other: &Self) {
        let Some(theirs) = other.0 else { return };
        let ours = self.0.get_or_insert(Stretch { count: 0, ..theirs });
        ours.first_millis = ours.first_millis.min(theirs.first_millis);
        ours.last_millis = ours.last_millis.max(theirs.last_millis);
        ours.count = ours.count.saturating_add(theirs.count);
    }
}

/// A value set by a trait, or by the last event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Known {
    Number(f64),
    Text(Box<str>),
}

/// The value set at the newest instant. Of values set at the same instant, the greater one wins
/// (numbers by value, texts by bytes).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Latest(pub(super) Option<(i64, Known)>);

impl Latest {
    /// Sets the value if it is newer. A value of another type than `kind` is ignored.
    pub(super) fn set(&mut self, kind: Kind, millis: i64, value: &Scalar) {
        let wins_tie = match (value, &self.0) {
            (Scalar::Number(new), Some((_, Known::Number(held)))) => new.total_cmp(held).is_gt(),
            (Scalar::Text(new), Some((_, Known::Text(held)))) => new > held,
            _ => false,
        };
        let wins = match &self.0 {
            None => true,
            Some((held_at, _)) => millis > *held_at || (millis == *held_at && wins_tie),
        };
        if wins {
            match (kind, value) {
                (Kind::Number, Scalar::Number(n)) => self.0 = Some((millis, Known::Number(*n))),
                (Kind::Text, Scalar::Text(t)) => self.0 = Some((millis, Known::Text(t.clone()))),
                _ => {}
            }
        }
    }

    pub(super) fn value(&self) -> Value {
        match &self.0 {
            None => Value::Missing,
            Some((_, Known::Number(n))) => Value::number(*n),
            Some((_, Known::Text(t))) => Value::Category(t.clone()),
        }
    }

    /// Whether the value is of this type and its instant plausible.
    pub(super) fn is_sound(&self, kind: Kind) -> bool {
        match &self.0 {
            None => true,
            Some((at, Known::Number(n))) => {
                is_plausible(*at) && kind == Kind::Number && n.is_finite()
            }
            Some((at, Known::Text(_))) => is_plausible(*at) && kind == Kind::Text,
        }
    }
}
