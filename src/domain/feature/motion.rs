//! Changes of features with time alone: instants of jumps, and bounds between jumps.
//!
//! Windows move at UTC midnights. A rolling window jumps only where a day with events leaves
//! it. A decaying window fades by one factor a day, until a day leaves its range. Recency and
//! tenure grow with the clock, and ratios follow their parts. A missing value remains missing
//! between jumps.

use crate::domain::feature::set::FeatureSet;
use crate::domain::feature::slot::Slot;
use crate::domain::feature::source::{EventSource, Fold, Source};
use crate::domain::feature::state::CustomerState;
use crate::domain::feature::window::{Window, Windowed};
use crate::domain::feature::{FeatureRow, Value};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};

/// Relative widening of bounds: far more than the rounding of sums and quotients, far less than
/// a meaningful difference.
const ROUNDING: f64 = 1e-9;

/// Bounds of one feature over an interval without a jump.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::domain) enum Drift {
    /// Constant, missing or not.
    Still,
    /// A number at every instant, between these bounds.
    Within(f64, f64),
    /// Unbounded: a ratio with a denominator that may pass zero.
    Anywhere,
}

impl Drift {
    fn between(least: f64, greatest: f64) -> Self {
        let slack = ROUNDING * least.abs().max(greatest.abs());
        let (least, greatest) = (least - slack, greatest + slack);
        if least.is_finite() && greatest.is_finite() {
            Self::Within(least, greatest)
        } else {
            Self::Anywhere
        }
    }

    /// Interval division.
    fn over(numerator: (f64, f64), denominator: (f64, f64)) -> Self {
        if denominator.0 <= 0.0 && denominator.1 >= 0.0 {
            return Self::Anywhere;
        }
        let corners = [
            numerator.0 / denominator.0,
            numerator.0 / denominator.1,
            numerator.1 / denominator.0,
            numerator.1 / denominator.1,
        ];
        let least = corners.into_iter().fold(f64::INFINITY, f64::min);
        let greatest = corners.into_iter().fold(f64::NEG_INFINITY, f64::max);
        Self::between(least, greatest)
    }
}

impl FeatureSet {
    /// Adds the indices of the event sources that a feature is computed from.
    pub(in crate::domain) fn sources_behind(&self, feature: usize, found: &mut Vec<usize>) {
        match self.sources()[feature] {
            Source::Events(index) => found.push(index),
            Source::Trait(_) => {}
            Source::Ratio(ratio) => {
                self.sources_behind(ratio.numerator, found);
                self.sources_behind(ratio.denominator, found);
            }
        }
    }

    /// Whether a feature can change between jumps.
    pub(in crate::domain) fn can_drift(&self, feature: usize) -> bool {
        match self.sources()[feature] {
            Source::Events(index) => {
                let source = &self.event_sources()[index];
                matches!(source.fold, Fold::Recency | Fold::Tenure)
                    || matches!(source.window, Window::HalfLifeDays(_))
            }
            Source::Trait(_) => false,
            Source::Ratio(ratio) => {
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
        let jump = |index: &usize| {
            let slot = &self.slots[set.slot_of(*index)];
            slot.next_jump(&set.event_sources()[*index], now)
        };
        sources.iter().filter_map(jump).min()
    }

    /// Bounds of a feature from `now`, the instant of `row`, to `until`, which must be before
    /// the next jump.
    pub(in crate::domain) fn drift(
        &self,
        set: &FeatureSet,
        row: &FeatureRow,
        feature: usize,
        (now, until): (Timestamp, Timestamp),
    ) -> Drift {
        match (set.sources()[feature], &row.0[feature]) {
            (Source::Events(index), Value::Number(value)) => {
                let slot = &self.slots[set.slot_of(index)];
                slot.drift(&set.event_sources()[index], *value, (now, until))
            }
            (Source::Events(_) | Source::Trait(_), _) => Drift::Still,
            (Source::Ratio(ratio), _) => {
                let part = |feature| {
                    let drift = self.drift(set, row, feature, (now, until));
                    (drift, &row.0[feature])
                };
                ratio_drift(part(ratio.numerator), part(ratio.denominator))
            }
        }
    }
}

/// Bounds of a ratio; each part comes with its current value.
fn ratio_drift(over: (Drift, &Value), under: (Drift, &Value)) -> Drift {
    match (over, under) {
        // Constant parts, or missing for good: x/0 remains missing whatever x is.
        ((Drift::Still, _), (Drift::Still, _))
        | ((Drift::Still, Value::Missing), _)
        | (_, (Drift::Still, Value::Missing | Value::Number(0.0))) => Drift::Still,
        _ => match (bounds(over), bounds(under)) {
            (Some(over), Some(under)) => Drift::over(over, under),
            _ => Drift::Anywhere,
        },
    }
}

fn bounds(part: (Drift, &Value)) -> Option<(f64, f64)> {
    match part {
        (Drift::Within(least, greatest), _) => Some((least, greatest)),
        (Drift::Still, Value::Number(value)) => Some((*value, *value)),
        _ => None,
    }
}

impl Slot {
    fn next_jump(&self, source: &EventSource, now: Timestamp) -> Option<Timestamp> {
        let window = source.window;
        let reach = window.reach_days()?;
        let today = now.day();
        let age = match self {
            Self::Count(days) => oldest(days, window, today),
            Self::Sum(days) => oldest(days, window, today),
            Self::Mean(days) => oldest(days, window, today),
            Self::Min(days) => oldest(days, window, today),
            Self::Max(days) => oldest(days, window, today),
            Self::MeanGap(days) => oldest(days, window, today),
            Self::Distinct(days) => oldest(days, window, today),
            Self::Share(days) => oldest(days, window, today),
            Self::WeightedShare(days) => oldest(days, window, today),
            Self::Sessions(sessions) => sessions.oldest_end(now.millis(), reach),
            Self::Last(_) | Self::Recency(_) | Self::Tenure(_) => None,
        }?;
        // Fading numbers of both signs can cancel and change the sign: no bound holds longer
        // than a day.
        let fades_unevenly = matches!(window, Window::HalfLifeDays(_)) && !source.never_negative();
        let days = if fades_unevenly { 1 } else { reach - age };
        Some(Timestamp::from_millis((today + days).saturating_mul(MILLIS_PER_DAY)))
    }

    fn drift(
        &self,
        source: &EventSource,
        value: f64,
        (now, until): (Timestamp, Timestamp),
    ) -> Drift {
        match (self, source.window) {
            (Self::Recency(_) | Self::Tenure(_), _) => {
                Drift::between(value, value + until.days_since(now))
            }
            (_, Window::HalfLifeDays(half_life)) if value != 0.0 && until.day() > now.day() => {
                let days = (until.day() - now.day()) as f64;
                match self {
                    Self::Count(_) | Self::Sum(_) => {
                        Drift::between(value * (-days / half_life).exp2(), value)
                    }
                    // Numerator and denominator fade by the same factor.
                    _ => Drift::between(value, value),
                }
            }
            _ => Drift::Still,
        }
    }
}

/// The age in days of the oldest day in the window.
fn oldest<C: Default>(days: &Windowed<C>, window: Window, today: i64) -> Option<i64> {
    days.in_reach(window, today).next().map(|(age, _)| age)
}
