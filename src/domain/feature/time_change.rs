//! Changes of features with time alone: instants of jumps, and bounds between jumps.
//!
//! Windows move at midnights in the time zone of the feature set. A rolling window jumps only where a day with events leaves
//! it. A decaying window fades by one factor a day, until a day leaves its range. Recency and
//! tenure grow with the clock, and derived features follow their parts. A missing value remains missing
//! between jumps.

use crate::domain::feature::set::FeatureSet;
use crate::domain::feature::slot::StateSlot;
use crate::domain::feature::source::{
    DerivationRule, DerivedFeature, EventFeatureSource, FeatureSource,
};
use crate::domain::feature::state::CustomerState;
use crate::domain::feature::window::{TimeWindow, WindowedCells};
use crate::domain::feature::zone::{DayZone, LocalInstant};
use crate::domain::feature::{FeatureRow, FeatureValue};
use crate::domain::time::Timestamp;

/// Relative widening of bounds: far more than the rounding of sums and quotients, far less than
/// a meaningful difference.
const ROUNDING: f64 = 1e-9;

/// Bounds of one feature over an interval without a jump.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::domain) enum TimeBounds {
    /// Constant, missing or not.
    Constant,
    /// A number at every instant, between these bounds.
    Within(f64, f64),
    /// Unbounded: a ratio with a denominator that may pass zero.
    Anywhere,
}

/// An interval without a jump, from the instant of a row to a later one.
#[derive(Debug, Clone, Copy)]
pub(in crate::domain) struct QuietPeriod {
    pub(in crate::domain) from: Timestamp,
    pub(in crate::domain) until: Timestamp,
}

/// A closed interval of numbers.
#[derive(Debug, Clone, Copy)]
struct NumberInterval {
    least: f64,
    greatest: f64,
}

/// One of the two features of a derived one, with its current value.
#[derive(Debug, Clone, Copy)]
struct DerivedPart<'r> {
    bounds: TimeBounds,
    value: &'r FeatureValue,
}

impl TimeBounds {
    fn between(least: f64, greatest: f64) -> Self {
        let slack = ROUNDING * least.abs().max(greatest.abs());
        let (least, greatest) = (least - slack, greatest + slack);
        if least.is_finite() && greatest.is_finite() {
            Self::Within(least, greatest)
        } else {
            Self::Anywhere
        }
    }

    /// Bounds of the greater of the value and a floor.
    fn at_least(self, floor: Option<f64>) -> Self {
        match (self, floor) {
            (Self::Within(least, greatest), Some(floor)) => {
                Self::Within(least.max(floor), greatest.max(floor))
            }
            // A value at its floor may be above it later.
            (bounds, _) => bounds,
        }
    }
}

impl NumberInterval {
    fn minus(self, other: Self) -> TimeBounds {
        TimeBounds::between(self.least - other.greatest, self.greatest - other.least)
    }

    /// Interval division; unbounded if the divisor contains 0.
    fn divided_by(self, divisor: Self) -> TimeBounds {
        if divisor.least <= 0.0 && divisor.greatest >= 0.0 {
            return TimeBounds::Anywhere;
        }
        let corners = [
            self.least / divisor.least,
            self.least / divisor.greatest,
            self.greatest / divisor.least,
            self.greatest / divisor.greatest,
        ];
        let least = corners.into_iter().fold(f64::INFINITY, f64::min);
        let greatest = corners.into_iter().fold(f64::NEG_INFINITY, f64::max);
        TimeBounds::between(least, greatest)
    }
}

impl FeatureSet {
    /// Adds the indices of the event sources that a feature is computed from.
    pub(in crate::domain) fn sources_behind(&self, feature: usize, found: &mut Vec<usize>) {
        match self.sources()[feature] {
            FeatureSource::Events(index) => found.push(index),
            FeatureSource::Trait(_) => {}
            FeatureSource::Derived(derived) => {
                self.sources_behind(derived.left, found);
                self.sources_behind(derived.right, found);
            }
        }
    }

    /// Removes the event sources whose jumps are those of an earlier one: the folds over the
    /// orders of one window, for example.
    pub(in crate::domain) fn retain_distinct_jumps(&self, sources: &mut Vec<usize>) {
        let mut seen = Vec::new();
        sources.retain(|index| {
            let source = &self.event_sources()[*index];
            let jumps = (self.slot_of(*index), source.window, source.has_negative_terms());
            let is_new = !seen.contains(&jumps);
            if is_new {
                seen.push(jumps);
            }
            is_new
        });
    }

