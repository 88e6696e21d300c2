//! Windows: how much of the past a fold sees.
//!
//! A rolling window of N days is the N most recent UTC days, today included,
//! kept as one exact cell a day. A decaying window is the same days, each
//! weighted 2^(−age / half-life) with age in whole days and added in order of
//! day, so that the bits can be reproduced. Neither ever subtracts.
//!
//! State stays bounded: days that no later instant can reach are dropped, and
//! events that old no longer counted. What is kept depends on the newest day
//! alone, never on the order of arrival.

use serde::{Deserialize, Serialize};

use crate::domain::feature::fold::{Cell, Parts, is_plausible};
use crate::domain::time::MILLIS_PER_DAY;

/// A day this many half-lives old weighs 2⁻⁴⁰, a millionth of a millionth: days
/// before it are left out.
const HALF_LIVES_KEPT: f64 = 40.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Window {
    Lifetime,
    RollingDays(u32),
    /// Exponential decay: an event this many days old counts half.
    HalfLifeDays(f64),
}

impl Window {
    /// The number of days kept, today included; `None` for all.
    pub(super) fn reach_days(self) -> Option<i64> {
        match self {
            Self::Lifetime => None,
            Self::RollingDays(days) => Some(i64::from(days)),
            Self::HalfLifeDays(days) => Some((days * HALF_LIVES_KEPT) as i64 + 1),
        }
    }

    fn weight(self, age_days: i64) -> f64 {
        match self {
            Self::HalfLifeDays(half_life) => (-(age_days as f64) / half_life).exp2(),
            Self::Lifetime | Self::RollingDays(_) => 1.0,
        }
    }
}

/// The cells of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Windowed<C> {
    All(C),
    /// By UTC day since 1970-01-01, ascending; days without events are absent.
    #[serde(with = "gaps", bound(serialize = "C: Serialize", deserialize = "C: Deserialize<'de>"))]
    Days(Vec<(i64, C)>),
}

/// Days on the wire: each as its distance from the one before, which is mostly
/// one byte where the day itself takes three.
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
            // What saturates is refused as unsound afterwards.
            *day = day.saturating_add(before);
            before = *day;
        }
        Ok(days)
    }
}

impl<C: Default> Windowed<C> {
    pub(super) fn new(window: Window) -> Self {
        match window {
            Window::Lifetime => Self::All(C::default()),
            Window::RollingDays(_) | Window::HalfLifeDays(_) => Self::Days(Vec::new()),
        }
    }

    /// The cell that an event of this day belongs to; `None` when it is out of
    /// reach of the newest day. Ask only for an event that will be added: a new
    /// newest day drops the days it leaves behind.
    pub(super) fn cell(&mut self, window: Window, day: i64) -> Option<&mut C> {
        let days = match self {
            Self::All(cell) => return Some(cell),
            Self::Days(days) => days,
        };
        let reach = window.reach_days().unwrap_or(i64::MAX);
        // Events come mostly in order: look at the newest day first.
        let at = match days.last() {
            Some((newest, _)) if *newest == day => days.len() - 1,
            Some((newest, _)) if *newest > day => {
                if newest - day >= reach {
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
                let behind = days.partition_point(|(d, _)| day - d >= reach);
                days.drain(..behind);
                days.push((day, C::default()));
                days.len() - 1
            }
        };
        days.get_mut(at).map(|(_, cell)| cell)
    }

    /// Every cell in reach of `today`, oldest first, with its age in days.
    /// `today` is not before the newest day.
    pub(super) fn in_reach(&self, window: Window, today: i64) -> impl Iterator<Item = (i64, &C)> {
        let reach = window.reach_days().unwrap_or(i64::MAX);
        let (all, days) = match self {
            Self::All(cell) => (Some((0, cell)), &[][..]),
            Self::Days(days) => (None, &days[days.partition_point(|(d, _)| today - d >= reach)..]),
        };
        all.into_iter().chain(days.iter().map(move |(day, cell)| (today - day, cell)))
    }

    /// Whether this can have come from `cell` under this window.
    pub(super) fn is_sound(&self, window: Window, mut cell: impl FnMut(&C) -> bool) -> bool {
        match (self, window.reach_days()) {
            (Self::All(all), None) => cell(all),
            (Self::Days(days), Some(reach)) => {
                days.is_sorted_by(|a, b| a.0 < b.0)
                    && days
                        .iter()
                        .all(|(day, c)| is_plausible(day.saturating_mul(MILLIS_PER_DAY)) && cell(c))
                    && match (days.first(), days.last()) {
                        (Some(oldest), Some(newest)) => newest.0 - oldest.0 < reach,
                        _ => true,
                    }
            }
            _ => false,
        }
    }
}

impl<C: Cell> Windowed<C> {
    /// All cells in reach as one.
    pub(super) fn merged(&self, window: Window, today: i64) -> C {
        self.in_reach(window, today).fold(C::default(), |mut all, (_, cell)| {
            all.merge(cell);
            all
        })
    }
}

impl<C: Parts> Windowed<C> {
    /// (part, whole) of the window, each day weighted by its age where it decays.
    pub(super) fn parts(&self, window: Window, today: i64) -> (f64, f64) {
        match window {
            Window::Lifetime | Window::RollingDays(_) => self.merged(window, today).parts(),
            Window::HalfLifeDays(_) => {
                self.in_reach(window, today).fold((0.0, 0.0), |(part, whole), (age, cell)| {
                    let weight = window.weight(age);
                    let (p, w) = cell.parts();
                    (part + weight * p, whole + weight * w)
                })
            }
        }
    }
}
