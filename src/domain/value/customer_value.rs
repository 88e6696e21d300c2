//! The value of one customer: forecasts of orders and spend, with intervals.

use crate::domain::feature::PurchaseHistory;
use crate::domain::stats::NORMAL_975;
use crate::domain::stats::quadrature::gauss_legendre_10;
use crate::domain::stats::special::normal_quantile;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::domain::value::posterior::CustomerPosterior;
use crate::domain::value::value_model::ValueModel;

/// Days of the forecasts.
pub const FORECAST_DAYS: [f64; 3] = [30.0, 90.0, 365.0];
/// Days that the lifetime value covers: three years.
pub const LIFETIME_DAYS: f64 = 1_095.0;
/// Discount of the lifetime value: 10 % a year.
pub const ANNUAL_DISCOUNT_RATE: f64 = 0.1;
/// Lower and upper level of the prediction intervals, which contain 80 %.
const LEVELS: [f64; 2] = [0.1, 0.9];
const DISCOUNT_NODES: usize = 10;

/// A figure with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    pub expected: f64,
    pub low: f64,
    pub high: f64,
}

/// Forecasts that are returned with each event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueSummary {
    /// Whether the model predicted the orders of its hold-out well.
    pub is_reliable: bool,
    /// Probability that the customer has left for good.
    pub churn_probability: f64,
    /// Expected days with an order within 365 days.
    pub predicted_orders: f64,
    /// Expected spend within 365 days; `None` without a model of order values.
    pub predicted_spend: Option<f64>,
    /// The instant by which the next order has come with probability ½; `None` if that is never
    /// reached, or only after ten years.
    pub next_order_at: Option<Timestamp>,
}

/// All forecasts for one customer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CustomerValue {
    /// Whether the model predicted the orders of its hold-out well.
    pub is_reliable: bool,
    /// Probability that the customer has left for good, with a 95 % confidence interval by the
    /// uncertainty of the fit; the interval is `None` if the data do not determine all parameters.
    pub churn_probability: f64,
    pub churn_interval: Option<[f64; 2]>,
    /// Days with an order within each of [`FORECAST_DAYS`], with 80 % prediction intervals.
    pub orders: [Forecast; 3],
    /// Spend within each of [`FORECAST_DAYS`]; `None` without a model of order values.
    pub spend: Option<[Forecast; 3]>,
    /// Discounted spend within [`LIFETIME_DAYS`].
    pub lifetime_value: Option<Forecast>,
    /// Expected value of an order day.
    pub order_value: Option<f64>,
    /// The instants by which the next order has come with probabilities of 10 %, 50 % and 90 %; `None`
    /// where that is never reached, or only after ten years.
    pub next_order_at: [Option<Timestamp>; 3],
}

/// Expected orders and spend of one customer within a period. Figures of several customers add up, and
/// so do their variances: customers are independent under the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CustomerOutlook {
    /// Probability that the customer has left for good.
    pub churn_probability: f64,
    /// Days with an order.
    pub orders: PredictedSum,
    /// `None` without a model of order values.
    pub spend: Option<PredictedSum>,
}

/// Expectation and variance of a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PredictedSum {
    pub expected: f64,
    pub variance: f64,
}

impl ValueModel {
    /// Orders and spend within `days`. Allocates nothing.
    pub fn outlook(&self, history: &PurchaseHistory, days: f64) -> CustomerOutlook {
        let posterior = self.purchases.posterior(history);
        let [expected] = posterior.expected_orders([days]);
        let [_, pairs] = posterior.order_moments(days);
        let variance = (pairs + expected - expected * expected).max(0.0);
        let spend = self.order_value(history).map(|value| {
            let mean = expected * value;
            // Without a finite variance of order values, that of the orders remains.
            let variance = self
                .value_moments(history)
                .map_or(variance * value * value, |[square, product]| {
                    (expected * square + pairs * product - mean * mean).max(0.0)
                });
            PredictedSum { expected: mean, variance }
        });
        CustomerOutlook {
            churn_probability: 1.0 - posterior.probability_alive(),
            orders: PredictedSum { expected, variance },
            spend,
        }
    }

