//! Order ledger: the newest order events of a customer, and the total of the older ones.
//!
//! The ledger keeps the entries with the greatest instants, up to [`MAX_ENTRIES`]. An entry
//! that is displaced is added to [`SettledOrders`] by itself: no later return finds its order.
//! Events without the id of an order have no entry ([`UnidentifiedOrders`]).
//! Which entries are the newest depends on the set of events only, and sums are exact, so the
//! order of arrival has no effect.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::domain::feature::exact::ExactSum;
use crate::domain::feature::fold::is_plausible;
use crate::domain::feature::orders::rules::{
    OrderRules, OrderStep, RepeatedOrder, UnmatchedReturn, is_order_hash, order_hash,
};
use crate::domain::feature::orders::unidentified::{RecentEvent, UnidentifiedOrders};
use crate::domain::feature::reading::event::EventReading;
use crate::domain::feature::zone::LocalInstant;

/// Upper bound of the entries in a ledger, of some 20 bytes each.
pub(super) const MAX_ENTRIES: usize = 1000;

/// The order events of one customer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::domain::feature) struct OrderLedger {
    /// In the order of [`LedgerEntry::compare`], without duplicates.
    entries: Vec<LedgerEntry>,
    settled: SettledOrders,
    unidentified: UnidentifiedOrders,
}

/// One event, or several equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct LedgerEntry {
    pub(super) millis: i64,
    /// Hash of the order's id.
    pub(super) order: u64,
    pub(super) effect: LedgerEffect,
    /// Never negative; 0 where the event has none.
    pub(super) value: ExactSum,
    events: u32,
}

/// What an entry does to its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum LedgerEffect {
    Placed,
    PlacedWithoutValue,
    Returned,
    /// Cancelled, or returned without a value.
    TakenBack,
}

/// The displaced entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SettledOrders {
    pub(super) placed: u64,
    pub(super) taken_back: u64,
    /// Values placed minus values returned.
    pub(super) value: ExactSum,
    pub(super) first: Option<FirstOrder>,
}

/// The earliest order; of several at one instant, the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct FirstOrder {
    pub(super) millis: i64,
    pub(super) value: ExactSum,
}

impl OrderLedger {
    /// Adds an event that matches a filter of the rules.
    pub(in crate::domain::feature) fn add(&mut self, rules: &OrderRules, event: EventReading<'_>) {
        let Some(step) = rules.step_of(event) else { return };
        let value = rules.value.value(event);
        let effect = match (step, value) {
            (OrderStep::Placed, Some(value)) if value < 0.0 => LedgerEffect::Returned,
            (OrderStep::Placed, Some(_)) => LedgerEffect::Placed,
            (OrderStep::Placed, None) => LedgerEffect::PlacedWithoutValue,
            (OrderStep::Returned, Some(_)) => LedgerEffect::Returned,
            (OrderStep::Returned, None) | (OrderStep::Cancelled, _) => LedgerEffect::TakenBack,
        };
        let value = value.map(|value| ExactSum::from_number(value.abs()));
        let id = rules.order_id(event);
        let Some(id) = id else {
            self.add_unidentified(rules.unmatched, event.at, effect, value);
            return;
        };
        self.insert(
            rules.repeated,
            LedgerEntry {
                millis: event.at.millis,
                order: order_hash(id),
                effect,
                value: value.unwrap_or_default(),
                events: 1,
            },
        );
    }

    /// Adds an event without the id of an order. Without a value, it takes nothing back.
    fn add_unidentified(
        &mut self,
        unmatched: UnmatchedReturn,
        at: LocalInstant,
        effect: LedgerEffect,
        value: Option<ExactSum>,
    ) {
        let is_return = matches!(effect, LedgerEffect::Returned | LedgerEffect::TakenBack);
        match value.filter(|value| value.is_positive()) {
            Some(value) if unmatched == UnmatchedReturn::Newest => {
                let added = RecentEvent { millis: at.millis, is_return, value };
                self.unidentified.add_recent(at.zone, added);
            }
            _ if is_return => {}
            _ => self.unidentified.add(at, value),
        }
    }

    fn insert(&mut self, repeated: RepeatedOrder, entry: LedgerEntry) {
        match self.entries.binary_search_by(|known| known.compare(&entry, repeated)) {
            Ok(at) => {
                let known = &mut self.entries[at];
                known.events = known.events.saturating_add(1);
                if repeated == RepeatedOrder::Add {
                    known.value = known.value.plus(entry.value);
                }
            }
            Err(0) if self.entries.len() == MAX_ENTRIES => self.settled.add(entry, repeated),
            Err(at) => {
                self.entries.insert(at, entry);
                if self.entries.len() > MAX_ENTRIES {
                    let oldest = self.entries.remove(0);
                    self.settled.add(oldest, repeated);
                }
            }
        }
    }

