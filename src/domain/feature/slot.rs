//! State slots: the cells of one fold under its window.

use serde::{Deserialize, Serialize};

use crate::domain::event::PropertyValue;
use crate::domain::feature::FeatureValue;
use crate::domain::feature::exact::{self, ExactSum};
use crate::domain::feature::fold::{
    EventSpanCell, ExtremeCell, LatestValueCell, QuotientCell, SummableTerm, TotalCell,
    WeightableCell, is_plausible,
};
use crate::domain::feature::orders::ledger::OrderLedger;
use crate::domain::feature::orders::net::NetOrders;
use crate::domain::feature::reading::event::EventReading;
use crate::domain::feature::sessions::{SessionIntervals, SessionRules};
use crate::domain::feature::sketch::{self, DistinctSketch};
use crate::domain::feature::source::{EventFeatureSource, FeatureFold};
use crate::domain::feature::window::{TimeWindow, WindowedCells};
use crate::domain::feature::zone::{DayZone, LocalInstant};
use crate::domain::time::Timestamp;

const MILLIS_PER_MINUTE: i64 = 60_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum StateSlot {
    Count(WindowedCells<TotalCell<u64>>),
    Sum(WindowedCells<TotalCell<ExactSum>>),
    Mean(WindowedCells<QuotientCell<ExactSum, u64>>),
    Min(WindowedCells<ExtremeCell<false>>),
    Max(WindowedCells<ExtremeCell<true>>),
    /// The value at the first instant: instants are negated.
    First(LatestValueCell),
    Last(LatestValueCell),
    /// Instant of the newest event, in milliseconds.
    Recency(Option<i64>),
    /// Instant of the first event, in milliseconds.
    Tenure(Option<i64>),
    MeanGap(WindowedCells<EventSpanCell>),
    Distinct(WindowedCells<DistinctSketch>),
    Share(WindowedCells<QuotientCell<u64, u64>>),
    WeightedShare(WindowedCells<QuotientCell<ExactSum, ExactSum>>),
    Sessions(SessionIntervals),
    Orders(Box<OrderLedger>),
}

impl StateSlot {
    /// An empty slot for this source.
    pub(super) fn new(source: &EventFeatureSource) -> Self {
        let window = source.window;
        match &source.fold {
            FeatureFold::Count if source.is_weighted() => Self::Sum(WindowedCells::new(window)),
            FeatureFold::Count => Self::Count(WindowedCells::new(window)),
            FeatureFold::Sum { .. } => Self::Sum(WindowedCells::new(window)),
            FeatureFold::Mean { .. } => Self::Mean(WindowedCells::new(window)),
            FeatureFold::Min { .. } => Self::Min(WindowedCells::new(window)),
            FeatureFold::Max { .. } => Self::Max(WindowedCells::new(window)),
            FeatureFold::First { .. } => Self::First(LatestValueCell::default()),
            FeatureFold::Last { .. } => Self::Last(LatestValueCell::default()),
            FeatureFold::Recency => Self::Recency(None),
            FeatureFold::Tenure => Self::Tenure(None),
            FeatureFold::MeanGap => Self::MeanGap(WindowedCells::new(window)),
            FeatureFold::Distinct { .. } => Self::Distinct(WindowedCells::new(window)),
            FeatureFold::Share { weight_by: None, .. } => Self::Share(WindowedCells::new(window)),
            FeatureFold::Share { weight_by: Some(_), .. } => {
                Self::WeightedShare(WindowedCells::new(window))
            }
            FeatureFold::Sessions { .. } => Self::Sessions(SessionIntervals::default()),
            FeatureFold::Orders { .. } => Self::Orders(Box::default()),
        }
    }