    /// The forecasts that are returned with each event. Allocates nothing.
    pub fn summarise(&self, history: &PurchaseHistory, now: Timestamp) -> ValueSummary {
        let posterior = self.purchases.posterior(history);
        let [predicted_orders] = posterior.expected_orders([FORECAST_DAYS[2]]);
        let order_value = self.order_value(history);
        let [next] = posterior.next_order_days([0.5]);
        ValueSummary {
            is_reliable: self.evaluation.is_reliable(),
            churn_probability: 1.0 - posterior.probability_alive(),
            predicted_orders,
            predicted_spend: order_value.map(|value| predicted_orders * value),
            next_order_at: next.map(|days| days_after(now, days)),
        }
    }

    /// All forecasts for a customer. Allocates nothing.
    pub fn forecast(&self, history: &PurchaseHistory, now: Timestamp) -> CustomerValue {
        let posterior = self.purchases.posterior(history);
        let figures = FORECAST_DAYS.map(|days| posterior.order_figures(days, LEVELS));
        let DiscountNodes { days, weights } = self.discount_nodes(history);
        let expected = posterior.expected_orders(days);
        let mut orders = [Forecast { expected: 0.0, low: 0.0, high: 0.0 }; 3];
        for ((order, figures), expected) in orders.iter_mut().zip(&figures).zip(expected) {
            let [low, high] = figures.quantiles;
            *order = Forecast { expected, low, high };
        }
        let order_value = self.order_value(history);
        let value_moments = self.value_moments(history);
        let spend = order_value.map(|value| {
            let mut spend = orders;
            for (spend, figures) in spend.iter_mut().zip(&figures) {
                let orders = OrderMoments {
                    expected: spend.expected,
                    none: figures.none,
                    pairs: figures.pairs,
                };
                let by_orders = [spend.low, spend.high].map(|orders| orders * value);
                let [low, high] = orders.spend_interval(value, value_moments).unwrap_or(by_orders);
                *spend = Forecast { expected: spend.expected * value, low, high };
            }
            spend
        });
        let [low, middle, high] = posterior.next_order_days([LEVELS[0], 0.5, LEVELS[1]]);
        CustomerValue {
            is_reliable: self.evaluation.is_reliable(),
            churn_probability: 1.0 - posterior.probability_alive(),
            churn_interval: self.churn_interval(&posterior),
            orders,
            spend,
            lifetime_value: order_value.map(|value| {
                let discounted: f64 =
                    expected.iter().zip(weights).map(|(orders, weight)| orders * weight).sum();
                let [none, pairs] = posterior.order_moments(LIFETIME_DAYS);
                let orders = OrderMoments { expected: expected[3], none, pairs };
                // The interval of the spend without discount, scaled.
                let factor = if orders.expected > 0.0 { discounted / orders.expected } else { 1.0 };
                let interval = orders.spend_interval(value, value_moments);
                let [low, high] = interval
                    .unwrap_or_else(|| {
                        let figures = posterior.order_figures(LIFETIME_DAYS, LEVELS);
                        figures.quantiles.map(|orders| orders * value)
                    })
                    .map(|end| end * factor);
                Forecast { expected: discounted * value, low, high }
            }),
            order_value,
            next_order_at: [low, middle, high].map(|days| days.map(|days| days_after(now, days))),
        }
    }

    /// Expected value of an order day.
    fn order_value(&self, history: &PurchaseHistory) -> Option<f64> {
        Some(self.valued_share * self.spend.as_ref()?.expected_order_value(history)?)
    }

    /// Expected square of the value of an order day, and expected product of the values of two; `None`
    /// if they are infinite.
    fn value_moments(&self, history: &PurchaseHistory) -> Option<[f64; 2]> {
        let [square, product] = self.spend.as_ref()?.second_moments(history)?;
        let share = self.valued_share;
        Some([share * square, share * share * product])
    }

