//! Time windows: lifetime, rolling and decaying, in daily cells.
//!
//! A rolling window of N days is the N most recent calendar days in the time zone of the
//! feature set, today included, as one exact cell per day. A decaying window has the same cells, each weighted with 2^(−age / half-life),
//! where age is in whole days. Cells are added in order of day, so that results are
//! reproducible to the bit. Neither window ever subtracts.
//!
//! The state has a bounded size: days out of range for all later instants are dropped, and
//! events of such days are no longer counted. The retained days depend on the newest day alone,
//! never on the order of arrival.

use serde::{Deserialize, Serialize};

use crate::domain::feature::fold::{MergeableCell, WeightableCell, is_plausible};
use crate::domain::time::MILLIS_PER_DAY;

/// Length of a decaying window. A day this many half-lives old has weight 2⁻⁴⁰, about 10⁻¹²;
/// older days are dropped.
const HALF_LIVES_KEPT: f64 = 40.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TimeWindow {
    Lifetime,
    RollingDays(u32),
    /// Exponential decay: an event of this age in days counts half.
    HalfLifeDays(f64),
}

impl TimeWindow {
    /// The number of days in the window, today included; `None` for all.
    pub(super) fn length_days(self) -> Option<i64> {
        match self {
            Self::Lifetime => None,
            Self::RollingDays(days) => Some(i64::from(days)),
            Self::HalfLifeDays(days) => Some((days * HALF_LIVES_KEPT) as i64 + 1),
        }
    }

    pub(super) fn weight(self, age_days: i64) -> f64 {
        match self {
            Self::HalfLifeDays(half_life) => (-(age_days as f64) / half_life).exp2(),
            Self::Lifetime | Self::RollingDays(_) => 1.0,
        }
    }
}

/// The cells of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum WindowedCells<C> {
    All(C),
    /// By calendar day since 1970-01-01, ascending; days without events are absent.
    #[serde(with = "gaps", bound(serialize = "C: Serialize", deserialize = "C: Deserialize<'de>"))]
    Days(Vec<(i64, C)>),
}

/// Delta encoding of days: the distance from the previous day mostly takes one byte, where the
/// day itself takes three.
mod gaps {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<C: Serialize, S: Serializer>(
        days: &[(i64, C)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let before = std::iter::once(0).chain(days.iter().map(|(day, _)| *day));
        serializer
            .collect_seq(days.iter().zip(before).map(|((day, cell), before)| (day - before, cell)))
    }

    pub(super) fn deserialize<'de, C: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(i64, C)>, D::Error> {
        let mut days = Vec::<(i64, C)>::deserialize(deserializer)?;
        let mut before = 0_i64;
        for (day, _) in &mut days {
            // A saturated day fails `is_sound` afterwards.
            *day = day.saturating_add(before);
            before = *day;
        }
        Ok(days)
    }
}

impl<C: Default> WindowedCells<C> {
    pub(super) fn new(window: TimeWindow) -> Self {
        match window {
            TimeWindow::Lifetime => Self::All(C::default()),
            TimeWindow::RollingDays(_) | TimeWindow::HalfLifeDays(_) => Self::Days(Vec::new()),
        }
    }

    /// The cell for an event of this day; `None` for a day out of range of the newest. Call it
    /// only for an event that will be added: a new newest day drops the days that leave the
    /// window.
    pub(super) fn cell(&mut self, window: TimeWindow, day: i64) -> Option<&mut C> {
        let days = match self {
            Self::All(cell) => return Some(cell),
            Self::Days(days) => days,
        };
        let length = window.length_days().unwrap_or(i64::MAX);
        // Events mostly come in order: check the newest day first.
        let at = match days.last() {
            Some((newest, _)) if *newest == day => days.len() - 1,
            Some((newest, _)) if *newest > day => {
                if newest - day >= length {
                    return None;
                }
                match days.binary_search_by_key(&day, |(d, _)| *d) {
                    Ok(at) => at,
                    Err(at) => {
                        days.insert(at, (day, C::default()));
                        at
                    }
                }
            }
            _ => {
                let behind = days.partition_point(|(d, _)| day - d >= length);
                days.drain(..behind);
                days.push((day, C::default()));
                days.len() - 1
            }
        };
        days.get_mut(at).map(|(_, cell)| cell)
    }

    /// Every cell in the window, oldest first, with its age in days. `today` must not be before
    /// the newest day.
    pub(super) fn cells_within(
        &self,
        window: TimeWindow,
        today: i64,
    ) -> impl Iterator<Item = (i64, &C)> {
        let length = window.length_days().unwrap_or(i64::MAX);
        let (all, days) = match self {
            Self::All(cell) => (Some((0, cell)), &[][..]),
            Self::Days(days) => (None, &days[days.partition_point(|(d, _)| today - d >= length)..]),
        };
        all.into_iter().chain(days.iter().map(move |(day, cell)| (today - day, cell)))
    }

    /// Whether `cell` can have produced these cells under this window.
    pub(super) fn is_sound(&self, window: TimeWindow, mut cell: impl FnMut(&C) -> bool) -> bool {
        match (self, window.length_days()) {
            (Self::All(all), None) => cell(all),
            (Self::Days(days), Some(length)) => {
                days.is_sorted_by(|a, b| a.0 < b.0)
                    && days
                        .iter()
                        .all(|(day, c)| is_plausible(day.saturating_mul(MILLIS_PER_DAY)) && cell(c))
                    && match (days.first(), days.last()) {
                        (Some(oldest), Some(newest)) => newest.0 - oldest.0 < length,
                        _ => true,
                    }
            }
            _ => false,
        }
    }
}

impl<C: MergeableCell> WindowedCells<C> {
    /// All cells in the window, merged into one.
    pub(super) fn merged(&self, window: TimeWindow, today: i64) -> C {
        self.cells_within(window, today).fold(C::default(), |mut all, (_, cell)| {
            all.merge(cell);
            all
        })
    }
}

impl<C: WeightableCell> WindowedCells<C> {
    /// (numerator, denominator) over the window, each day weighted by its age in a decaying
    /// window.
    pub(super) fn parts(&self, window: TimeWindow, today: i64) -> (f64, f64) {
        match window {
            TimeWindow::Lifetime | TimeWindow::RollingDays(_) => self.merged(window, today).parts(),
            TimeWindow::HalfLifeDays(_) => {
                self.cells_within(window, today).fold((0.0, 0.0), |(part, whole), (age, cell)| {
                    let weight = window.weight(age);
                    let (p, w) = cell.parts();
                    (part + weight * p, whole + weight * w)
                })
            }
        }
    }
}
