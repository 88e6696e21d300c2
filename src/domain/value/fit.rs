//! Maximum-likelihood fits of the value models.

use ndarray::Array2;

use crate::domain::feature::PurchaseHistory;
use crate::domain::stats::maximise::{Maximum, maximise};
use crate::domain::stats::{mean, symmetric};
use crate::domain::value::gamma_gamma::{GammaGamma, SpendRow};
use crate::domain::value::purchase_model::{PurchaseModel, PurchaseModelKind};
use crate::domain::value::purchase_table::PurchaseTable;

/// Bounds of the logarithms of parameters: 1/22,026 to 22,026. Beyond them, customers are practically
/// all alike, or no customer ever leaves.
const LN_BOUNDS: [f64; 2] = [-10.0, 10.0];
/// A fit starts on about this many customers; their optimum is close to that of all.
const FIRST_CUSTOMERS: usize = 20_000;

/// A fitted model of future orders.
#[derive(Debug, Clone, Copy)]
pub struct FittedPurchases {
    pub model: PurchaseModel,
    /// Covariance of the logarithms of the parameters; `None` if the data do not determine all of
    /// them.
    pub covariance: Option<[[f64; 4]; 4]>,
}

/// Fits a model of future orders. Histories must not be empty. Working threads call `pause` between
/// pieces of work of well under a millisecond.
pub fn fit_purchases(
    kind: PurchaseModelKind,
    histories: &[PurchaseHistory],
    pause: fn(),
) -> FittedPurchases {
    let mut start = first_parameters(kind, histories);
    let every = histories.len().div_ceil(FIRST_CUSTOMERS);
    if every > 1 {
        let first = PurchaseTable::new(histories.iter().step_by(every).copied(), pause);
        start = maximise_likelihood(kind, &first, start).at;
    }
    let all = PurchaseTable::new(histories.iter().copied(), pause);
    let best = maximise_likelihood(kind, &all, start);
    FittedPurchases {
        model: kind.with_parameters(best.at.map(f64::exp)),
        covariance: covariance(&best, histories.len()),
    }
}

fn maximise_likelihood(
    kind: PurchaseModelKind,
    table: &PurchaseTable,
    start: [f64; 4],
) -> Maximum<4> {
    let likelihood =
        |ln: &[f64; 4]| kind.with_parameters(ln.map(f64::exp)).mean_log_likelihood(table);
    maximise(likelihood, start, LN_BOUNDS)
}

/// Logarithms of plausible parameters: the mean rate of orders, and one customer in three who leaves
/// after an order, or within the mean age.
fn first_parameters(kind: PurchaseModelKind, histories: &[PurchaseHistory]) -> [f64; 4] {
    let orders: f64 = histories.iter().map(|one| f64::from(one.repeat_days)).sum();
    let days: f64 = histories.iter().map(|one| f64::from(one.age_days)).sum();
    let days_between = days.max(1.0) / orders.max(1.0);
    let parameters = match kind {
        PurchaseModelKind::BgNbd | PurchaseModelKind::MbgNbd => [0.5, 0.5 * days_between, 1.0, 2.0],
        PurchaseModelKind::ParetoNbd => {
            [0.5, 0.5 * days_between, 0.5, days.max(1.0) / histories.len().max(1) as f64]
        }
    };
    parameters.map(f64::ln)
}

/// Inverse of the observed information; a parameter at a bound is taken as known.
fn covariance(best: &Maximum<4>, customers: usize) -> Option<[[f64; 4]; 4]> {
    let free: Vec<usize> = (0..4).filter(|i| !best.is_bound[*i]).collect();
    let information = Array2::from_shape_fn((free.len(), free.len()), |(i, j)| {
        -best.hessian[free[i]][free[j]] * customers as f64
    });
    let inverse = symmetric::invert_positive_definite(&information)?;
    let mut covariance = [[0.0; 4]; 4];
    for ((i, j), entry) in inverse.indexed_iter() {
        covariance[free[i]][free[j]] = *entry;
    }
    Some(covariance)
}

/// Fits the model of order values; `None` without a customer with a valued repeat day.
pub fn fit_spend(histories: &[PurchaseHistory], pause: fn()) -> Option<GammaGamma> {
    let rows: Vec<SpendRow> = histories.iter().filter_map(SpendRow::of).collect();
    if rows.is_empty() {
        return None;
    }
    // In units of the mean value, parameters are of the order of 1.
    let unit = mean(&rows.iter().map(SpendRow::mean).collect::<Vec<f64>>());
    let rows: Vec<SpendRow> = rows.into_iter().map(|row| row.scaled(unit)).collect();
    // Mean order value p v / (q − 1) of 1.
    let mut start = [2.0_f64, 3.0, 1.0].map(f64::ln);
    let every = rows.len().div_ceil(FIRST_CUSTOMERS);
    if every > 1 {
        let first: Vec<SpendRow> = rows.iter().step_by(every).copied().collect();
        start = maximise_spend_likelihood(&first, start, pause).at;
    }
    let best = maximise_spend_likelihood(&rows, start, pause);
    let [p, q, v] = best.at.map(f64::exp);
    Some(GammaGamma { p, q, v: v * unit })
}

fn maximise_spend_likelihood(rows: &[SpendRow], start: [f64; 3], pause: fn()) -> Maximum<3> {
    let likelihood =
        |ln: &[f64; 3]| GammaGamma::from_array(ln.map(f64::exp)).mean_log_likelihood(rows, pause);
    maximise(likelihood, start, LN_BOUNDS)
}
