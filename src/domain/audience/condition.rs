//! Conditions: expressions with resolved names, and their evaluation.

use crate::domain::audience::syntax::Comparison;
use crate::domain::feature::{FeatureRow, FeatureValue};
use crate::domain::value::ValueSummary;

/// What the rules of one customer read.
#[derive(Debug, Clone, Copy)]
pub struct AudienceInputs<'a> {
    pub row: &'a FeatureRow,
    /// The segment after hysteresis.
    pub segment_id: &'a str,
    /// From 0 to 1; `None` for the rule-based fallback, as is the p-value.
    pub confidence: Option<f32>,
    pub p_value: Option<f64>,
    pub is_outlier: bool,
    /// `None` without a model of customer value, and without an order.
    pub value: Option<&'a ValueSummary>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Not(Box<Self>),
    Number {
        operand: NumberOperand,
        comparison: Comparison,
        bound: f64,
    },
    NumberIn {
        operand: NumberOperand,
        values: Box<[f64]>,
        is_negated: bool,
    },
    TextIn {
        operand: TextOperand,
        values: Box<[Box<str>]>,
        is_negated: bool,
    },
    NumberMissing(NumberOperand),
    TextMissing(TextOperand),
    Outlier,
    /// The value model predicted its hold-out well.
    ReliableValue,
    /// Membership in the audience with this index in the order of evaluation.
    Audience(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberOperand {
    /// By index in the feature set.
    Feature(usize),
    Confidence,
    PValue,
    Value(ValueFigure),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueFigure {
    ChurnProbability,
    PredictedOrders,
    PredictedSpend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextOperand {
    /// By index in the feature set.
    Feature(usize),
    SegmentId,
}

impl ValueFigure {
    pub(super) const ALL: [Self; 3] =
        [Self::ChurnProbability, Self::PredictedOrders, Self::PredictedSpend];

    pub(super) fn read(self, value: &ValueSummary) -> Option<f64> {
        match self {
            Self::ChurnProbability => Some(value.churn_probability),
            Self::PredictedOrders => Some(value.predicted_orders),
            Self::PredictedSpend => value.predicted_spend,
        }
    }
}

impl NumberOperand {
    fn read(self, inputs: &AudienceInputs<'_>) -> Option<f64> {
        match self {
            Self::Feature(index) => match inputs.row.0.get(index) {
                Some(FeatureValue::Number(value)) => Some(*value),
                _ => None,
            },
            Self::Confidence => inputs.confidence.map(f64::from),
            Self::PValue => inputs.p_value,
            Self::Value(figure) => figure.read(inputs.value?),
        }
    }
}

impl TextOperand {
    fn read<'a>(self, inputs: &AudienceInputs<'a>) -> Option<&'a str> {
        match self {
            Self::Feature(index) => match inputs.row.0.get(index) {
                Some(FeatureValue::Category(text)) => Some(text),
                _ => None,
            },
            Self::SegmentId => Some(inputs.segment_id),
        }
    }
}

impl Condition {
    /// Evaluates the condition. `members`: whether the customer is in each audience that is
    /// evaluated earlier.
    pub(super) fn holds(&self, inputs: &AudienceInputs<'_>, members: &[bool]) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(inputs, members)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(inputs, members)),
            Self::Not(part) => !part.holds(inputs, members),
            Self::Number { operand, comparison, bound } => {
                operand.read(inputs).is_some_and(|value| comparison.holds(value, *bound))
            }
            Self::NumberIn { operand, values, is_negated } => {
                operand.read(inputs).is_some_and(|value| values.contains(&value) != *is_negated)
            }
            Self::TextIn { operand, values, is_negated } => operand
                .read(inputs)
                .is_some_and(|text| values.iter().any(|value| **value == *text) != *is_negated),
            Self::NumberMissing(operand) => operand.read(inputs).is_none(),
            Self::TextMissing(operand) => operand.read(inputs).is_none(),
            Self::Outlier => inputs.is_outlier,
            Self::ReliableValue => inputs.value.is_some_and(|value| value.is_reliable),
            Self::Audience(index) => members.get(*index).copied().unwrap_or(false),
        }
    }

    /// Calls `visit` with every condition without parts.
    pub(super) fn for_each_leaf(&self, visit: &mut impl FnMut(&Self)) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.for_each_leaf(visit);
                }
            }
            Self::Not(part) => part.for_each_leaf(visit),
            leaf => visit(leaf),
        }
    }

    /// The feature that a condition without parts reads, if any.
    pub(super) fn feature(&self) -> Option<usize> {
        match self {
            Self::Number { operand: NumberOperand::Feature(index), .. }
            | Self::NumberIn { operand: NumberOperand::Feature(index), .. }
            | Self::NumberMissing(NumberOperand::Feature(index))
            | Self::TextIn { operand: TextOperand::Feature(index), .. }
            | Self::TextMissing(TextOperand::Feature(index)) => Some(*index),
            _ => None,
        }
    }

    /// The numbers at which a condition without parts may change.
    pub(super) fn thresholds(&self) -> impl Iterator<Item = (NumberOperand, f64)> {
        let (operand, values) = match self {
            Self::Number { operand, bound, .. } => (Some(*operand), std::slice::from_ref(bound)),
            Self::NumberIn { operand, values, .. } => (Some(*operand), &**values),
            _ => (None, &[][..]),
        };
        operand
            .into_iter()
            .flat_map(move |operand| values.iter().map(move |value| (operand, *value)))
    }

    /// Whether a condition without parts reads forecasts of customer value.
    pub(super) fn reads_value(&self) -> bool {
        match self {
            Self::Number { operand, .. }
            | Self::NumberIn { operand, .. }
            | Self::NumberMissing(operand) => matches!(operand, NumberOperand::Value(_)),
            Self::ReliableValue => true,
            _ => false,
        }
    }
}
