//! Fold cells: mergeable aggregates for one time bucket of one feature.
//!
//! Adding to cells and merging them is commutative: counts, exact sums, extremes, or the
//! greatest of tied values. So the order of events has no effect. Every cell starts empty
//! (`Default`), and merging with an empty cell changes nothing.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::domain::event::PropertyValue;
use crate::domain::feature::FeatureValue;
use crate::domain::feature::define::ValueType;
use crate::domain::feature::exact::ExactSum;

/// Whether stored bytes can be this instant: within about 285,000 years of 1970. Every
/// timestamp that can be written is in this range, and arithmetic within it cannot overflow.
pub(super) const fn is_plausible(millis: i64) -> bool {
    millis.unsigned_abs() < 1 << 53
}

/// An aggregate that can be merged with another one of its type.
pub(super) trait MergeableCell: Default {
    fn merge(&mut self, other: &Self);
}

/// A term of totals: a number of events, or an exact sum.
pub(super) trait SummableTerm: Copy + Default {
    /// Adds with saturation.
    fn add(&mut self, other: Self);
    fn to_f64(self) -> f64;
}

impl SummableTerm for u64 {
    fn add(&mut self, other: Self) {
        *self = self.saturating_add(other);
    }

    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl SummableTerm for ExactSum {
    fn add(&mut self, other: Self) {
        *self = self.plus(other);
    }

    fn to_f64(self) -> f64 {
        self.nearest()
    }
}

/// A cell that a decaying window can weight: a numerator and a denominator (1 for totals).
pub(super) trait WeightableCell: MergeableCell {
    /// (numerator, denominator)
    fn parts(&self) -> (f64, f64);
}

/// Cell of the folds count and sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TotalCell<A>(pub(super) A);

impl<A: SummableTerm> MergeableCell for TotalCell<A> {
    fn merge(&mut self, other: &Self) {
        self.0.add(other.0);
    }
}

impl<A: SummableTerm> WeightableCell for TotalCell<A> {
    fn parts(&self) -> (f64, f64) {
        (self.0.to_f64(), 1.0)
    }
}

/// Cell of the folds mean (sum over count) and share (matching over all).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct QuotientCell<P, W> {
    pub(super) part: P,
    pub(super) whole: W,
}

impl<P: SummableTerm, W: SummableTerm> MergeableCell for QuotientCell<P, W> {
    fn merge(&mut self, other: &Self) {
        self.part.add(other.part);
        self.whole.add(other.whole);
    }
}

impl<P: SummableTerm, W: SummableTerm> WeightableCell for QuotientCell<P, W> {
    fn parts(&self) -> (f64, f64) {
        (self.part.to_f64(), self.whole.to_f64())
    }
}

/// Cell of the folds min and max: the greatest number if `IS_MAX`, else the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ExtremeCell<const IS_MAX: bool>(pub(super) Option<f64>);

impl<const IS_MAX: bool> ExtremeCell<IS_MAX> {
    /// `total_cmp` distinguishes -0 from 0, so that even these two are independent of order.
    pub(super) fn add(&mut self, value: f64) {
        let wins = if IS_MAX { Ordering::Greater } else { Ordering::Less };
        if self.0.is_none_or(|current| value.total_cmp(&current) == wins) {
            self.0 = Some(value);
        }
    }
}

impl<const IS_MAX: bool> MergeableCell for ExtremeCell<IS_MAX> {
    fn merge(&mut self, other: &Self) {
        if let Some(value) = other.0 {
            self.add(value);
        }
    }
}

/// Cell of the fold mean gap: first and last instant and the number of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct EventSpanCell(pub(super) Option<EventSpan>);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "StoredEventSpan", from = "StoredEventSpan")]
pub(super) struct EventSpan {
    pub(super) first_millis: i64,
    pub(super) last_millis: i64,
    pub(super) count: u64,
}

/// The stored form, with the length instead of the last instant: it is shorter, because a day's
/// events are close together.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct StoredEventSpan {
    first_millis: i64,
    length_millis: i64,
    count: u64,
}