    /// The 95 % confidence interval of the churn probability by the delta method, on the log odds.
    fn churn_interval(&self, posterior: &CustomerPosterior<'_>) -> Option<[f64; 2]> {
        let alive = posterior.probability_alive();
        if alive >= 1.0 {
            return Some([0.0, 0.0]);
        }
        let covariance = self.covariance.as_ref()?;
        let gradient = posterior.odds_gradient();
        let mut variance = 0.0;
        for (row, slope) in covariance.iter().zip(gradient) {
            for (entry, other) in row.iter().zip(gradient) {
                variance += slope * entry * other;
            }
        }
        let ln_odds = ((1.0 - alive) / alive).ln();
        let half = NORMAL_975 * variance.max(0.0).sqrt();
        Some([ln_odds - half, ln_odds + half].map(|ln_odds| 1.0 / (1.0 + (-ln_odds).exp())))
    }

    /// The days for which orders are expected, and their weights in the discounted orders.
    ///
    /// The discounted orders are ∫ E′(t) e^(−δt) dt = E(H) e^(−δH) + δ ∫ E(t) e^(−δt) dt over the
    /// lifetime H, with δ = ln(1 + annual rate) / 365. The integral is by Gauss–Legendre quadrature
    /// in ln(1 + t / scale), in which E is smooth.
    fn discount_nodes(&self, history: &PurchaseHistory) -> DiscountNodes {
        let force = ANNUAL_DISCOUNT_RATE.ln_1p() / FORECAST_DAYS[2];
        let scale = self.purchases.parameters()[1].1 + f64::from(history.age_days);
        let length = (LIFETIME_DAYS / scale).ln_1p();
        let mut days = [0.0; 4 + DISCOUNT_NODES];
        let mut weights = [0.0; 4 + DISCOUNT_NODES];
        days[..3].copy_from_slice(&FORECAST_DAYS);
        days[3] = LIFETIME_DAYS;
        weights[3] = (-force * LIFETIME_DAYS).exp();
        for (i, (u, weight)) in gauss_legendre_10(length).into_iter().enumerate() {
            let day = scale * (u.exp() - 1.0);
            days[4 + i] = day;
            weights[4 + i] = force * (-force * day).exp() * weight * (scale + day);
        }
        DiscountNodes { days, weights }
    }
}

/// Moments of the number of orders Y within a period.
#[derive(Clone, Copy)]
struct OrderMoments {
    expected: f64,
    /// P(Y = 0).
    none: f64,
    /// E[Y (Y − 1)].
    pairs: f64,
}

impl OrderMoments {
    /// The 80 % prediction interval of the spend in the period: that of a mixture of no order and a
    /// gamma distribution with the mean and variance of the spend of customers who order. `None` without
    /// a finite variance. `value_moments`: see [`GammaGamma::second_moments`].
    ///
    /// [`GammaGamma::second_moments`]: crate::domain::value::gamma_gamma::GammaGamma::second_moments
    fn spend_interval(self, order_value: f64, value_moments: Option<[f64; 2]>) -> Option<[f64; 2]> {
        let [square, product] = value_moments?;
        let some = 1.0 - self.none;
        if some <= 0.0 {
            return Some([0.0, 0.0]);
        }
        let mean = self.expected * order_value / some;
        let variance = (self.expected * square + self.pairs * product) / some - mean * mean;
        Some(LEVELS.map(|level| {
            let level = (level - self.none) / some;
            if level <= 0.0 { 0.0 } else { gamma_quantile(level, mean, variance) }
        }))
    }
}

struct DiscountNodes {
    days: [f64; 4 + DISCOUNT_NODES],
    weights: [f64; 4 + DISCOUNT_NODES],
}

/// Quantile of a gamma distribution with this mean and variance, by Wilson and Hilferty (1931).
fn gamma_quantile(level: f64, mean: f64, variance: f64) -> f64 {
    if variance <= 0.0 {
        return mean;
    }
    let shape = mean * mean / variance;
    let spread = 1.0 / (9.0 * shape);
    let root = 1.0 - spread + normal_quantile(level) * spread.sqrt();
    mean * root.max(0.0).powi(3)
}

fn days_after(now: Timestamp, days: f64) -> Timestamp {
    Timestamp::from_millis(now.millis() + (days * MILLIS_PER_DAY as f64) as i64)
}
