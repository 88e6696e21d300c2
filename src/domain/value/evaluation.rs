//! Hold-out evaluation of value models: fitted to the orders up to a day, compared with the orders
//! after it.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::feature::{PurchaseHistory, PurchaseSplit};
use crate::domain::stats::{mean, rank_correlation};
use crate::domain::value::fit::{self, FittedPurchases};
use crate::domain::value::gamma_gamma::GammaGamma;
use crate::domain::value::purchase_model::{PurchaseModel, PurchaseModelKind};

/// Customers on which the fits are compared: every n-th one of more.
const MOST_COMPARED: usize = 200_000;
/// Customers whose forecasts one thread evaluates at a time.
const CHUNK_CUSTOMERS: usize = 256;
/// Least repeat days of each row of the calibration table.
const CALIBRATION_GROUPS: [u32; 10] = [0, 1, 2, 3, 5, 8, 13, 21, 34, 55];
/// A total is well predicted if expected and actual differ by at most this factor.
const CALIBRATED: f64 = 1.25;
/// A mean error up to this factor above that of assuming that each customer repeats the previous period
/// is tolerated: regular customers do just that, and the assumption has no other forecasts.
const TOLERATED_ERROR: f64 = 1.1;
/// Lower bound of the logarithm of a probability.
const LEAST_LN_PROBABILITY: f64 = -700.0;
/// Fewest customers in a row of the calibration table: smaller groups are not reported.
const LEAST_REPORTED: u64 = 5;

/// How well value models predicted the hold-out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueEvaluation {
    pub holdout_days: u32,
    /// Customers compared: those with an order before the hold-out.
    pub customers: u64,
    /// Days with an order in the hold-out, of all these customers.
    pub actual_orders: u64,
    /// Every fitted family, best first.
    pub candidates: Vec<CandidateEvaluation>,
    /// Errors of the forecast that each customer repeats the previous period.
    pub same_as_before: ForecastErrors,
    /// Actual and expected orders by repeat days before the hold-out, of the best family.
    pub calibration: Vec<CalibrationRow>,
    /// Expected spend in the hold-out over actual spend; `None` without a model of order values.
    pub spend_ratio: Option<f64>,
    /// Reasons why the forecasts are not reliable; empty if they are.
    pub shortcomings: Vec<Box<str>>,
}

/// One family of models on the hold-out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateEvaluation {
    pub model: PurchaseModelKind,
    /// Mean over the customers of ln P(orders in the hold-out).
    pub mean_log_likelihood: f64,
    /// Expected orders in the hold-out, of all customers.
    pub expected_orders: f64,
    pub errors: ForecastErrors,
}

/// Errors of forecasts of orders.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastErrors {
    /// Mean absolute error, in orders.
    pub mean_absolute: f64,
    /// Spearman's correlation of forecasts and orders; `None` if either is constant.
    pub rank_correlation: Option<f64>,
}

/// Customers with about equally many repeat days before the hold-out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationRow {
    /// From this number on, up to the next row.
    pub repeat_days: u32,
    pub customers: u64,
    /// Mean orders in the hold-out.
    pub actual: f64,
    pub expected: f64,
}

/// Forecasts of one family for the compared customers.
struct HoldoutForecasts {
    evaluation: CandidateEvaluation,
    expected: Vec<f64>,
}

impl ValueEvaluation {
    pub fn is_reliable(&self) -> bool {
        self.shortcomings.is_empty()
    }

    /// Fits every family to the histories before the hold-out, and compares their forecasts with the
    /// orders in it.
    pub(super) fn compare(splits: &[PurchaseSplit], holdout_days: u32, pause: fn()) -> Self {
        let histories: Vec<PurchaseHistory> = splits.iter().map(|split| split.before).collect();
        let every = splits.len().div_ceil(MOST_COMPARED).max(1);
        let compared: Vec<PurchaseSplit> = splits.iter().step_by(every).copied().collect();
        let actual: Vec<f64> = compared.iter().map(|split| f64::from(split.days_after)).collect();
        let mut forecasts: Vec<HoldoutForecasts> = PurchaseModelKind::ALL
            .into_iter()
            .map(|kind| {
                let fitted = fit::fit_purchases(kind, &histories, pause);
                HoldoutForecasts::measure(&fitted, &compared, holdout_days, pause)
            })
            .filter(|forecasts| forecasts.evaluation.is_finite())
            .collect();
        // Calibrated families first, then by likelihood; of equal ones the simpler comes first.
        let actual_orders: f64 = actual.iter().sum();
        forecasts.sort_by(|a, b| {
            let (a, b) = (&a.evaluation, &b.evaluation);
            let by_total = b.is_calibrated(actual_orders).cmp(&a.is_calibrated(actual_orders));
            by_total.then(b.mean_log_likelihood.total_cmp(&a.mean_log_likelihood))
        });
        let before: Vec<f64> = compared.iter().map(|split| f64::from(split.days_before)).collect();
        let expected = forecasts.first().map(|best| best.expected.as_slice()).unwrap_or_default();
        let spend = fit::fit_spend(&histories, pause);
        let mut evaluation = Self {
            holdout_days,
            customers: compared.len() as u64,
            actual_orders: compared.iter().map(|split| u64::from(split.days_after)).sum(),
            candidates: forecasts.iter().map(|one| one.evaluation).collect(),
            same_as_before: ForecastErrors::measure(&before, &actual),
            calibration: calibration(&compared, expected),
            spend_ratio: spend.and_then(|spend| spend_ratio(&spend, &compared, expected)),
            shortcomings: Vec::new(),
        };
        evaluation.shortcomings = evaluation.find_shortcomings();
        evaluation
    }