    /// The midnight in the time zone of the feature set that is this number of days after `now`.
    pub(in crate::domain) fn midnight_after(&self, now: Timestamp, days: u32) -> Timestamp {
        let today = self.zone().day(now.millis());
        Timestamp::from_millis(self.zone().day_start(today + i64::from(days)))
    }

    /// Number of midnights in the time zone of the feature set after `from`, up to `until`.
    pub(in crate::domain) fn midnights_between(&self, from: Timestamp, until: Timestamp) -> i64 {
        self.zone().day(until.millis()) - self.zone().day(from.millis())
    }

    /// Whether a feature can change between jumps.
    pub(in crate::domain) fn can_drift(&self, feature: usize) -> bool {
        match self.sources()[feature] {
            FeatureSource::Events(index) => {
                let source = &self.event_sources()[index];
                source.grows_with_time() || matches!(source.window, TimeWindow::HalfLifeDays(_))
            }
            FeatureSource::Trait(_) => false,
            FeatureSource::Derived(derived) => {
                self.can_drift(derived.left) || self.can_drift(derived.right)
            }
        }
    }

    /// Bounds of a derived feature whose parts both grow by one a day: its difference is constant, and
    /// its ratio lies between its two end values. `None` for other parts.
    fn bounds_of_clocks(
        &self,
        row: &FeatureRow,
        derived: DerivedFeature,
        period: QuietPeriod,
    ) -> Option<TimeBounds> {
        let [left, right] = [derived.left, derived.right].map(|part| {
            let FeatureSource::Events(index) = self.sources()[part] else { return None };
            let source = &self.event_sources()[index];
            match row.0[part] {
                FeatureValue::Number(value)
                    if source.grows_with_time() && source.floor.is_none() =>
                {
                    Some(value)
                }
                _ => None,
            }
        });
        let (left, right) = (left?, right?);
        let days = period.until.days_since(period.from);
        match derived.rule {
            DerivationRule::Difference => Some(TimeBounds::Constant),
            DerivationRule::Ratio if right > 0.0 => {
                let ends = [left / right, (left + days) / (right + days)];
                let bounds = TimeBounds::between(ends[0].min(ends[1]), ends[0].max(ends[1]));
                Some(if left.total_cmp(&right).is_eq() {
                    TimeBounds::Constant
                } else {
                    bounds.at_least(derived.floor)
                })
            }
            DerivationRule::Ratio => None,
        }
    }

    /// Bounds of a feature over a period without a jump; `row` is the row of its first instant.
    pub(in crate::domain) fn time_bounds(
        &self,
        row: &FeatureRow,
        feature: usize,
        period: QuietPeriod,
    ) -> TimeBounds {
        match (self.sources()[feature], &row.0[feature]) {
            (FeatureSource::Events(index), FeatureValue::Number(value)) => {
                source_bounds(&self.event_sources()[index], *value, self.zone(), period)
            }
            (FeatureSource::Events(_) | FeatureSource::Trait(_), _) => TimeBounds::Constant,
            (FeatureSource::Derived(derived), _) => {
                if let Some(bounds) = self.bounds_of_clocks(row, derived, period) {
                    return bounds;
                }
                let [left, right] = [derived.left, derived.right].map(|part| DerivedPart {
                    bounds: self.time_bounds(row, part, period),
                    value: &row.0[part],
                });
                let bounds = match derived.rule {
                    DerivationRule::Ratio => ratio_bounds(left, right),
                    DerivationRule::Difference => difference_bounds(left, right),
                };
                bounds.at_least(derived.floor)
            }
        }
    }
}

impl CustomerState {
    /// The first instant after `now` at which one of these event sources can jump without an
    /// event. `now` must not be before the newest event.
    pub(in crate::domain) fn next_jump(
        &self,
        set: &FeatureSet,
        sources: &[usize],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let now = set.zone().at(now.millis());
        let mut next: Option<i64> = None;
        for index in sources {
            let (slot, source) = (set.slot_of(*index), &set.event_sources()[*index]);
            let Some(length) = source.window.length_days() else { continue };
            let oldest = self.slots[slot].oldest_day_within(source.window, now);
            // Fading numbers of both signs can cancel and change the sign: no bound holds longer
            // than a day.
            let fades_unevenly =
                matches!(source.window, TimeWindow::HalfLifeDays(_)) && source.has_negative_terms();
            let leaves = oldest.map(|day| if fades_unevenly { now.day + 1 } else { day + length });
            let gap = self.gaps.leaves_on(slot, length, set.zone());
            let days = leaves.into_iter().chain(gap.filter(|day| *day > now.day));
            next = next.into_iter().chain(days).min();
        }
        Some(Timestamp::from_millis(set.zone().day_start(next?)))
    }
}

