//! State slots: the cells of one fold under its window.

use serde::{Deserialize, Serialize};

use crate::domain::event::{Event, Scalar};
use crate::domain::feature::Value;
use crate::domain::feature::exact::Exact;
use crate::domain::feature::fold::{
    Amount, Extreme, Latest, Pair, Parts, Span, Total, is_plausible,
};
use crate::domain::feature::sessions::Sessions;
use crate::domain::feature::sketch::{self, Sketch};
use crate::domain::feature::source::{EventSource, Fold};
use crate::domain::feature::window::{Window, Windowed};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};

const MILLIS_PER_MINUTE: i64 = 60_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Slot {
    Count(Windowed<Total<u64>>),
    Sum(Windowed<Total<Exact>>),
    Mean(Windowed<Pair<Exact, u64>>),
    Min(Windowed<Extreme<false>>),
    Max(Windowed<Extreme<true>>),
    Last(Latest),
    /// Instant of the newest event, in milliseconds.
    Recency(Option<i64>),
    /// Instant of the first event, in milliseconds.
    Tenure(Option<i64>),
    MeanGap(Windowed<Span>),
    Distinct(Windowed<Sketch>),
    Share(Windowed<Pair<u64, u64>>),
    WeightedShare(Windowed<Pair<Exact, Exact>>),
    Sessions(Sessions),
}

impl Slot {
    /// An empty slot for this source.
    pub(super) fn new(source: &EventSource) -> Self {
        let window = source.window;
        match &source.fold {
            Fold::Count => Self::Count(Windowed::new(window)),
            Fold::Sum { .. } => Self::Sum(Windowed::new(window)),
            Fold::Mean { .. } => Self::Mean(Windowed::new(window)),
            Fold::Min { .. } => Self::Min(Windowed::new(window)),
            Fold::Max { .. } => Self::Max(Windowed::new(window)),
            Fold::Last { .. } => Self::Last(Latest::default()),
            Fold::Recency => Self::Recency(None),
            Fold::Tenure => Self::Tenure(None),
            Fold::MeanGap => Self::MeanGap(Windowed::new(window)),
            Fold::Distinct { .. } => Self::Distinct(Windowed::new(window)),
            Fold::Share { weight_by: None, .. } => Self::Share(Windowed::new(window)),
            Fold::Share { weight_by: Some(_), .. } => Self::WeightedShare(Windowed::new(window)),
            Fold::Sessions { .. } => Self::Sessions(Sessions::default()),
        }
    }

