//! State slots: the cells of one fold under its window.

use serde::{Deserialize, Serialize};

use crate::domain::event::{CustomerEvent, PropertyValue};
use crate::domain::feature::FeatureValue;
use crate::domain::feature::exact::ExactSum;
use crate::domain::feature::fold::{
    EventSpanCell, ExtremeCell, LatestValueCell, QuotientCell, SummableTerm, TotalCell,
    WeightableCell, is_plausible,
};
use crate::domain::feature::sessions::SessionIntervals;
use crate::domain::feature::sketch::{self, DistinctSketch};
use crate::domain::feature::source::{EventFeatureSource, FeatureFold};
use crate::domain::feature::window::{TimeWindow, WindowedCells};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};

const MILLIS_PER_MINUTE: i64 = 60_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum StateSlot {
    Count(WindowedCells<TotalCell<u64>>),
    Sum(WindowedCells<TotalCell<ExactSum>>),
    Mean(WindowedCells<QuotientCell<ExactSum, u64>>),
    Min(WindowedCells<ExtremeCell<false>>),
    Max(WindowedCells<ExtremeCell<true>>),
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
}

impl StateSlot {
    /// An empty slot for this source.
    pub(super) fn new(source: &EventFeatureSource) -> Self {
        let window = source.window;
        match &source.fold {
            FeatureFold::Count => Self::Count(WindowedCells::new(window)),
            FeatureFold::Sum { .. } => Self::Sum(WindowedCells::new(window)),
            FeatureFold::Mean { .. } => Self::Mean(WindowedCells::new(window)),
            FeatureFold::Min { .. } => Self::Min(WindowedCells::new(window)),
            FeatureFold::Max { .. } => Self::Max(WindowedCells::new(window)),
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
        }
    }

    /// Adds an event that matches the source's filter and conditions. An event without the
    /// folded property changes nothing.
    pub(super) fn apply(&mut self, source: &EventFeatureSource, event: &CustomerEvent) {
        let window = source.window;
        let millis = event.timestamp.millis();
        let day = event.timestamp.day();
        match (self, &source.fold) {
            (Self::Count(days), FeatureFold::Count) => {
                if let Some(cell) = days.cell(window, day) {
                    cell.0.add(1);
                }
            }
            (Self::Sum(days), FeatureFold::Sum { properties }) => {
                for property in properties {
                    if let Some(value) = event.properties.number(property)
                        && let Some(cell) = days.cell(window, day)
                    {
                        cell.0.add(ExactSum::from_number(value));
                    }
                }
            }
            (Self::Mean(days), FeatureFold::Mean { property }) => {
                if let Some(value) = event.properties.number(property)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.part.add(ExactSum::from_number(value));
                    cell.whole.add(1);
                }
            }
            (Self::Min(days), FeatureFold::Min { property }) => {
                if let Some(value) = event.properties.number(property)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.add(value);
                }
            }
            (Self::Max(days), FeatureFold::Max { property }) => {
                if let Some(value) = event.properties.number(property)
                    && let Some(cell) = days.cell(window, day)
                {
                    cell.add(value);
                }
            }
            (Self::Last(latest), FeatureFold::Last { property, kind }) => {
                if let Some(value) = event.properties.get(property) {
                    latest.set(*kind, millis, value);
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
                if let Some(value) = event.properties.get(property)
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
                if let Some(weight) = event.properties.number(weight_by)
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
                sessions.add(millis, gap_millis(*gap_minutes), window.length_days());
            }
            // Unreachable: a slot is created from its source, and stored bytes are checked
            // against it.
            _ => {}
        }
    }

    /// The feature's value at `now_millis`, which must not be before the newest event.
    pub(super) fn value(&self, source: &EventFeatureSource, now_millis: i64) -> FeatureValue {
        let window = source.window;
        let today = now_millis.div_euclid(MILLIS_PER_DAY);
        match (self, &source.fold) {
            (Self::Count(days), _) => FeatureValue::number(days.parts(window, today).0),
            (Self::Sum(days), _) => FeatureValue::number(days.parts(window, today).0),
            (Self::Mean(days), _) => quotient(days, window, today),
            (Self::Share(days), _) => quotient(days, window, today),
            (Self::WeightedShare(days), _) => quotient(days, window, today),
            (Self::Min(days), _) => number_or_missing(days.merged(window, today).0),
            (Self::Max(days), _) => number_or_missing(days.merged(window, today).0),
            (Self::Last(latest), _) => latest.value(),
            (Self::Recency(instant) | Self::Tenure(instant), _) => {
                let now = Timestamp::from_millis(now_millis);
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
                FeatureValue::number(sessions.count(now_millis, window.length_days()) as f64)
            }
            (Self::Distinct(_), _) => FeatureValue::Missing,
        }
    }

    /// Whether a slot read from stored bytes is a valid slot of this source.
    pub(super) fn is_sound(&self, source: &EventFeatureSource) -> bool {
        let window = source.window;
        match (self, &source.fold) {
            (Self::Count(days), FeatureFold::Count) => days.is_sound(window, |_| true),
            (Self::Sum(days), FeatureFold::Sum { .. }) => days.is_sound(window, |_| true),
            (Self::Mean(days), FeatureFold::Mean { .. }) => days.is_sound(window, |_| true),
            (Self::Min(days), FeatureFold::Min { .. }) => {
                days.is_sound(window, |cell| cell.0.is_none_or(f64::is_finite))
            }
            (Self::Max(days), FeatureFold::Max { .. }) => {
                days.is_sound(window, |cell| cell.0.is_none_or(f64::is_finite))
            }
            (Self::Last(latest), FeatureFold::Last { kind, .. }) => latest.is_sound(*kind),
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

fn is_one_of(event: &CustomerEvent, property: &str, values: &[PropertyValue]) -> bool {
    event.properties.get(property).is_some_and(|value| values.contains(value))
}

fn gap_millis(gap_minutes: u32) -> i64 {
    i64::from(gap_minutes) * MILLIS_PER_MINUTE
}