fn ratio_bounds(numerator: DerivedPart<'_>, denominator: DerivedPart<'_>) -> TimeBounds {
    // Constant parts, or missing for good: x/0 remains missing whatever x is.
    if numerator.is_constant() && denominator.is_constant()
        || numerator.is_missing_for_good()
        || denominator.is_missing_for_good()
        || denominator.is_constant() && *denominator.value == FeatureValue::Number(0.0)
    {
        return TimeBounds::Constant;
    }
    match (numerator.interval(), denominator.interval()) {
        (Some(numerator), Some(denominator)) => numerator.divided_by(denominator),
        _ => TimeBounds::Anywhere,
    }
}

impl DerivedPart<'_> {
    fn is_constant(&self) -> bool {
        self.bounds == TimeBounds::Constant
    }

    fn is_missing_for_good(&self) -> bool {
        self.is_constant() && *self.value == FeatureValue::Missing
    }

    fn interval(&self) -> Option<NumberInterval> {
        match (self.bounds, self.value) {
            (TimeBounds::Within(least, greatest), _) => Some(NumberInterval { least, greatest }),
            (TimeBounds::Constant, FeatureValue::Number(value)) => {
                Some(NumberInterval { least: *value, greatest: *value })
            }
            _ => None,
        }
    }
}

fn difference_bounds(minuend: DerivedPart<'_>, subtrahend: DerivedPart<'_>) -> TimeBounds {
    if minuend.is_constant() && subtrahend.is_constant()
        || minuend.is_missing_for_good()
        || subtrahend.is_missing_for_good()
    {
        return TimeBounds::Constant;
    }
    match (minuend.interval(), subtrahend.interval()) {
        (Some(minuend), Some(subtrahend)) => minuend.minus(subtrahend),
        _ => TimeBounds::Anywhere,
    }
}

/// Bounds of a fold that has this value at the start of the period.
fn source_bounds(
    source: &EventFeatureSource,
    value: f64,
    zone: DayZone,
    period: QuietPeriod,
) -> TimeBounds {
    let QuietPeriod { from, until } = period;
    if source.grows_with_time() {
        return TimeBounds::between(value, value + until.days_since(from)).at_least(source.floor);
    }
    let TimeWindow::HalfLifeDays(half_life) = source.window else { return TimeBounds::Constant };
    let days = zone.day(until.millis()) - zone.day(from.millis());
    if value == 0.0 || days <= 0 {
        return TimeBounds::Constant;
    }
    let bounds = if source.fades() {
        TimeBounds::between(value * (-(days as f64) / half_life).exp2(), value)
    } else {
        // Numerator and denominator fade by the same factor.
        TimeBounds::between(value, value)
    };
    bounds.at_least(source.floor)
}

impl StateSlot {
    /// The oldest day in the window. `now` must not be before the newest event.
    fn oldest_day_within(&self, window: TimeWindow, now: LocalInstant) -> Option<i64> {
        let today = now.day;
        match self {
            Self::Count(days) => oldest_day(days, window, today),
            Self::Sum(days) => oldest_day(days, window, today),
            Self::Mean(days) => oldest_day(days, window, today),
            Self::Min(days) => oldest_day(days, window, today),
            Self::Max(days) => oldest_day(days, window, today),
            Self::MeanGap(days) => oldest_day(days, window, today),
            Self::Distinct(days) => oldest_day(days, window, today),
            Self::Share(days) => oldest_day(days, window, today),
            Self::WeightedShare(days) => oldest_day(days, window, today),
            Self::Sessions(sessions) => sessions.oldest_end_day(now, window.length_days()?),
            Self::Orders(ledger) => ledger.oldest_day_within(window.length_days()?, now),
            Self::First(_) | Self::Last(_) | Self::Recency(_) | Self::Tenure(_) => None,
        }
    }
}

fn oldest_day<C: Default>(days: &WindowedCells<C>, window: TimeWindow, today: i64) -> Option<i64> {
    days.cells_within(window, today).next().map(|(age, _)| today - age)
}
