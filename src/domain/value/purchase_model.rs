//! The three models of future orders behind one interface.

use serde::{Deserialize, Serialize};

use crate::domain::value::beta_geometric::BetaGeometric;
use crate::domain::value::pareto_nbd::ParetoNbd;
use crate::domain::value::purchase_table::PurchaseTable;

/// A family of models of future orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseModelKind {
    BgNbd,
    MbgNbd,
    ParetoNbd,
}

/// A fitted model of future orders.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseModel {
    BetaGeometric(BetaGeometric),
    ParetoNbd(ParetoNbd),
}

impl PurchaseModelKind {
    pub const ALL: [Self; 3] = [Self::BgNbd, Self::MbgNbd, Self::ParetoNbd];

    /// Name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BgNbd => "bg_nbd",
            Self::MbgNbd => "mbg_nbd",
            Self::ParetoNbd => "pareto_nbd",
        }
    }

    /// The model of this family with these parameters.
    pub(super) const fn with_parameters(self, parameters: [f64; 4]) -> PurchaseModel {
        match self {
            Self::BgNbd => {
                PurchaseModel::BetaGeometric(BetaGeometric::from_array(parameters, false))
            }
            Self::MbgNbd => {
                PurchaseModel::BetaGeometric(BetaGeometric::from_array(parameters, true))
            }
            Self::ParetoNbd => PurchaseModel::ParetoNbd(ParetoNbd::from_array(parameters)),
        }
    }
}

impl PurchaseModel {
    pub const fn kind(&self) -> PurchaseModelKind {
        match self {
            Self::BetaGeometric(model) if model.first_order_counts => PurchaseModelKind::MbgNbd,
            Self::BetaGeometric(_) => PurchaseModelKind::BgNbd,
            Self::ParetoNbd(_) => PurchaseModelKind::ParetoNbd,
        }
    }

    /// Parameters by name.
    pub const fn parameters(&self) -> [(&'static str, f64); 4] {
        match *self {
            Self::BetaGeometric(BetaGeometric { r, alpha, a, b, .. }) => {
                [("r", r), ("alpha", alpha), ("a", a), ("b", b)]
            }
            Self::ParetoNbd(ParetoNbd { r, alpha, s, beta }) => {
                [("r", r), ("alpha", alpha), ("s", s), ("beta", beta)]
            }
        }
    }

    /// Mean log-likelihood of the customers of a table.
    pub(super) fn mean_log_likelihood(&self, table: &PurchaseTable) -> f64 {
        match self {
            Self::BetaGeometric(model) => model.mean_log_likelihood(table),
            Self::ParetoNbd(model) => model.mean_log_likelihood(table),
        }
    }

    /// Whether every parameter is above 0 and finite.
    pub(super) fn is_sound(&self) -> bool {
        self.parameters().iter().all(|(_, value)| value.is_finite() && *value > 0.0)
    }
}
