//! Orders without an id: no return names them, so all orders of a day are one cell.
//!
//! The customer's first one is kept apart, for features without the first order. Where returns
//! of unknown orders are taken from the newest orders, the newest events are kept one by one, up
//! to [`MAX_RECENT`]. Which orders a cell contains depends on the set of events only, and sums
//! are exact, so the order of arrival has no effect.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::domain::feature::exact::ExactSum;
use crate::domain::feature::fold::is_plausible;
use crate::domain::feature::zone::{DayZone, LocalInstant};

/// Upper bound of the days with cells.
const MAX_DAYS: usize = 1000;

/// Upper bound of the events that are kept one by one.
const MAX_RECENT: usize = 16;

/// The orders of one customer that have no id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct UnidentifiedOrders {
    /// In the order of [`RecentEvent::compare`]. A full list has only events that are newer than
    /// the orders in the cells.
    recent: Vec<RecentEvent>,
    /// The first order with its day, in no cell.
    first: Option<(i64, SingleOrder)>,
    /// By day: whole days since 1970-01-01 in local time.
    days: Vec<(i64, OrderDay)>,
    settled: SettledDays,
}

/// One event with a value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct RecentEvent {
    pub(super) millis: i64,
    pub(super) is_return: bool,
    pub(super) value: ExactSum,
}

/// The orders of days that have no cell any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SettledDays {
    pub(super) count: u64,
    pub(super) value: ExactSum,
    /// Values of returns that found no order.
    pub(super) returned: ExactSum,
}

/// One order. The order of two is that of their instants, then of their values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct SingleOrder {
    pub(super) millis: i64,
    /// Never negative; `None` if the event has none.
    pub(super) value: Option<ExactSum>,
}

/// The orders of one day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum OrderDay {
    One(SingleOrder),
    Several(OrderTotals),
}

/// Two or more orders, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct OrderTotals {
    pub(super) first_millis: i64,
    pub(super) last_millis: i64,
    pub(super) count: u64,
    /// Orders with a value above 0.
    pub(super) valued: u64,
    pub(super) value: ExactSum,
    /// Least and greatest value above 0.
    pub(super) extremes: Option<(ExactSum, ExactSum)>,
}

impl UnidentifiedOrders {
    /// Adds an event that may be taken back, or takes back, by its value only.
    pub(super) fn add_recent(&mut self, zone: DayZone, added: RecentEvent) {
        let at = self.recent.partition_point(|known| known.compare(&added).is_lt());
        self.recent.insert(at, added);
        if self.recent.len() <= MAX_RECENT {
            return;
        }
        let oldest = self.recent.remove(0);
        if oldest.is_return {
            self.settled.returned = self.settled.returned.plus(oldest.value);
        } else {
            self.add(zone.at(oldest.millis), Some(oldest.value));
        }
    }

    /// Adds an order that is never taken back.
    pub(super) fn add(&mut self, at: LocalInstant, value: Option<ExactSum>) {
        let mut added = (at.day, SingleOrder { millis: at.millis, value });
        match &mut self.first {
            None => {
                self.first = Some(added);
                return;
            }
            Some(first) if added.1.is_before(first.1) => std::mem::swap(first, &mut added),
            Some(_) => {}
        }
        let (day, order) = added;
        match self.days.binary_search_by_key(&day, |(day, _)| *day) {
            Ok(at) => {
                let cell = &mut self.days[at].1;
                *cell = OrderDay::Several(cell.totals().with(OrderTotals::of(order)));
            }
            Err(at) => self.days.insert(at, (day, OrderDay::One(order))),
        }
        if self.days.len() > MAX_DAYS {
            let oldest = self.days.remove(0).1.totals();
            self.settled.count = self.settled.count.saturating_add(oldest.count);
            self.settled.value = self.settled.value.plus(oldest.value);
        }
    }

