//! Purchase history: the summary of a customer's orders that value models read.

use crate::domain::feature::exact::ExactSum;
use crate::domain::feature::orders::net::{NetOrder, NetOrders};
use crate::domain::feature::orders::unidentified::OrderTotals;
use crate::domain::feature::zone::{DayZone, LocalInstant};

/// Orders of one customer, net of returns, up to some day. All orders of one day count once. Times
/// are whole days of the feature set's time zone.
///
/// Value models call the number of repeat days x or frequency, `last_day` `t_x` or recency, and
/// `age_days` T.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PurchaseHistory {
    /// Days with an order, without the first one.
    pub repeat_days: u32,
    /// From the first day with an order to the last one.
    pub last_day: u32,
    /// From the first day with an order to the present.
    pub age_days: u32,
    /// Repeat days with a value above 0.
    pub valued_repeat_days: u32,
    /// Value of these days.
    pub repeat_value: f64,
    /// Value of all orders.
    pub total_value: f64,
    /// Number of all orders.
    pub orders: u64,
}

/// A purchase history up to a past day, and what the customer did after that day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PurchaseSplit {
    pub before: PurchaseHistory,
    /// Days with an order after that day.
    pub days_after: u32,
    /// Days with an order in the equally long period up to that day.
    pub days_before: u32,
    /// Value of the orders after that day.
    pub value_after: f64,
}

/// All orders of a customer at an instant, net of returns.
#[derive(Debug)]
pub struct KnownOrders {
    orders: NetOrders,
    now: LocalInstant,
}

/// The orders of one day.
#[derive(Clone, Copy)]
pub(super) struct OrderDaySum {
    pub(super) day: i64,
    orders: u64,
    pub(super) value: ExactSum,
}

impl PurchaseHistory {
    /// Mean value of the repeat days with a value above 0.
    pub fn mean_repeat_value(&self) -> Option<f64> {
        (self.valued_repeat_days > 0)
            .then(|| self.repeat_value / f64::from(self.valued_repeat_days))
    }

    /// Mean value of an order.
    pub fn mean_order_value(&self) -> f64 {
        self.total_value / (self.orders.max(1) as f64)
    }

    /// Mean days between days with an order; `None` with one such day.
    pub fn mean_days_between_orders(&self) -> Option<f64> {
        (self.repeat_days > 0).then(|| f64::from(self.last_day) / f64::from(self.repeat_days))
    }
}

/// The orders of a customer by day, in order of days.
struct OrderDays<'o> {
    orders: &'o [NetOrder],
    days: &'o [(i64, OrderTotals)],
}

impl Iterator for OrderDays<'_> {
    type Item = OrderDaySum;

    fn next(&mut self) -> Option<OrderDaySum> {
        let single = self.orders.first().map(|order| order.day);
        let several = self.days.first().map(|(day, _)| *day);
        let day = [single, several].into_iter().flatten().min()?;
        let mut sum = OrderDaySum { day, orders: 0, value: ExactSum::default() };
        // The clock of a zone may show the day before once more: that is the same day here.
        while let Some((order, rest)) = self.orders.split_first().filter(|(o, _)| o.day <= day) {
            self.orders = rest;
            sum.add(1, order.value.unwrap_or_default());
        }
        while let Some(((_, totals), rest)) =
            self.days.split_first().filter(|((d, _), _)| *d <= day)
        {
            self.days = rest;
            sum.add(totals.count, totals.value);
        }
        Some(sum)
    }
}

impl OrderDaySum {
    fn add(&mut self, orders: u64, value: ExactSum) {
        self.orders = self.orders.saturating_add(orders);
        self.value = self.value.plus(value);
    }
}

