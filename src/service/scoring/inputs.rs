//! Inputs of the answering model or of the fallback: which of them a row lacks, and the values
//! that replace them.

use crate::domain::feature::{FeatureRow, FeatureValue};
use crate::service::scoring::deployment::Deployment;

/// Names that an error lists.
const MAX_LISTED: usize = 8;

/// The inputs of the scorer that a row lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InputCheck {
    /// Number of inputs without a value in the row.
    pub missing: usize,
    /// The row has no value at all. A row with values that the scorer does not read is scored:
    /// another scorer may answer at any time, and a request that was valid before must not fail
    /// then.
    pub is_empty: bool,
}

/// The value that replaces a missing input.
#[derive(Debug)]
pub(crate) struct InputDefault<'l> {
    pub feature: &'l str,
    /// Missing: the absence of the input is a value of its own.
    pub value: FeatureValue,
}

impl Deployment {
    /// Checks which inputs of the scorer the row lacks. Never allocates.
    pub(crate) fn check_inputs(&self, row: &FeatureRow) -> InputCheck {
        let missing = match &self.active {
            Some(model) => model.inputs().filter(|feature| is_missing(row, *feature)).count(),
            None => self.features.rfm().inputs().filter(|input| is_missing(row, *input)).count(),
        };
        let is_empty = || row.0.iter().all(|value| *value == FeatureValue::Missing);
        InputCheck { missing, is_empty: missing > 0 && is_empty() }
    }

    /// The values that replace the missing inputs of the row.
    pub(crate) fn input_defaults(&self, row: &FeatureRow) -> Vec<InputDefault<'_>> {
        let missing = self.inputs().filter(|feature| is_missing(row, *feature));
        let mut defaults = Vec::new();
        for feature in missing {
            let model = self.active.as_ref();
            let value = model.map_or(FeatureValue::Missing, |model| model.default_value(feature));
            defaults.push(InputDefault { feature: self.feature_name(feature), value });
        }
        defaults
    }

    /// The problem of an empty row, with the inputs of the scorer.
    pub(crate) fn empty_row_problem(&self) -> String {
        let names = self.inputs().take(MAX_LISTED);
        let mut listed: Vec<String> =
            names.map(|feature| format!("`{}`", self.feature_name(feature))).collect();
        if self.inputs().nth(MAX_LISTED).is_some() {
            listed.push("…".to_owned());
        }
        format!("has no value; send at least one of {}", listed.join(", "))
    }

    /// Indices of the features that the model reads, or the rules of the fallback.
    fn inputs(&self) -> impl Iterator<Item = usize> {
        let fallback = self.active.is_none().then(|| self.features.rfm().inputs());
        let model = self.active.iter().flat_map(|model| model.inputs());
        model.chain(fallback.into_iter().flatten())
    }

    fn feature_name(&self, feature: usize) -> &str {
        self.features.features().get(feature).map_or("", |definition| &definition.name)
    }
}

fn is_missing(row: &FeatureRow, feature: usize) -> bool {
    matches!(row.0.get(feature), None | Some(FeatureValue::Missing))
}
