//! BG/NBD and MBG/NBD: orders as a Poisson process until a customer leaves after an order.
//!
//! While active, a customer orders at random with a rate from a gamma distribution (shape `r`, rate
//! `alpha`). After an order, the customer leaves with a probability from a beta distribution (`a`,
//! `b`). In BG/NBD (Fader, Hardie and Lee 2005, *"Counting your customers" the easy way*) the first
//! order is no such occasion, so a customer with one order is alive for certain. In MBG/NBD (Batislam,
//! Denizel and Filiztekin 2007) it is.
//!
//! Given that a customer is alive, rate and leaving probability are independent, with a gamma and a beta
//! distribution again. All forecasts follow from these two.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use crate::domain::feature::PurchaseHistory;
use crate::domain::stats::special::ln_1p_exp;
use crate::domain::value::future_orders::FutureOrders;
use crate::domain::value::order_counts::OrderCounts;
use crate::domain::value::purchase_table::{PurchaseTable, RowTerms};

/// Parameters of a BG/NBD or MBG/NBD model; all above 0. Times are in days.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BetaGeometric {
    pub r: f64,
    pub alpha: f64,
    pub a: f64,
    pub b: f64,
    /// Whether a customer may leave after the first order: MBG/NBD.
    pub first_order_counts: bool,
}

impl BetaGeometric {
    pub(super) const fn from_array([r, alpha, a, b]: [f64; 4], first_order_counts: bool) -> Self {
        Self { r, alpha, a, b, first_order_counts }
    }

    /// The second parameter of the beta distribution for an active customer: each order after which
    /// the customer stayed adds 1.
    fn stayed(&self, repeat_days: u32) -> f64 {
        self.b + f64::from(repeat_days) + f64::from(u8::from(self.first_order_counts))
    }

    /// ln of the odds that a customer has left.
    fn ln_odds_left(&self, history: &PurchaseHistory) -> f64 {
        if history.repeat_days == 0 && !self.first_order_counts {
            return f64::NEG_INFINITY;
        }
        let silence = ((self.alpha + f64::from(history.age_days))
            / (self.alpha + f64::from(history.last_day)))
        .ln();
        self.a.ln() - (self.stayed(history.repeat_days) - 1.0).ln()
            + (self.r + f64::from(history.repeat_days)) * silence
    }

    /// Probability that the customer has not left.
    pub fn probability_alive(&self, history: &PurchaseHistory) -> f64 {
        1.0 / (1.0 + self.ln_odds_left(history).exp())
    }

    /// Gradient of the log odds that the customer has left, by the logarithms of r, alpha, a and b.
    pub(super) fn odds_gradient(&self, history: &PurchaseHistory) -> [f64; 4] {
        let (age, last) = (f64::from(history.age_days), f64::from(history.last_day));
        let (at_age, at_last) = (self.alpha + age, self.alpha + last);
        let orders = self.r + f64::from(history.repeat_days);
        [
            self.r * (at_age / at_last).ln(),
            orders * self.alpha * (1.0 / at_age - 1.0 / at_last),
            1.0,
            -self.b / (self.stayed(history.repeat_days) - 1.0),
        ]
    }

    /// The orders of an active customer from now on.
    pub(super) fn future_orders(&self, history: &PurchaseHistory) -> FutureOrders {
        FutureOrders {
            shape: self.r + f64::from(history.repeat_days),
            rate: self.alpha + f64::from(history.age_days),
            a: self.a,
            b: self.stayed(history.repeat_days),
        }
    }

    /// Distribution of these orders within some days.
    pub(super) fn order_counts(future: &FutureOrders, days: f64) -> OrderCounts<1> {
        OrderCounts {
            shape: future.shape,
            rate: future.rate,
            times: [days],
            weights: [1.0],
            leaving: Some([future.a, future.b]),
        }
    }

    /// Mean log-likelihood of a customer in the table.
    pub(super) fn mean_log_likelihood(&self, table: &PurchaseTable) -> f64 {
        let Self { r, alpha, a, b, .. } = *self;
        let ln_time = table.by_day(|day| (alpha + day).ln());
        let constant = r * alpha.ln() - ln_gamma(r) + ln_gamma(a + b) - ln_gamma(b);
        let terms: Vec<OrderTerms> = table.by_repeat_days(|repeat_days| {
            let (x, stayed) = (f64::from(repeat_days), self.stayed(repeat_days));
            let may_have_left = repeat_days > 0 || self.first_order_counts;
            OrderTerms {
                orders: r + x,
                alive: constant + ln_gamma(r + x) + ln_gamma(stayed) - ln_gamma(a + stayed),
                ln_odds_left: if may_have_left {
                    a.ln() - (stayed - 1.0).ln()
                } else {
                    f64::NEG_INFINITY
                },
            }
        });
        table.mean(|RowTerms { frequency, last_day, age_days, .. }| {
            let OrderTerms { orders, alive, ln_odds_left } = terms[frequency];
            let (ln_last, ln_age) = (ln_time[last_day], ln_time[age_days]);
            let ln_odds_left = ln_odds_left + orders * (ln_age - ln_last);
            alive - orders * ln_age + ln_1p_exp(ln_odds_left)
        })
    }
}

/// Terms of the log-likelihood that depend on the number of orders only.
struct OrderTerms {
    orders: f64,
    alive: f64,
    ln_odds_left: f64,
}