impl NetOrders {
    /// The purchase history up to and including the day `until`; `None` without an order by then.
    /// Settled orders count as one day each, of which only the first has a date.
    fn purchases_until(&self, zone: DayZone, until: i64) -> Option<PurchaseHistory> {
        let settled_orders = self.settled_orders();
        let settled_value = self.settled.net_value().plus(self.settled_days.value);
        let settled_first = self.settled_first_day(zone);
        if settled_first.is_some_and(|first| first > until) {
            return None;
        }
        let (mut first, mut last) = (settled_first, settled_first);
        let (mut orders, mut total) = (settled_orders, settled_value);
        let (mut repeats, mut valued) = (settled_orders.saturating_sub(1), 0_u64);
        let mut repeat_value = ExactSum::default();
        for sum in self.order_days().take_while(|sum| sum.day <= until) {
            orders = orders.saturating_add(sum.orders);
            total = total.plus(sum.value);
            // The first of all orders is settled, or the first of the days.
            if orders > sum.orders {
                repeats += 1;
                if sum.value.is_positive() {
                    valued += 1;
                    repeat_value = repeat_value.plus(sum.value);
                }
            }
            first = Some(first.map_or(sum.day, |first| first.min(sum.day)));
            last = Some(last.map_or(sum.day, |last| last.max(sum.day)));
        }
        let (first, last) = (first?, last?);
        // Of the settled orders, each has the mean value.
        let settled_mean = settled_value.nearest() / settled_orders.max(1) as f64;
        let valued_settled = if settled_mean > 0.0 { settled_orders.saturating_sub(1) } else { 0 };
        Some(PurchaseHistory {
            repeat_days: clamp(repeats),
            last_day: clamp_day(last - first),
            age_days: clamp_day(until - first),
            valued_repeat_days: clamp(valued.saturating_add(valued_settled)),
            repeat_value: repeat_value.nearest() + valued_settled as f64 * settled_mean,
            total_value: total.nearest(),
            orders,
        })
    }

    fn order_days(&self) -> OrderDays<'_> {
        OrderDays { orders: &self.orders, days: &self.days }
    }

    fn settled_orders(&self) -> u64 {
        self.settled.count().saturating_add(self.settled_days.count)
    }

    /// Day of the first order if that is settled.
    fn settled_first_day(&self, zone: DayZone) -> Option<i64> {
        let first = self.settled.first.filter(|_| self.settled_orders() > 0)?;
        Some(zone.day(first.millis))
    }
}

impl KnownOrders {
    pub(in crate::domain::feature) const fn new(orders: NetOrders, now: LocalInstant) -> Self {
        Self { orders, now }
    }

    /// Day of the first order; `None` without an order.
    pub(super) fn first_day(&self) -> Option<i64> {
        let settled = self.orders.settled_first_day(self.now.zone);
        settled.into_iter().chain(self.order_days().next().map(|sum| sum.day)).min()
    }

    /// The orders by day, in order of days; those of settled orders are unknown.
    pub(super) fn order_days(&self) -> impl Iterator<Item = OrderDaySum> {
        self.orders.order_days()
    }

    /// The purchase history; `None` without an order.
    pub fn history(&self) -> Option<PurchaseHistory> {
        self.orders.purchases_until(self.now.zone, self.now.day)
    }

    /// The purchase history up to and including `day`, in days since 1970-01-01 in local time.
    pub(super) fn history_until(&self, day: i64) -> Option<PurchaseHistory> {
        self.orders.purchases_until(self.now.zone, day)
    }

    /// The purchase history `holdout_days` earlier, and the orders since; `None` without an order by
    /// then.
    pub fn split(&self, holdout_days: u32) -> Option<PurchaseSplit> {
        let length = i64::from(holdout_days);
        let until = self.now.day - length;
        let before = self.orders.purchases_until(self.now.zone, until)?;
        let mut split = PurchaseSplit { before, days_after: 0, days_before: 0, value_after: 0.0 };
        let mut value_after = ExactSum::default();
        for sum in self.orders.order_days().take_while(|sum| sum.day <= self.now.day) {
            if sum.day > until {
                split.days_after += 1;
                value_after = value_after.plus(sum.value);
            } else if sum.day > until - length {
                split.days_before += 1;
            }
        }
        Some(PurchaseSplit { value_after: value_after.nearest(), ..split })
    }
}

fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn clamp_day(days: i64) -> u32 {
    u32::try_from(days.max(0)).unwrap_or(u32::MAX)
}
