//! Golden values, and customers who order as the models say.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "days and orders of a few years"
)]

use std::collections::BTreeMap;

use segmentd::domain::feature::{PurchaseHistory, PurchaseSplit};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::value::beta_geometric::BetaGeometric;
use segmentd::domain::value::pareto_nbd::ParetoNbd;
use segmentd::domain::value::{CustomerPurchases, PurchaseModel, PurchaseModelKind, ShopOrders};
use serde::Deserialize;

/// Days of the hold-out of drawn customers.
const HOLDOUT_DAYS: u32 = 90;

#[derive(Deserialize)]
pub(super) struct Golden {
    pub(super) points: Vec<GoldenPoint>,
    pub(super) spend: Vec<GoldenSpend>,
    pub(super) lifetime: Vec<GoldenLifetime>,
    pub(super) fits: Vec<GoldenFit>,
    pub(super) gamma_gamma: GoldenGammaGamma,
}

/// A customer under a model.
#[derive(Debug, Deserialize)]
pub(super) struct GoldenCustomer {
    model: PurchaseModelKind,
    parameters: [f64; 4],
    x: u32,
    t_x: u32,
    t: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct GoldenPoint {
    #[serde(flatten)]
    pub(super) customer: GoldenCustomer,
    pub(super) alive: f64,
    /// Within 30, 90 and 365 days.
    pub(super) orders: [f64; 3],
}

#[derive(Debug, Deserialize)]
pub(super) struct GoldenSpend {
    pub(super) p: f64,
    pub(super) q: f64,
    pub(super) v: f64,
    pub(super) x: u32,
    pub(super) z: f64,
    pub(super) value: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct GoldenLifetime {
    #[serde(flatten)]
    pub(super) customer: GoldenCustomer,
    pub(super) discounted: f64,
}

#[derive(Deserialize)]
pub(super) struct GoldenFit {
    pub(super) name: String,
    /// x, `t_x`, T, customers.
    rows: Vec<[u32; 4]>,
    pub(super) fits: BTreeMap<String, BTreeMap<String, f64>>,
}

#[derive(Deserialize)]
pub(super) struct GoldenGammaGamma {
    /// Days and mean value of each customer.
    pub(super) rows: Vec<(u32, f64)>,
    pub(super) fit: BTreeMap<String, f64>,
}

/// Fits by pymc-marketing.
#[derive(Deserialize)]
pub(super) struct PymcGolden {
    pub(super) fits: Vec<PymcFit>,
    pub(super) gamma_gamma: PymcGammaGamma,
}

#[derive(Deserialize)]
pub(super) struct PymcFit {
    /// Index in [`Golden::fits`].
    pub(super) case: usize,
    pub(super) model: PurchaseModelKind,
    pub(super) parameters: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
pub(super) struct PymcGammaGamma {
    pub(super) parameters: BTreeMap<String, f64>,
}

pub(super) fn pymc_golden() -> PymcGolden {
    serde_json::from_slice(&std::fs::read("tests/data/golden/value_pymc.json").unwrap()).unwrap()
}

/// For fits beside which nothing else runs.
pub(super) fn no_pause() {}

pub(super) fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read("tests/data/golden/value.json").unwrap()).unwrap()
}

impl GoldenCustomer {
    pub(super) fn model(&self) -> PurchaseModel {
        model(self.model, self.parameters)
    }

