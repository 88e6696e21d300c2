//! Changes of features with time alone: instants of jumps, and bounds between jumps.
//!
//! Windows move at UTC midnights. A rolling window jumps only where a day with events leaves
//! it. A decaying window fades by one factor a day, until a day leaves its range. Recency and
//! tenure grow with the clock, and ratios follow their parts. A missing value remains missing
//! between jumps.

use crate::domain::feature::set::FeatureSet;
use crate::domain::feature::slot::StateSlot;
use crate::domain::feature::source::{EventFeatureSource, FeatureFold, FeatureSource};
use crate::domain::feature::state::CustomerState;
use crate::domain::feature::window::{TimeWindow, WindowedCells};
use crate::domain::feature::{FeatureRow, FeatureValue};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};

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

/// The numerator or denominator of a ratio, with its current value.
#[derive(Debug, Clone, Copy)]
struct RatioPart<'r> {
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
}

impl NumberInterval {
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
            FeatureSource::Ratio(ratio) => {
                self.sources_behind(ratio.numerator, found);
                self.sources_behind(ratio.denominator, found);
            }
        }
    }

    /// Whether a feature can change between jumps.
    pub(in crate::domain) fn can_drift(&self, feature: usize) -> bool {
        match self.sources()[feature] {
            FeatureSource::Events(index) => {
                let source = &self.event_sources()[index];
                matches!(source.fold, FeatureFold::Recency | FeatureFold::Tenure)
                    || matches!(source.window, TimeWindow::HalfLifeDays(_))
            }
            FeatureSource::Trait(_) => false,
            FeatureSource::Ratio(ratio) => {
                self.can_drift(ratio.numerator) || self.can_drift(ratio.denominator)
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
        let mut next: Option<Timestamp> = None;
        for index in sources {
            let slot = &self.slots[set.slot_of(*index)];
            let jump = slot.next_jump(&set.event_sources()[*index], now);
            next = next.into_iter().chain(jump).min();
        }
        next
    }

    /// Bounds of a feature over a period without a jump; `row` is the row of its first instant.
    pub(in crate::domain) fn time_bounds(
        &self,
        set: &FeatureSet,
        row: &FeatureRow,
        feature: usize,
        period: QuietPeriod,
    ) -> TimeBounds {
        match (set.sources()[feature], &row.0[feature]) {
            (FeatureSource::Events(index), FeatureValue::Number(value)) => {
                let slot = &self.slots[set.slot_of(index)];
                slot.time_bounds(&set.event_sources()[index], *value, period)
            }
            (FeatureSource::Events(_) | FeatureSource::Trait(_), _) => TimeBounds::Constant,
            (FeatureSource::Ratio(ratio), _) => {
                let [numerator, denominator] =
                    [ratio.numerator, ratio.denominator].map(|part| RatioPart {
                        bounds: self.time_bounds(set, row, part, period),
                        value: &row.0[part],
                    });
                ratio_bounds(numerator, denominator)
            }
        }
    }
}

fn ratio_bounds(numerator: RatioPart<'_>, denominator: RatioPart<'_>) -> TimeBounds {
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

impl RatioPart<'_> {
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

impl StateSlot {
    fn next_jump(&self, source: &EventFeatureSource, now: Timestamp) -> Option<Timestamp> {
        let window = source.window;
        let length = window.length_days()?;
        let today = now.day();
        let age = match self {
            Self::Count(days) => oldest_age_days(days, window, today),
            Self::Sum(days) => oldest_age_days(days, window, today),
            Self::Mean(days) => oldest_age_days(days, window, today),
            Self::Min(days) => oldest_age_days(days, window, today),
            Self::Max(days) => oldest_age_days(days, window, today),
            Self::MeanGap(days) => oldest_age_days(days, window, today),
            Self::Distinct(days) => oldest_age_days(days, window, today),
            Self::Share(days) => oldest_age_days(days, window, today),
            Self::WeightedShare(days) => oldest_age_days(days, window, today),
            Self::Sessions(sessions) => sessions.oldest_end_age_days(now.millis(), length),
            Self::Last(_) | Self::Recency(_) | Self::Tenure(_) => None,
        }?;
        // Fading numbers of both signs can cancel and change the sign: no bound holds longer
        // than a day.
        let fades_unevenly =
            matches!(window, TimeWindow::HalfLifeDays(_)) && !source.is_never_negative();
        let days = if fades_unevenly { 1 } else { length - age };
        Some(Timestamp::from_millis((today + days).saturating_mul(MILLIS_PER_DAY)))
    }

    fn time_bounds(
        &self,
        source: &EventFeatureSource,
        value: f64,
        period: QuietPeriod,
    ) -> TimeBounds {
        let QuietPeriod { from, until } = period;
        match (self, source.window) {
            (Self::Recency(_) | Self::Tenure(_), _) => {
                TimeBounds::between(value, value + until.days_since(from))
            }
            (_, TimeWindow::HalfLifeDays(half_life))
                if value != 0.0 && until.day() > from.day() =>
            {
                let days = (until.day() - from.day()) as f64;
                match self {
                    Self::Count(_) | Self::Sum(_) => {
                        TimeBounds::between(value * (-days / half_life).exp2(), value)
                    }
                    // Numerator and denominator fade by the same factor.
                    _ => TimeBounds::between(value, value),
                }
            }
            _ => TimeBounds::Constant,
        }
    }
}

/// The age in days of the oldest day in the window.
fn oldest_age_days<C: Default>(
    days: &WindowedCells<C>,
    window: TimeWindow,
    today: i64,
) -> Option<i64> {
    days.cells_within(window, today).next().map(|(age, _)| age)
}