    /// Adds an event that matches a filter of this `weight` and the source's conditions. An event
    /// without the folded property changes nothing.
    pub(super) fn apply(
        &mut self,
        source: &EventFeatureSource,
        event: EventReading<'_>,
        weight: f64,
    ) {
        let window = source.window;
        let LocalInstant { millis, day, zone } = event.at;
        match (self, &source.fold) {
            (Self::Count(days), FeatureFold::Count) => {
                if let Some(cell) = days.cell(window, day) {
                    cell.0.add(1);
                }
            }
            (Self::Sum(days), FeatureFold::Count) => {
                if let Some(cell) = days.cell(window, day) {
                    cell.0.add(ExactSum::from_number(weight));
                }
            }
            (Self::Sum(days), FeatureFold::Sum { terms }) => {
                for term in terms {
                    if let Some(value) = term.value(event)
                        && let Some(cell) = days.cell(window, day)
                    {
                        cell.0.add(ExactSum::from_number(exact::decimal_product(weight, value)));
                    }
                }
            }
            (Self::Mean(days), FeatureFold::Mean { value }) => {
                if let Some(value) = value.value(event)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.part.add(ExactSum::from_number(value));
                    cell.whole.add(1);
                }
            }
            (Self::Min(days), FeatureFold::Min { value }) => {
                if let Some(value) = value.value(event)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.add(value);
                }
            }
            (Self::Max(days), FeatureFold::Max { value }) => {
                if let Some(value) = value.value(event)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.add(value);
                }
            }
            (Self::First(first), FeatureFold::First { property, kind, is_money }) => {
                if let Some(value) = event.converted(property, *is_money) {
                    first.set(*kind, -millis, &value);
                }
            }
            (Self::Last(latest), FeatureFold::Last { property, kind, is_money }) => {
                if let Some(value) = event.converted(property, *is_money) {
                    latest.set(*kind, millis, &value);
                }
            }
            (Self::Recency(newest), FeatureFold::Recency) => *newest = (*newest).max(Some(millis)),
            (Self::Tenure(first), FeatureFold::Tenure) => {
                *first = Some(first.map_or(millis, |first| first.min(millis)));
            }
            (Self::MeanGap(days), FeatureFold::MeanGap) => {
                if let Some(cell) = days.cell(window, day) {
                    cell.add(millis);
                }
            }
            (Self::Distinct(days), FeatureFold::Distinct { property, sketch_size }) => {
                if let Some(value) = event.get(property)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.add(sketch::hash(value), *sketch_size);
                }
            }
            (Self::Share(days), FeatureFold::Share { property, values, .. }) => {
                if let Some(cell) = days.cell(window, day) {
                    cell.whole.add(1);
                    cell.part.add(u64::from(is_one_of(event, property, values)));
                }
            }
            (
                Self::WeightedShare(days),
                FeatureFold::Share { property, values, weight_by: Some(weight_by) },
            ) => {
                if let Some(weight) = weight_by.value(event)
                    && let Some(cell) = days.cell(window, day)
                {
                    let weight = ExactSum::from_number(weight);
                    cell.whole.add(weight);
                    if is_one_of(event, property, values) {
                        cell.part.add(weight);
                    }
                }
            }
            (Self::Sessions(sessions), FeatureFold::Sessions { gap_minutes }) => {
                let gap_millis = gap_millis(*gap_minutes);
                let length_days = window.length_days();
                sessions.add(millis, SessionRules { gap_millis, length_days, zone });
            }
            (Self::Orders(ledger), FeatureFold::Orders { rules, .. }) => ledger.add(rules, event),
            // Unreachable: a slot is created from its source, and stored bytes are checked
            // against it.
            _ => {}
        }
    }

    /// The instant of the event that alone decides the value, for folds of the newest event.
    pub(super) fn newest_decisive_millis(&self) -> Option<i64> {
        match self {
            Self::Recency(instant) => *instant,
            Self::Last(latest) => latest.0.as_ref().map(|(millis, _)| *millis),
            _ => None,
        }
    }

    /// The net orders of a ledger.
    pub(super) fn net_orders(
        &self,
        source: &EventFeatureSource,
        zone: DayZone,
    ) -> Option<NetOrders> {
        match (self, &source.fold) {
            (Self::Orders(ledger), FeatureFold::Orders { rules, .. }) => {
                Some(NetOrders::of(ledger, rules, zone))
            }
            _ => None,
        }
    }

    /// The feature's value at an instant, which must not be before the newest event. Missing for
    /// a ledger: see [`Self::net_orders`].
    pub(super) fn value(&self, source: &EventFeatureSource, now: LocalInstant) -> FeatureValue {
        let window = source.window;
        let today = now.day;
        match (self, &source.fold) {
            (Self::Count(days), _) => FeatureValue::number(days.parts(window, today).0),
            (Self::Sum(days), _) => FeatureValue::number(days.parts(window, today).0),
            (Self::Mean(days), _) => quotient(days, window, today),
            (Self::Share(days), _) => quotient(days, window, today),
            (Self::WeightedShare(days), _) => quotient(days, window, today),
            (Self::Min(days), _) => number_or_missing(days.merged(window, today).0),
            (Self::Max(days), _) => number_or_missing(days.merged(window, today).0),
            (Self::First(value) | Self::Last(value), _) => value.value(),
            (Self::Recency(instant) | Self::Tenure(instant), _) => {
                let now = now.timestamp();
                number_or_missing(
                    instant.map(|millis| now.days_since(Timestamp::from_millis(millis))),
                )
            }
            (Self::MeanGap(days), _) => match days.merged(window, today).0 {
                Some(span) if span.count > 1 => {
                    let days = Timestamp::from_millis(span.last_millis)
                        .days_since(Timestamp::from_millis(span.first_millis));
                    FeatureValue::number(days / (span.count - 1) as f64)
                }
                _ => FeatureValue::Missing,
            },
            (Self::Distinct(days), FeatureFold::Distinct { sketch_size, .. }) => {
                let mut all = DistinctSketch::default();
                for (_, cell) in days.cells_within(window, today) {
                    all.unite(cell, *sketch_size);
                }
                FeatureValue::number(all.count(*sketch_size))
            }
            (Self::Sessions(sessions), _) => {
                FeatureValue::number(sessions.count(now, window.length_days()) as f64)
            }
            (Self::Distinct(_) | Self::Orders(_), _) => FeatureValue::Missing,
        }
    }

    /// Whether a slot read from stored bytes is a valid slot of this source.
    pub(super) fn is_sound(&self, source: &EventFeatureSource) -> bool {
        let window = source.window;
        match (self, &source.fold) {
            (Self::Count(days), FeatureFold::Count) if !source.is_weighted() => {
                days.is_sound(window, |_| true)
            }
            (Self::Sum(days), FeatureFold::Sum { .. }) => days.is_sound(window, |_| true),
            (Self::Sum(days), FeatureFold::Count) if source.is_weighted() => {
                days.is_sound(window, |_| true)
            }
            (Self::Mean(days), FeatureFold::Mean { .. }) => days.is_sound(window, |_| true),
            (Self::Min(days), FeatureFold::Min { .. }) => {
                days.is_sound(window, |cell| cell.0.is_none_or(f64::is_finite))
            }
            (Self::Max(days), FeatureFold::Max { .. }) => {
                days.is_sound(window, |cell| cell.0.is_none_or(f64::is_finite))
            }
            (Self::First(value), FeatureFold::First { kind, .. })
            | (Self::Last(value), FeatureFold::Last { kind, .. }) => value.is_sound(*kind),
            (Self::Recency(instant), FeatureFold::Recency)
            | (Self::Tenure(instant), FeatureFold::Tenure) => instant.is_none_or(is_plausible),
            (Self::MeanGap(days), FeatureFold::MeanGap) => {
                days.is_sound(window, EventSpanCell::is_sound)
            }
            (Self::Distinct(days), FeatureFold::Distinct { sketch_size, .. }) => {
                days.is_sound(window, |cell| cell.is_sound(*sketch_size))
            }
            (Self::Share(days), FeatureFold::Share { weight_by: None, .. }) => {
                days.is_sound(window, |_| true)
            }
            (Self::WeightedShare(days), FeatureFold::Share { weight_by: Some(_), .. }) => {
                days.is_sound(window, |_| true)
            }
            (Self::Sessions(sessions), FeatureFold::Sessions { gap_minutes }) => {
                sessions.is_sound(gap_millis(*gap_minutes))
            }
            (Self::Orders(ledger), FeatureFold::Orders { rules, .. }) => ledger.is_sound(rules),
            _ => false,
        }
    }
}

fn number_or_missing(value: Option<f64>) -> FeatureValue {
    value.map_or(FeatureValue::Missing, FeatureValue::number)
}

/// Numerator over denominator; x/0 and 0/0 are missing.
fn quotient<C: WeightableCell>(
    days: &WindowedCells<C>,
    window: TimeWindow,
    today: i64,
) -> FeatureValue {
    let (part, whole) = days.parts(window, today);
    FeatureValue::number(part / whole)
}

fn is_one_of(event: EventReading<'_>, property: &str, values: &[PropertyValue]) -> bool {
    event.get(property).is_some_and(|value| values.contains(value))
}

fn gap_millis(gap_minutes: u32) -> i64 {
    i64::from(gap_minutes) * MILLIS_PER_MINUTE
}