    pub(super) fn history(&self) -> PurchaseHistory {
        history(self.x, self.t_x, self.t)
    }
}

impl GoldenFit {
    pub(super) fn histories(&self) -> Vec<PurchaseHistory> {
        let rows = self.rows.iter();
        rows.flat_map(|[x, t_x, t, n]| (0..*n).map(move |_| history(*x, *t_x, *t))).collect()
    }
}

pub(super) fn model(kind: PurchaseModelKind, [r, alpha, third, fourth]: [f64; 4]) -> PurchaseModel {
    match kind {
        PurchaseModelKind::ParetoNbd => {
            PurchaseModel::ParetoNbd(ParetoNbd { r, alpha, s: third, beta: fourth })
        }
        PurchaseModelKind::BgNbd | PurchaseModelKind::MbgNbd => {
            PurchaseModel::BetaGeometric(BetaGeometric {
                r,
                alpha,
                a: third,
                b: fourth,
                first_order_counts: kind == PurchaseModelKind::MbgNbd,
            })
        }
    }
}

/// A history without values.
pub(super) fn history(repeat_days: u32, last_day: u32, age_days: u32) -> PurchaseHistory {
    PurchaseHistory {
        repeat_days,
        last_day,
        age_days,
        valued_repeat_days: 0,
        repeat_value: 0.0,
        total_value: 0.0,
        orders: u64::from(repeat_days) + 1,
    }
}

/// Draws from a gamma distribution (Marsaglia and Tsang 2000).
pub(super) fn gamma(rng: &mut RandomStream, shape: f64, rate: f64) -> f64 {
    if shape < 1.0 {
        let power = rng.uniform_unit().powf(1.0 / shape);
        return gamma(rng, shape + 1.0, rate) * power;
    }
    let d = shape - 1.0 / 3.0;
    loop {
        let normal = (-2.0 * rng.uniform_unit().ln()).sqrt()
            * (std::f64::consts::TAU * rng.uniform_unit()).cos();
        let v = (1.0 + normal / (9.0 * d).sqrt()).powi(3);
        if v > 0.0 && rng.uniform_unit().ln() < normal * normal / 2.0 + d * (1.0 - v + v.ln()) {
            return d * v / rate;
        }
    }
}

/// A customer drawn from a model, with the days of all orders after the first one until `end`.
pub(super) fn draw_order_days(rng: &mut RandomStream, model: &PurchaseModel, end: f64) -> Vec<f64> {
    let exponential = |rng: &mut RandomStream, rate: f64| -rng.uniform_unit().ln() / rate;
    let mut days = Vec::new();
    match *model {
        PurchaseModel::BetaGeometric(BetaGeometric { r, alpha, a, b, first_order_counts }) => {
            let rate = gamma(rng, r, alpha);
            let (x, y) = (gamma(rng, a, 1.0), gamma(rng, b, 1.0));
            let leaves = x / (x + y);
            let mut day = 0.0;
            if first_order_counts && rng.uniform_unit() < leaves {
                return days;
            }
            loop {
                day += exponential(rng, rate);
                if day > end {
                    return days;
                }
                days.push(day);
                if rng.uniform_unit() < leaves {
                    return days;
                }
            }
        }
        PurchaseModel::ParetoNbd(ParetoNbd { r, alpha, s, beta }) => {
            let rate = gamma(rng, r, alpha);
            let leaving_rate = gamma(rng, s, beta);
            let until = exponential(rng, leaving_rate).min(end);
            let mut day = exponential(rng, rate);
            while day <= until {
                days.push(day);
                day += exponential(rng, rate);
            }
            days
        }
    }
}

/// Days rounded up.
fn whole_days(days: &[f64]) -> Vec<u32> {
    days.iter().map(|day| day.ceil() as u32).collect()
}

/// Customers of a model, with orders of this mean value, observed at `age` days, of which the last 90
/// are the hold-out.
pub(super) fn draw_customers(
    rng: &mut RandomStream,
    model: &PurchaseModel,
    age: u32,
    customers: usize,
) -> ShopOrders {
    let customers = (0..customers)
        .map(|customer| {
            // First orders on different days.
            let age = age - (customer % 200) as u32;
            let mut days = whole_days(&draw_order_days(rng, model, f64::from(age)));
            days.dedup();
            let shape = 4.0;
            let rate = gamma(rng, 3.5, 60.0);
            let values: Vec<f64> = days.iter().map(|_| gamma(rng, shape, rate)).collect();
            let until = |end: u32| {
                let repeats = days.iter().take_while(|day| **day <= end).count();
                PurchaseHistory {
                    valued_repeat_days: repeats as u32,
                    repeat_value: values[..repeats].iter().sum(),
                    total_value: values[..repeats].iter().sum(),
                    ..history(repeats as u32, days[..repeats].last().copied().unwrap_or(0), end)
                }
            };
            let split = age.checked_sub(HOLDOUT_DAYS).map(|end| {
                let before = until(end);
                let repeats = before.repeat_days as usize;
                PurchaseSplit {
                    before,
                    days_after: (days.len() - repeats) as u32,
                    days_before: days[..repeats]
                        .iter()
                        .filter(|day| **day + HOLDOUT_DAYS > end)
                        .count() as u32,
                    value_after: values[repeats..].iter().sum(),
                }
            });
            CustomerPurchases { history: until(age), split }
        })
        .collect();
    ShopOrders { customers, span_days: 3 * HOLDOUT_DAYS, unit: "EUR".into() }
}
