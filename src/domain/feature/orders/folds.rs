//! Folds over net orders.

use crate::domain::feature::FeatureValue;
use crate::domain::feature::exact::ExactSum;
use crate::domain::feature::orders::net::{NetOrder, NetOrders};
use crate::domain::feature::orders::unidentified::OrderTotals;
use crate::domain::feature::window::TimeWindow;
use crate::domain::feature::zone::LocalInstant;
use crate::domain::time::Timestamp;

/// A fold over the net orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::feature) struct OrderFold {
    pub(in crate::domain::feature) aggregate: OrderAggregate,
    /// Leaves the customer's first order out.
    pub(in crate::domain::feature) skip_first: bool,
}

/// What a fold computes of orders. Sum, mean, min and max read orders with a value above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::feature) enum OrderAggregate {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    Recency,
    Tenure,
    MeanGap,
}

impl OrderAggregate {
    /// The name of the fold in a features file.
    pub(in crate::domain::feature) const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Recency => "recency",
            Self::Tenure => "tenure",
            Self::MeanGap => "mean-gap",
        }
    }
}

/// The orders of one window.
struct OrdersInWindow<'o> {
    orders: &'o [NetOrder],
    days: &'o [(i64, OrderTotals)],
    window: TimeWindow,
    today: i64,
    /// Number and value of the settled orders, in a window over the whole past.
    settled_count: f64,
    settled_value: ExactSum,
    /// Values of returns that found no order, in a window over the whole past.
    returned: ExactSum,
    settled_first_millis: Option<i64>,
}

impl NetOrders {
    /// The value of a fold at an instant.
    pub(in crate::domain::feature) fn value(
        &self,
        fold: OrderFold,
        window: TimeWindow,
        now: LocalInstant,
    ) -> FeatureValue {
        let part = self.within(fold, window, now);
        match fold.aggregate {
            OrderAggregate::Count => FeatureValue::number(part.count()),
            OrderAggregate::Sum => FeatureValue::number(part.sum()),
            OrderAggregate::Mean => FeatureValue::number(part.sum() / part.count_valued()),
            OrderAggregate::Min => extreme(part.values().min_by(f64::total_cmp)),
            OrderAggregate::Max => extreme(part.values().max_by(f64::total_cmp)),
            OrderAggregate::Recency => {
                extreme(part.last_millis().map(|newest| days_between(newest, now.millis)))
            }
            OrderAggregate::Tenure => {
                extreme(part.first_millis().map(|first| days_between(first, now.millis)))
            }
            OrderAggregate::MeanGap => part.mean_gap(),
        }
    }

    fn within(&self, fold: OrderFold, window: TimeWindow, now: LocalInstant) -> OrdersInWindow<'_> {
        // The customer's first order is never in a day's totals.
        let own_first = self.orders.first().map(|order| order.millis);
        let first =
            self.settled.first.filter(|first| own_first.is_none_or(|own| first.millis <= own));
        let skips_settled = fold.skip_first && first.is_some();
        let skips_own = usize::from(fold.skip_first && first.is_none());
        let mut orders = self.orders.get(skips_own..).unwrap_or_default();
        if let Some(length) = window.length_days() {
            let begin = orders.partition_point(|order| now.day - order.day >= length);
            orders = &orders[begin..];
            let begin = self.days.partition_point(|(day, _)| now.day - day >= length);
            return OrdersInWindow {
                orders,
                days: &self.days[begin..],
                window,
                today: now.day,
                settled_count: 0.0,
                settled_value: ExactSum::default(),
                returned: ExactSum::default(),
                settled_first_millis: None,
            };
        }
        let mut settled = self.settled;
        if skips_settled {
            settled.placed = settled.placed.saturating_sub(1);
            settled.value = settled.value.minus(first.map_or_else(ExactSum::default, |f| f.value));
        }
        OrdersInWindow {
            orders,
            days: &self.days,
            window,
            today: now.day,
            settled_count: settled.count().saturating_add(self.settled_days.count) as f64,
            settled_value: settled.net_value().plus(self.settled_days.value),
            returned: self.settled_days.returned,
            settled_first_millis: self.settled.first.map(|first| first.millis),
        }
    }
}

impl OrdersInWindow<'_> {
    fn weight(&self, day: i64) -> f64 {
        // The clock of a zone may show the day before once more.
        self.window.weight((self.today - day).max(0))
    }

    fn count(&self) -> f64 {
        let count = self.days.iter().fold(self.settled_count, |sum, (day, totals)| {
            sum + self.weight(*day) * totals.count as f64
        });
        self.orders.iter().fold(count, |sum, order| sum + self.weight(order.day))
    }

    /// Weighted number of the orders with a value above 0.
    fn count_valued(&self) -> f64 {
        let count = self.days.iter().fold(self.settled_count, |sum, (day, totals)| {
            sum + self.weight(*day) * totals.valued as f64
        });
        let valued = self.orders.iter().filter(|order| order.amount().is_some());
        valued.fold(count, |sum, order| sum + self.weight(order.day))
    }

    fn sum(&self) -> f64 {
        if let TimeWindow::HalfLifeDays(_) = self.window {
            let single = |order: &NetOrder| Some(order.amount()? * self.weight(order.day));
            let several = self.days.iter();
            let several = several.map(|(day, totals)| totals.value.nearest() * self.weight(*day));
            return self.orders.iter().filter_map(single).chain(several).sum();
        }
        let values = self.orders.iter().filter_map(|order| order.value);
        let values = values.chain(self.days.iter().map(|(_, totals)| totals.value));
        let sum = values.fold(self.settled_value, ExactSum::plus).minus(self.returned);
        if sum.is_positive() { sum.nearest() } else { 0.0 }
    }

    /// The values above 0, or of a day with several orders the least and the greatest.
    fn values(&self) -> impl Iterator<Item = f64> {
        let extremes = self.days.iter().filter_map(|(_, totals)| totals.extremes);
        let extremes = extremes.flat_map(|(least, greatest)| [least.nearest(), greatest.nearest()]);
        self.orders.iter().filter_map(NetOrder::amount).chain(extremes)
    }

    fn first_millis(&self) -> Option<i64> {
        let single = self.orders.first().map(|order| order.millis);
        let several = self.days.first().map(|(_, totals)| totals.first_millis);
        self.settled_first_millis.into_iter().chain(single).chain(several).min()
    }

    fn last_millis(&self) -> Option<i64> {
        let single = self.orders.last().map(|order| order.millis);
        let several = self.days.last().map(|(_, totals)| totals.last_millis);
        single.max(several)
    }

    fn mean_gap(&self) -> FeatureValue {
        let several: u64 = self.days.iter().map(|(_, totals)| totals.count).sum();
        let count = self.settled_count + self.orders.len() as f64 + several as f64;
        match (self.first_millis(), self.last_millis()) {
            (Some(first), Some(last)) if count > 1.0 => {
                FeatureValue::number(days_between(first, last) / (count - 1.0))
            }
            _ => FeatureValue::Missing,
        }
    }
}

impl NetOrder {
    /// The value if it is above 0.
    fn amount(&self) -> Option<f64> {
        self.value.filter(|value| value.is_positive()).map(ExactSum::nearest)
    }
}

fn days_between(from: i64, until: i64) -> f64 {
    Timestamp::from_millis(until).days_since(Timestamp::from_millis(from))
}

fn extreme(value: Option<f64>) -> FeatureValue {
    value.map_or(FeatureValue::Missing, FeatureValue::number)
}
