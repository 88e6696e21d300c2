//! The orders of a ledger net of returns: those not taken back, with their remaining values.

use crate::domain::feature::exact::ExactSum;
use crate::domain::feature::orders::ledger::{
    LedgerEffect, LedgerEntry, OrderLedger, SettledOrders,
};
use crate::domain::feature::orders::rules::{OrderRules, RepeatedOrder, UnmatchedReturn};
use crate::domain::feature::orders::unidentified::{
    OrderTotals, RecentEvent, SettledDays, SingleOrder,
};
use crate::domain::feature::zone::DayZone;

/// The orders of a customer that were not taken back, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::domain::feature) struct NetOrders {
    pub(super) orders: Vec<NetOrder>,
    /// Orders without an id on days that have several of them, oldest first.
    pub(super) days: Vec<(i64, OrderTotals)>,
    /// Older orders, without their returns.
    pub(super) settled: SettledOrders,
    pub(super) settled_days: SettledDays,
}

/// An order that was not taken back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NetOrder {
    /// Instant of the first `placed` event.
    pub(super) millis: i64,
    /// Calendar day of that instant.
    pub(super) day: i64,
    /// Value minus returns, at least 0; `None` if no event has a value.
    pub(super) value: Option<ExactSum>,
}

/// A return of no known order.
#[derive(Clone, Copy)]
struct ReturnWithoutOrder {
    millis: i64,
    value: ExactSum,
    /// `None` without the id of an order.
    entry: Option<LedgerEntry>,
}

/// The entries of one order, summed up.
#[derive(Debug, Default)]
struct EntryTotals {
    placed_millis: Option<i64>,
    value: Option<ExactSum>,
    returned: ExactSum,
    is_taken_back: bool,
}

impl NetOrders {
    pub(in crate::domain::feature) fn of(
        ledger: &OrderLedger,
        rules: &OrderRules,
        zone: DayZone,
    ) -> Self {
        let (entries, unidentified) = (ledger.entries(), ledger.unidentified());
        let most = entries.len() + unidentified.recent().len() + unidentified.singles().count();
        let mut net = Self {
            orders: Vec::with_capacity(most),
            days: unidentified.totals().collect(),
            settled: *ledger.settled(),
            settled_days: unidentified.settled(),
        };
        // Entries are in order of time; grouped by order, they stay so within each.
        let mut by_order: Vec<usize> = (0..entries.len()).collect();
        by_order.sort_by_key(|at| entries[*at].order);
        let mut unmatched: Vec<ReturnWithoutOrder> = Vec::new();
        for group in by_order.chunk_by(|a, b| entries[*a].order == entries[*b].order) {
            let mut totals = EntryTotals::default();
            for at in group {
                totals.add(&entries[*at], rules.repeated);
            }
            if totals.placed_millis.is_none() {
                unmatched.extend(group.iter().map(|at| ReturnWithoutOrder {
                    millis: entries[*at].millis,
                    value: entries[*at].total(rules.repeated),
                    entry: Some(entries[*at]),
                }));
            }
            net.orders.extend(totals.net(zone));
        }
        for (day, SingleOrder { millis, value }) in unidentified.singles() {
            net.orders.push(NetOrder { millis, day, value });
        }
        for &RecentEvent { millis, is_return, value } in unidentified.recent() {
            if is_return {
                unmatched.push(ReturnWithoutOrder { millis, value, entry: None });
            } else {
                net.orders.push(NetOrder { millis, day: zone.day(millis), value: Some(value) });
            }
        }
        // A stable sort of orders of one instant by value: results do not depend on hashes.
        net.orders.sort_by(|a, b| a.millis.cmp(&b.millis).then_with(|| a.compare_value(b)));
        unmatched.sort_by(|a, b| a.millis.cmp(&b.millis).then_with(|| a.value.compare(b.value)));
        for entry in unmatched {
            net.take_back(entry, rules.unmatched);
        }
        net
    }

    /// Applies a return without a known order.
    fn take_back(&mut self, unmatched: ReturnWithoutOrder, rule: UnmatchedReturn) {
        let ReturnWithoutOrder { millis, value, entry } = unmatched;
        let left = match rule {
            UnmatchedReturn::Newest => self.take_newest(millis, value),
            UnmatchedReturn::Ignore => value,
        };
        match entry {
            Some(entry) if self.settled.placed > 0 => {
                self.settled.take_back(entry.with_value(left), RepeatedOrder::Add);
            }
            _ if rule == UnmatchedReturn::Newest => {
                self.settled_days.returned = self.settled_days.returned.plus(left);
            }
            _ => {}
        }
    }

    /// Takes a value from an earlier order of the same value, else from earlier orders, newest
    /// first, then from later ones, oldest first; returns the part beyond the values of all.
    /// So the values of all orders add up to placed minus returned, at least 0.
    fn take_newest(&mut self, millis: i64, value: ExactSum) -> ExactSum {
        if !value.is_positive() {
            return ExactSum::default();
        }
        let earlier = self.orders.partition_point(|order| order.millis <= millis);
        let same = self.orders[..earlier]
            .iter()
            .rposition(|order| order.value.is_some_and(|own| own.compare(value).is_eq()));
        if let Some(at) = same {
            self.orders.remove(at);
            return ExactSum::default();
        }
        let (mut left, mut at) = (value, earlier);
        while at > 0 && left.is_positive() {
            at -= 1;
            left = self.take_from(at, left);
        }
        // Orders that were taken completely are removed, so the later ones begin here.
        let mut at = self.orders.partition_point(|order| order.millis <= millis);
        while at < self.orders.len() && left.is_positive() {
            let orders = self.orders.len();
            left = self.take_from(at, left);
            at += usize::from(self.orders.len() == orders);
        }
        left
    }

    /// Takes a value from one order, which is removed if nothing is left of it; returns the part
    /// beyond its value.
    fn take_from(&mut self, at: usize, value: ExactSum) -> ExactSum {
        let Some(own) = self.orders[at].value.filter(|own| own.is_positive()) else { return value };
        if own.compare(value).is_gt() {
            self.orders[at].value = Some(own.minus(value));
            return ExactSum::default();
        }
        self.orders.remove(at);
        value.minus(own)
    }
}

impl NetOrder {
    fn compare_value(&self, other: &Self) -> std::cmp::Ordering {
        match (self.value, other.value) {
            (Some(a), Some(b)) => a.compare(b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    }
}

impl EntryTotals {
    fn add(&mut self, entry: &LedgerEntry, repeated: RepeatedOrder) {
        match entry.effect {
            LedgerEffect::Placed => {
                self.placed_millis.get_or_insert(entry.millis);
                self.value = Some(match (self.value, repeated) {
                    (Some(value), RepeatedOrder::Add) => value.plus(entry.value),
                    // Later entries are newer, or greater at the same instant.
                    _ => entry.value,
                });
            }
            LedgerEffect::PlacedWithoutValue => {
                self.placed_millis.get_or_insert(entry.millis);
            }
            LedgerEffect::Returned => self.returned = self.returned.plus(entry.total(repeated)),
            LedgerEffect::TakenBack => self.is_taken_back = true,
        }
    }

    /// `None`: it was taken back.
    fn net(self, zone: DayZone) -> Option<NetOrder> {
        let millis = self.placed_millis.filter(|_| !self.is_taken_back)?;
        let value = self.value.map(|value| value.minus(self.returned));
        let is_returned = self.returned.is_positive();
        if is_returned && value.is_some_and(|value| !value.is_positive()) {
            return None;
        }
        Some(NetOrder { millis, day: zone.day(millis), value })
    }
}