impl From<EventSpan> for StoredEventSpan {
    fn from(span: EventSpan) -> Self {
        let EventSpan { first_millis, last_millis, count } = span;
        Self { first_millis, length_millis: last_millis - first_millis, count }
    }
}

impl From<StoredEventSpan> for EventSpan {
    fn from(stored: StoredEventSpan) -> Self {
        let StoredEventSpan { first_millis, length_millis, count } = stored;
        // A saturated value fails `is_sound` afterwards.
        Self { first_millis, last_millis: first_millis.saturating_add(length_millis), count }
    }
}

impl EventSpanCell {
    pub(super) fn add(&mut self, millis: i64) {
        self.merge(&Self(Some(EventSpan { first_millis: millis, last_millis: millis, count: 1 })));
    }

    pub(super) fn is_sound(&self) -> bool {
        self.0.is_none_or(|span| {
            is_plausible(span.first_millis)
                && is_plausible(span.last_millis)
                && span.first_millis <= span.last_millis
        })
    }
}

impl MergeableCell for EventSpanCell {
    fn merge(&mut self, other: &Self) {
        let Some(theirs) = other.0 else { return };
        let ours = self.0.get_or_insert(EventSpan { count: 0, ..theirs });
        ours.first_millis = ours.first_millis.min(theirs.first_millis);
        ours.last_millis = ours.last_millis.max(theirs.last_millis);
        ours.count = ours.count.saturating_add(theirs.count);
    }
}

/// A value set by a trait, or by the last event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum KnownValue {
    Number(f64),
    Text(Box<str>),
    /// A null removed the trait.
    Removed,
}

impl KnownValue {
    /// Whether another value of the same instant wins against this one.
    fn yields_to(&self, other: &PropertyValue) -> bool {
        match (self, other) {
            (Self::Removed, other) => *other != PropertyValue::Null,
            (Self::Text(current), PropertyValue::Text(new)) => new > current,
            (Self::Number(current), other) => {
                other.as_number().is_some_and(|new| new.total_cmp(current).is_gt())
            }
            (Self::Text(_), _) => false,
        }
    }
}

/// The value set at the newest instant. Of values set at the same instant, the greater one wins
/// (numbers by value, texts by bytes); a removal is less than every value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LatestValueCell(pub(super) Option<(i64, KnownValue)>);

impl LatestValueCell {
    /// Sets the value if it is newer. A value of another type than `kind` is ignored.
    pub(super) fn set(&mut self, kind: ValueType, millis: i64, value: &PropertyValue) {
        if let Some((set_at, current)) = &self.0
            && (millis < *set_at || millis == *set_at && !current.yields_to(value))
        {
            return;
        }
        let known = match (kind, value) {
            (_, PropertyValue::Null) => Some(KnownValue::Removed),
            (ValueType::Number, value) => value.as_number().map(KnownValue::Number),
            (ValueType::Text, PropertyValue::Text(text)) => Some(KnownValue::Text(text.clone())),
            (ValueType::Text, _) => None,
        };
        if let Some(known) = known {
            self.0 = Some((millis, known));
        }
    }

    pub(super) fn value(&self) -> FeatureValue {
        match &self.0 {
            None | Some((_, KnownValue::Removed)) => FeatureValue::Missing,
            Some((_, KnownValue::Number(n))) => FeatureValue::number(*n),
            Some((_, KnownValue::Text(t))) => FeatureValue::Category(t.clone()),
        }
    }

    /// Whether the value is of this type and its instant plausible.
    pub(super) fn is_sound(&self, kind: ValueType) -> bool {
        match &self.0 {
            None => true,
            Some((at, KnownValue::Number(n))) => {
                is_plausible(*at) && kind == ValueType::Number && n.is_finite()
            }
            Some((at, KnownValue::Text(_))) => is_plausible(*at) && kind == ValueType::Text,
            Some((at, KnownValue::Removed)) => is_plausible(*at),
        }
    }
}
