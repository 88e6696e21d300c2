//! Selection of features and rows for a training run, with reasons.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{FeatureDefinition, FeatureValue};

/// An included or excluded feature, with the reason shown to readers of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureChoice {
    pub feature: Box<str>,
    pub reason: Box<str>,
}

/// Row filter on one feature. A row without a value for it does not pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowFilter {
    pub feature: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// For categorical features.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub one_of: BTreeSet<Box<str>>,
    pub reason: Box<str>,
}

impl FeatureChoice {
    pub(crate) fn check(&self, path: &str, faults: &mut ValidationFaults) {
        check_reason(path, &self.reason, faults);
    }
}

impl RowFilter {
    pub(crate) fn check(&self, path: &str, faults: &mut ValidationFaults) {
        check_reason(path, &self.reason, faults);
        let numeric = self.at_least.is_some() || self.at_most.is_some();
        if numeric != self.one_of.is_empty() {
            let problem = "needs either `at_least` or `at_most` (or both), or `one_of`";
            faults.push(ValidationFault::new(path, problem));
        }
        if let (Some(least), Some(most)) = (self.at_least, self.at_most)
            && least > most
        {
            let problem = format!("`at_least` is {least}, above `at_most`, which is {most}");
            faults.push(ValidationFault::new(path, problem));
        }
    }

    /// Whether a row with this value passes the filter.
    pub(crate) fn admits(&self, value: &FeatureValue) -> bool {
        match value {
            FeatureValue::Missing => false,
            FeatureValue::Number(number) => {
                self.one_of.is_empty()
                    && self.at_least.is_none_or(|least| *number >= least)
                    && self.at_most.is_none_or(|most| *number <= most)
            }
            FeatureValue::Category(category) => self.one_of.contains(category),
        }
    }
}

fn check_reason(path: &str, reason: &str, faults: &mut ValidationFaults) {
    if reason.trim().is_empty() {
        let problem = "must not be empty; it is stored with the run";
        faults.push(ValidationFault::new(format!("{path}.reason"), problem));
    }
}

/// The definitions for encoding: deselected features lose their encoding.
pub(crate) fn selected(
    defs: &[FeatureDefinition],
    include: &[FeatureChoice],
    exclude: &[FeatureChoice],
) -> Vec<FeatureDefinition> {
    let mut defs = defs.to_vec();
    for def in &mut defs {
        let is_included = include.is_empty() || is_named(include, def);
        if !is_included || is_named(exclude, def) {
            def.encoding = None;
        }
    }
    defs
}

fn is_named(choices: &[FeatureChoice], def: &FeatureDefinition) -> bool {
    choices.iter().any(|choice| choice.feature == def.name)
}