    pub(super) fn is_sound(&self) -> bool {
        let calibration = &self.calibration;
        self.candidates.iter().all(CandidateEvaluation::is_finite)
            && self.same_as_before.mean_absolute.is_finite()
            && calibration.iter().all(|row| row.actual.is_finite() && row.expected.is_finite())
            && self.spend_ratio.is_none_or(f64::is_finite)
    }

    /// Whether the spend in the hold-out was well predicted.
    pub(super) fn is_spend_calibrated(&self) -> bool {
        self.spend_ratio.is_some_and(is_close_to_one)
    }

    fn find_shortcomings(&self) -> Vec<Box<str>> {
        let mut found: Vec<Box<str>> = Vec::new();
        let Some(best) = self.candidates.first() else {
            return vec!["no model could be fitted".into()];
        };
        if !best.is_calibrated(self.actual_orders as f64) {
            found.push(
                format!(
                    "{:.0} orders were expected in the last {} days, and {} came",
                    best.expected_orders, self.holdout_days, self.actual_orders
                )
                .into(),
            );
        }
        if best.errors.mean_absolute > TOLERATED_ERROR * self.same_as_before.mean_absolute {
            found.push(
                format!(
                    "the mean error of {:.3} orders is more than a tenth above {:.3}, the one of \
                     assuming that each customer repeats the previous {} days",
                    best.errors.mean_absolute, self.same_as_before.mean_absolute, self.holdout_days
                )
                .into(),
            );
        }
        if best.errors.rank_correlation.is_none_or(|correlation| correlation <= 0.0) {
            found.push("customers with higher forecasts did not order more".into());
        }
        found
    }
}

impl CandidateEvaluation {
    fn is_finite(&self) -> bool {
        let figures = [self.mean_log_likelihood, self.expected_orders, self.errors.mean_absolute];
        figures.iter().all(|figure| figure.is_finite())
    }

    /// Whether the expected orders of all customers are about as many as came.
    fn is_calibrated(&self, actual_orders: f64) -> bool {
        is_close_to_one(self.expected_orders / actual_orders.max(1.0))
    }
}

fn is_close_to_one(ratio: f64) -> bool {
    (1.0 / CALIBRATED..=CALIBRATED).contains(&ratio)
}

impl HoldoutForecasts {
    fn measure(
        fitted: &FittedPurchases,
        compared: &[PurchaseSplit],
        holdout_days: u32,
        pause: fn(),
    ) -> Self {
        let model = &fitted.model;
        let (expected, likelihoods): (Vec<f64>, Vec<f64>) = compared
            .par_chunks(CHUNK_CUSTOMERS)
            .flat_map(|splits| {
                pause();
                let forecasts = splits.iter().map(|split| forecast(model, split, holdout_days));
                forecasts.collect::<Vec<(f64, f64)>>()
            })
            .unzip();
        let actual: Vec<f64> = compared.iter().map(|split| f64::from(split.days_after)).collect();
        let evaluation = CandidateEvaluation {
            model: model.kind(),
            mean_log_likelihood: mean(&likelihoods),
            expected_orders: expected.iter().sum(),
            errors: ForecastErrors::measure(&expected, &actual),
        };
        Self { evaluation, expected }
    }
}

/// Expected orders of a customer in the hold-out, and ln P(the orders that came).
fn forecast(model: &PurchaseModel, split: &PurchaseSplit, holdout_days: u32) -> (f64, f64) {
    let days = f64::from(holdout_days);
    let posterior = model.posterior(&split.before);
    let [expected] = posterior.expected_orders([days]);
    // Bounded, so that one customer with a probability of 0 does not exclude the family.
    let probability = posterior.order_probability(days, split.days_after);
    (expected, probability.ln().max(LEAST_LN_PROBABILITY))
}

impl ForecastErrors {
    fn measure(forecasts: &[f64], actual: &[f64]) -> Self {
        let errors: Vec<f64> = forecasts
            .iter()
            .zip(actual)
            .map(|(forecast, actual)| (forecast - actual).abs())
            .collect();
        Self { mean_absolute: mean(&errors), rank_correlation: rank_correlation(forecasts, actual) }
    }
}

/// Actual and expected orders by repeat days, for groups that are large enough to be reported.
fn calibration(compared: &[PurchaseSplit], expected: &[f64]) -> Vec<CalibrationRow> {
    let mut rows = CALIBRATION_GROUPS.map(|repeat_days| CalibrationRow {
        repeat_days,
        customers: 0,
        actual: 0.0,
        expected: 0.0,
    });
    for (split, expected) in compared.iter().zip(expected) {
        let above = CALIBRATION_GROUPS.partition_point(|least| *least <= split.before.repeat_days);
        let row = &mut rows[above - 1];
        row.customers += 1;
        row.actual += f64::from(split.days_after);
        row.expected += expected;
    }
    let mut reported = rows.to_vec();
    reported.retain(|row| row.customers >= LEAST_REPORTED);
    for row in &mut reported {
        row.actual /= row.customers as f64;
        row.expected /= row.customers as f64;
    }
    reported
}

/// Expected over actual spend in the hold-out.
fn spend_ratio(spend: &GammaGamma, compared: &[PurchaseSplit], orders: &[f64]) -> Option<f64> {
    let (mut expected, mut actual) = (0.0, 0.0);
    for (split, orders) in compared.iter().zip(orders) {
        if let Some(value) = spend.expected_order_value(&split.before) {
            expected += orders * value;
            actual += split.value_after;
        }
    }
    let ratio = expected / actual;
    ratio.is_finite().then_some(ratio)
}
