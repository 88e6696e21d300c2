//! The orders of a customer in a past period of whole days.

use crate::domain::feature::FeatureSet;
use crate::domain::feature::exact::ExactSum;
use crate::domain::feature::orders::purchases::{KnownOrders, PurchaseHistory};
use crate::domain::time::Timestamp;

/// Whole days in the time zone of a feature set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayPeriod {
    /// Days since 1970-01-01 in local time.
    first_day: i64,
    end_day: i64,
    /// First instant of the period.
    pub from: Timestamp,
    /// First instant after the period.
    pub until: Timestamp,
}

impl DayPeriod {
    /// The `days` whole days before the day of `now`.
    pub fn before(now: Timestamp, days: u32, set: &FeatureSet) -> Self {
        let zone = set.zone();
        let end_day = zone.day(now.millis());
        let first_day = end_day - i64::from(days);
        Self {
            first_day,
            end_day,
            from: Timestamp::from_millis(zone.day_start(first_day)),
            until: Timestamp::from_millis(zone.day_start(end_day)),
        }
    }

    /// The whole days from the day of `start` up to the day before that of `now`; none if both are on
    /// one day, or if `start` is later.
    pub fn from_day_of(start: Timestamp, now: Timestamp, set: &FeatureSet) -> Self {
        let zone = set.zone();
        let days = (zone.day(now.millis()) - zone.day(start.millis())).max(0);
        Self::before(now, u32::try_from(days).unwrap_or(u32::MAX), set)
    }

    /// Number of days.
    pub const fn days(&self) -> i64 {
        self.end_day - self.first_day
    }
}

/// What a customer ordered in a period, net of returns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PeriodOrders {
    /// Whether an order was placed before the period.
    pub has_earlier_order: bool,
    /// Days with an order in the equally long period before.
    pub previous_order_days: u32,
    /// Days of the period with an order.
    pub order_days: u32,
    /// Value of the orders of the period, also if they were returned in part after it.
    pub value: f64,
}

impl KnownOrders {
    /// The purchase history up to the end of the day before `period`, net of all returns known now;
    /// `None` without an order by then.
    pub fn history_before(&self, period: &DayPeriod) -> Option<PurchaseHistory> {
        self.history_until(period.first_day - 1)
    }

    /// The orders in `period`. Of more than a thousand order events, those before the newest
    /// thousand have no day: they count as earlier orders only.
    pub fn in_period(&self, period: &DayPeriod) -> PeriodOrders {
        let first_day = self.first_day();
        let mut found = PeriodOrders {
            has_earlier_order: first_day.is_some_and(|day| day < period.first_day),
            ..PeriodOrders::default()
        };
        let mut value = ExactSum::default();
        for sum in self.order_days().take_while(|sum| sum.day < period.end_day) {
            if sum.day >= period.first_day {
                found.order_days += 1;
                value = value.plus(sum.value);
            } else if sum.day >= 2 * period.first_day - period.end_day {
                found.previous_order_days += 1;
            }
        }
        PeriodOrders { value: value.nearest(), ..found }
    }
}