    /// The oldest day with an event within the `length` days up to now: no net order there is
    /// older. Net orders themselves would take longer to compute.
    pub(in crate::domain::feature) fn oldest_day_within(
        &self,
        length: i64,
        now: LocalInstant,
    ) -> Option<i64> {
        let is_before = |day: i64| now.day - day >= length;
        let day_of = |entry: &LedgerEntry| now.zone.day(entry.millis);
        let first = self.entries.partition_point(|entry| is_before(day_of(entry)));
        let identified = self.entries.get(first).map(day_of);
        identified.into_iter().chain(self.unidentified.oldest_day_after(now.zone, is_before)).min()
    }

    pub(super) fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    pub(super) const fn settled(&self) -> &SettledOrders {
        &self.settled
    }

    pub(super) const fn unidentified(&self) -> &UnidentifiedOrders {
        &self.unidentified
    }

    /// Whether these rules can have produced this ledger.
    pub(in crate::domain::feature) fn is_sound(&self, rules: &OrderRules) -> bool {
        let ordered =
            self.entries.is_sorted_by(|a, b| a.compare(b, rules.repeated) == Ordering::Less);
        ordered
            && self.entries.len() <= MAX_ENTRIES
            && self.entries.iter().all(|entry| {
                is_plausible(entry.millis) && is_order_hash(entry.order) && entry.events > 0
            })
            && self.settled.first.is_none_or(|first| is_plausible(first.millis))
            && self.unidentified.is_sound()
    }
}

impl LedgerEntry {
    /// Order by instant, then order id and effect; then by value, where equal values only are
    /// one entry.
    fn compare(&self, other: &Self, repeated: RepeatedOrder) -> Ordering {
        let key = |entry: &Self| (entry.millis, entry.order, entry.effect);
        let by_key = key(self).cmp(&key(other));
        match repeated {
            RepeatedOrder::Add => by_key,
            RepeatedOrder::Replace => by_key.then_with(|| self.value.compare(other.value)),
        }
    }

    pub(super) const fn with_value(self, value: ExactSum) -> Self {
        Self { value, ..self }
    }

    /// The value of all events of the entry.
    pub(super) fn total(&self, repeated: RepeatedOrder) -> ExactSum {
        match repeated {
            RepeatedOrder::Add => self.value,
            RepeatedOrder::Replace => self.value.times(self.events),
        }
    }
}

impl SettledOrders {
    fn add(&mut self, entry: LedgerEntry, repeated: RepeatedOrder) {
        let events = u64::from(entry.events);
        match entry.effect {
            LedgerEffect::Placed | LedgerEffect::PlacedWithoutValue => {
                self.placed = self.placed.saturating_add(events);
                self.value = self.value.plus(entry.total(repeated));
                let first = FirstOrder { millis: entry.millis, value: entry.value };
                self.first = Some(self.first.map_or(first, |known| known.merged(first, repeated)));
            }
            LedgerEffect::Returned | LedgerEffect::TakenBack => self.take_back(entry, repeated),
        }
    }

    /// Subtracts an entry that takes an order back.
    pub(super) fn take_back(&mut self, entry: LedgerEntry, repeated: RepeatedOrder) {
        self.value = self.value.minus(entry.total(repeated));
        if entry.effect == LedgerEffect::TakenBack {
            self.taken_back = self.taken_back.saturating_add(u64::from(entry.events));
        }
    }

    /// The number of net orders.
    pub(super) const fn count(&self) -> u64 {
        self.placed.saturating_sub(self.taken_back)
    }

    /// The value of the net orders, at least 0.
    pub(super) fn net_value(&self) -> ExactSum {
        if self.value.is_positive() { self.value } else { ExactSum::default() }
    }
}

impl FirstOrder {
    fn merged(self, other: Self, repeated: RepeatedOrder) -> Self {
        match self.millis.cmp(&other.millis) {
            Ordering::Greater => other,
            Ordering::Equal if repeated == RepeatedOrder::Add => {
                Self { value: self.value.plus(other.value), ..self }
            }
            Ordering::Equal if self.value.compare(other.value).is_gt() => other,
            Ordering::Less | Ordering::Equal => self,
        }
    }
}