    /// Adds an event that matches the source's filter and conditions. An event without the
    /// folded property changes nothing.
    pub(super) fn apply(&mut self, source: &EventSource, event: &Event) {
        let window = source.window;
        let millis = event.timestamp.millis();
        let day = event.timestamp.day();
        let number = |property: &str| event.properties.number(property);
        match (self, &source.fold) {
            (Self::Count(days), Fold::Count) => {
                if let Some(cell) = days.cell(window, day) {
                    cell.0.add(1);
                }
            }
            (Self::Sum(days), Fold::Sum { properties }) => {
                for value in properties.iter().filter_map(|property| number(property)) {
                    if let Some(cell) = days.cell(window, day) {
                        cell.0.add(Exact::of(value));
                    }
                }
            }
            (Self::Mean(days), Fold::Mean { property }) => {
                if let Some(value) = number(property)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.part.add(Exact::of(value));
                    cell.whole.add(1);
                }
            }
            (Self::Min(days), Fold::Min { property }) => {
                if let Some(value) = number(property)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.add(value);
                }
            }
            (Self::Max(days), Fold::Max { property }) => {
                if let Some(value) = number(property)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.add(value);
                }
            }
            (Self::Last(latest), Fold::Last { property, kind }) => {
                if let Some(value) = event.properties.get(property) {
                    latest.set(*kind, millis, value);
                }
            }
            (Self::Recency(newest), Fold::Recency) => *newest = (*newest).max(Some(millis)),
            (Self::Tenure(first), Fold::Tenure) => {
                *first = Some(first.map_or(millis, |first| first.min(millis)));
            }
            (Self::MeanGap(days), Fold::MeanGap) => {
                if let Some(cell) = days.cell(window, day) {
                    cell.add(millis);
                }
            }
            (Self::Distinct(days), Fold::Distinct { property, sketch_size }) => {
                if let Some(value) = event.properties.get(property)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.add(sketch::hash(value), *sketch_size);
                }
            }
            (Self::Share(days), Fold::Share { property, values, .. }) => {
                if let Some(cell) = days.cell(window, day) {
                    cell.whole.add(1);
                    cell.part.add(u64::from(is_one_of(event, property, values)));
                }
            }
            (
                Self::WeightedShare(days),
                Fold::Share { property, values, weight_by: Some(weight_by) },
            ) => {
                if let Some(weight) = number(weight_by)
                    && let Some(cell) = days.cell(window, day)
                {
                    let weight = Exact::of(weight);
                    cell.whole.add(weight);
                    if is_one_of(event, property, values) {
                        cell.part.add(weight);
                    }
                }
            }
            (Self::Sessions(sessions), Fold::Sessions { gap_minutes }) => {
                sessions.add(millis, gap_millis(*gap_minutes), window.reach_days());
            }
            // Unreachable: a slot is created from its source, and stored bytes are checked
            // against it.
            _ => {}
        }
    }

    /// The feature's value at `now_millis`, which must not be before the newest event.
    pub(super) fn value(&self, source: &EventSource, now_millis: i64) -> Value {
        let window = source.window;
        let today = now_millis.div_euclid(MILLIS_PER_DAY);
        match (self, &source.fold) {
            (Self::Count(days), _) => Value::number(days.parts(window, today).0),
            (Self::Sum(days), _) => Value::number(days.parts(window, today).0),
            (Self::Mean(days), _) => quotient(days, window, today),
            (Self::Share(days), _) => quotient(days, window, today),
            (Self::WeightedShare(days), _) => quotient(days, window, today),
            (Self::Min(days), _) => optional(days.merged(window, today).0),
            (Self::Max(days), _) => optional(days.merged(window, today).0),
            (Self::Last(latest), _) => latest.value(),
            (Self::Recency(instant) | Self::Tenure(instant), _) => {
                let now = Timestamp::from_millis(now_millis);
                optional(instant.map(|millis| now.days_since(Timestamp::from_millis(millis))))
            }
            (Self::MeanGap(days), _) => match days.merged(window, today).0 {
                Some(span) if span.count > 1 => {
                    let days = Timestamp::from_millis(span.last_millis)
                        .days_since(Timestamp::from_millis(span.first_millis));
                    Value::number(days / (span.count - 1) as f64)
                }
                _ => Value::Missing,
            },
            (Self::Distinct(days), Fold::Distinct { sketch_size, .. }) => {
                let mut all = Sketch::default();
                for (_, cell) in days.in_reach(window, today) {
                    all.unite(cell, *sketch_size);
                }
                Value::number(all.count(*sketch_size))
            }
            (Self::Sessions(sessions), _) => {
                Value::number(sessions.count(now_millis, window.reach_days()) as f64)
            }
            (Self::Distinct(_), _) => Value::Missing,
        }
    }

    /// Whether a slot read from stored bytes is a valid slot of this source.
    pub(super) fn is_sound(&self, source: &EventSource) -> bool {
        let window = source.window;
        match (self, &source.fold) {
            (Self::Count(days), Fold::Count) => days.is_sound(window, |_| true),
            (Self::Sum(days), Fold::Sum { .. }) => days.is_sound(window, |_| true),
            (Self::Mean(days), Fold::Mean { .. }) => days.is_sound(window, |_| true),
            (Self::Min(days), Fold::Min { .. }) => {
                days.is_sound(window, |cell| cell.0.is_none_or(f64::is_finite))
            }
            (Self::Max(days), Fold::Max { .. }) => {
                days.is_sound(window, |cell| cell.0.is_none_or(f64::is_finite))
            }
            (Self::Last(latest), Fold::Last { kind, .. }) => latest.is_sound(*kind),
            (Self::Recency(instant), Fold::Recency) | (Self::Tenure(instant), Fold::Tenure) => {
                instant.is_none_or(is_plausible)
            }
            (Self::MeanGap(days), Fold::MeanGap) => days.is_sound(window, Span::is_sound),
            (Self::Distinct(days), Fold::Distinct { sketch_size, .. }) => {
                days.is_sound(window, |cell| cell.is_sound(*sketch_size))
            }
            (Self::Share(days), Fold::Share { weight_by: None, .. }) => {
                days.is_sound(window, |_| true)
            }
            (Self::WeightedShare(days), Fold::Share { weight_by: Some(_), .. }) => {
                days.is_sound(window, |_| true)
            }
            (Self::Sessions(sessions), Fold::Sessions { gap_minutes }) => {
                sessions.is_sound(gap_millis(*gap_minutes))
            }
            _ => false,
        }
    }
}

fn optional(value: Option<f64>) -> Value {
    value.map_or(Value::Missing, Value::number)
}

/// Numerator over denominator; x/0 and 0/0 are missing.
fn quotient<C: Parts>(days: &Windowed<C>, window: Window, today: i64) -> Value {
    let (part, whole) = days.parts(window, today);
    Value::number(part / whole)
}

fn is_one_of(event: &Event, property: &str, values: &[Scalar]) -> bool {
    event.properties.get(property).is_some_and(|value| values.contains(value))
}

fn gap_millis(gap_minutes: u32) -> i64 {
    i64::from(gap_minutes) * MILLIS_PER_MINUTE
}
