//! The value model of a trained model: future orders, order values, and how well both predicted.

use serde::{Deserialize, Serialize};

use crate::domain::value::evaluation::ValueEvaluation;
use crate::domain::value::gamma_gamma::GammaGamma;
use crate::domain::value::purchase_model::PurchaseModel;

/// Forecasts the orders and the spend of customers from their purchase histories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueModel {
    pub purchases: PurchaseModel,
    /// Covariance of the logarithms of the parameters of `purchases`; `None` if the data do not
    /// determine all of them.
    pub(super) covariance: Option<[[f64; 4]; 4]>,
    /// `None` if orders have no values, and if these were predicted badly.
    pub spend: Option<GammaGamma>,
    /// Share of the repeat days that have a value above 0, to which `spend` is fitted.
    pub(super) valued_share: f64,
    /// Unit of order values.
    pub unit: Box<str>,
    /// Customers with an order at the end of training.
    pub customers: u64,
    pub evaluation: ValueEvaluation,
}

impl ValueModel {
    /// Checks a document from elsewhere.
    pub(in crate::domain) fn is_sound(&self) -> bool {
        self.purchases.is_sound()
            && self.evaluation.is_sound()
            && (0.0..=1.0).contains(&self.valued_share)
            && self.covariance.iter().flatten().flatten().all(|entry| entry.is_finite())
            && self.spend.as_ref().is_none_or(|GammaGamma { p, q, v }| {
                [p, q, v].iter().all(|value| value.is_finite() && **value > 0.0)
            })
    }
}