    /// The oldest day with an event that is not before a window.
    pub(super) fn oldest_day_after(
        &self,
        zone: DayZone,
        is_before: impl Fn(i64) -> bool,
    ) -> Option<i64> {
        let first = self.first.map(|(day, _)| day).filter(|day| !is_before(*day));
        let from = self.days.partition_point(|(day, _)| is_before(*day));
        let in_cells = self.days.get(from).map(|(day, _)| *day);
        let from = self.recent.partition_point(|event| is_before(zone.day(event.millis)));
        let recent = self.recent.get(from).map(|event| zone.day(event.millis));
        [first, in_cells, recent].into_iter().flatten().min()
    }

    pub(super) fn recent(&self) -> &[RecentEvent] {
        &self.recent
    }

    pub(super) const fn settled(&self) -> SettledDays {
        self.settled
    }

    /// The orders that are kept one by one, with their days.
    pub(super) fn singles(&self) -> impl Iterator<Item = (i64, SingleOrder)> {
        let alone = self.days.iter().filter_map(|(day, orders)| match orders {
            OrderDay::One(order) => Some((*day, *order)),
            OrderDay::Several(_) => None,
        });
        self.first.into_iter().chain(alone)
    }

    /// The days with several orders.
    pub(super) fn totals(&self) -> impl Iterator<Item = (i64, OrderTotals)> {
        self.days.iter().filter_map(|(day, orders)| match orders {
            OrderDay::One(_) => None,
            OrderDay::Several(totals) => Some((*day, *totals)),
        })
    }

    /// Whether events can have produced these cells.
    pub(super) fn is_sound(&self) -> bool {
        self.recent.is_sorted_by(|a, b| a.compare(b).is_le())
            && self.recent.len() <= MAX_RECENT
            && self.recent.iter().all(|event| is_plausible(event.millis))
            && self.days.is_sorted_by(|a, b| a.0 < b.0)
            && self.days.len() <= MAX_DAYS
            && (self.first.is_some() || self.days.is_empty())
            && self.singles().all(|(_, order)| is_plausible(order.millis))
            && self.totals().all(|(_, totals)| {
                is_plausible(totals.first_millis)
                    && is_plausible(totals.last_millis)
                    && totals.valued <= totals.count
                    && (totals.valued > 0) == totals.extremes.is_some()
            })
    }
}

impl RecentEvent {
    fn compare(&self, other: &Self) -> Ordering {
        let key = |event: &Self| (event.millis, event.is_return);
        key(self).cmp(&key(other)).then_with(|| self.value.compare(other.value))
    }
}

impl SingleOrder {
    fn is_before(self, other: Self) -> bool {
        let by_value = match (self.value, other.value) {
            (Some(a), Some(b)) => a.compare(b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        self.millis.cmp(&other.millis).then(by_value).is_lt()
    }

    /// The value if it is above 0.
    fn amount(self) -> Option<ExactSum> {
        self.value.filter(|value| value.is_positive())
    }
}

impl OrderDay {
    fn totals(self) -> OrderTotals {
        match self {
            Self::One(order) => OrderTotals::of(order),
            Self::Several(totals) => totals,
        }
    }
}

impl OrderTotals {
    fn of(order: SingleOrder) -> Self {
        let amount = order.amount();
        Self {
            first_millis: order.millis,
            last_millis: order.millis,
            count: 1,
            valued: u64::from(amount.is_some()),
            value: amount.unwrap_or_default(),
            extremes: amount.map(|amount| (amount, amount)),
        }
    }

    fn with(self, other: Self) -> Self {
        let extremes = match (self.extremes, other.extremes) {
            (Some((least, greatest)), Some((other_least, other_greatest))) => Some((
                if other_least.compare(least).is_lt() { other_least } else { least },
                if other_greatest.compare(greatest).is_gt() { other_greatest } else { greatest },
            )),
            (known, other) => known.or(other),
        };
        Self {
            first_millis: self.first_millis.min(other.first_millis),
            last_millis: self.last_millis.max(other.last_millis),
            count: self.count.saturating_add(other.count),
            valued: self.valued.saturating_add(other.valued),
            value: self.value.plus(other.value),
            extremes,
        }
    }
}
