//! Name resolution and type check: from a syntax tree to a condition.

use std::collections::BTreeMap;

use crate::domain::audience::condition::{Condition, NumberOperand, TextOperand, ValueFigure};
use crate::domain::audience::syntax::{
    Comparison, Expression, ExpressionFault, Literal, LiteralValue, Name,
};
use crate::domain::feature::{FeatureSet, Sensitivity, ValueType};
use crate::domain::nearest::nearest_name;

const FEATURES: &str = "features.";
const AUDIENCES: &str = "audiences.";

/// The names that an expression may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vocabulary<'a> {
    pub(super) features: &'a FeatureSet,
    /// Index in the order of evaluation, by name.
    pub(super) audiences: &'a BTreeMap<&'a str, usize>,
}

/// What a name stands for.
enum Operand {
    Number { operand: NumberOperand, unit: Option<Box<str>> },
    Text(TextOperand),
    Flag(Condition),
}

impl Operand {
    fn unitless(operand: NumberOperand) -> Self {
        Self::Number { operand, unit: None }
    }
}

/// The audiences that an expression names.
pub(super) fn referenced_audiences(expression: &Expression) -> Vec<&str> {
    let mut names = Vec::new();
    for_each_name(expression, &mut |name| names.extend(name.path.strip_prefix(AUDIENCES)));
    names
}

/// The segment ids in an expression, with their positions.
pub(super) fn segment_literals(expression: &Expression) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    collect_segments(expression, &mut found);
    found
}

fn collect_segments<'e>(expression: &'e Expression, found: &mut Vec<(usize, &'e str)>) {
    let literals = match expression {
        Expression::All(parts) | Expression::Any(parts) => {
            for part in parts {
                collect_segments(part, found);
            }
            return;
        }
        Expression::Not(part) => return collect_segments(part, found),
        Expression::Comparison { operand, literal, .. } if operand.path == "segment_id" => {
            std::slice::from_ref(literal)
        }
        Expression::Membership { operand, literals, .. } if operand.path == "segment_id" => {
            literals
        }
        _ => return,
    };
    for literal in literals {
        if let LiteralValue::Text(text) = &literal.value {
            found.push((literal.position, text));
        }
    }
}

fn for_each_name<'e>(expression: &'e Expression, visit: &mut impl FnMut(&'e Name)) {
    match expression {
        Expression::All(parts) | Expression::Any(parts) => {
            for part in parts {
                for_each_name(part, visit);
            }
        }
        Expression::Not(part) => for_each_name(part, visit),
        Expression::Flag(name)
        | Expression::Missing(name)
        | Expression::Comparison { operand: name, .. }
        | Expression::Membership { operand: name, .. } => visit(name),
    }
}

impl Vocabulary<'_> {
    /// Resolves the names of an expression, and checks types and units.
    pub(super) fn resolve(self, expression: &Expression) -> Result<Condition, ExpressionFault> {
        match expression {
            Expression::All(parts) => Ok(Condition::All(self.resolve_all(parts)?)),
            Expression::Any(parts) => Ok(Condition::Any(self.resolve_all(parts)?)),
            Expression::Not(part) => Ok(Condition::Not(Box::new(self.resolve(part)?))),
            Expression::Flag(name) => match self.operand(name)? {
                Operand::Flag(condition) => Ok(condition),
                Operand::Number { .. } => Err(expected_comparison(name, "features.orders >= 3")),
                Operand::Text(_) => Err(expected_comparison(name, "segment_id = 'seg_…'")),
            },
            Expression::Comparison { operand, comparison, literal } => {
                self.comparison(operand, *comparison, literal)
            }
            Expression::Membership { operand, literals, is_negated } => {
                self.membership(operand, literals, *is_negated)
            }
            Expression::Missing(name) => match self.operand(name)? {
                Operand::Number { operand, .. } => Ok(Condition::NumberMissing(operand)),
                Operand::Text(operand) => Ok(Condition::TextMissing(operand)),
                Operand::Flag(_) => Err(flag_fault(name)),
            },
        }
    }

    fn resolve_all(self, parts: &[Expression]) -> Result<Box<[Condition]>, ExpressionFault> {
        parts.iter().map(|part| self.resolve(part)).collect()
    }

    fn comparison(
        self,
        name: &Name,
        comparison: Comparison,
        literal: &Literal,
    ) -> Result<Condition, ExpressionFault> {
        match self.operand(name)? {
            Operand::Number { operand, unit } => {
                let bound = number(name, operand, unit.as_deref(), literal)?;
                Ok(Condition::Number { operand, comparison, bound })
            }
            Operand::Text(operand) => {
                let is_negated = match comparison {
                    Comparison::Equal => false,
                    Comparison::NotEqual => true,
                    _ => {
                        let problem =
                            format!("`{}` is a text: compare it with `=`, `!=` or `in`", name.path);
                        return Err(ExpressionFault::new(name.position, problem));
                    }
                };
                let values = [text(name, literal)?].into();
                Ok(Condition::TextIn { operand, values, is_negated })
            }
            Operand::Flag(_) => Err(flag_fault(name)),
        }
    }

    fn membership(
        self,
        name: &Name,
        literals: &[Literal],
        is_negated: bool,
    ) -> Result<Condition, ExpressionFault> {
        match self.operand(name)? {
            Operand::Number { operand, unit } => {
                let values =
                    literals.iter().map(|literal| number(name, operand, unit.as_deref(), literal));
                Ok(Condition::NumberIn {
                    operand,
                    values: values.collect::<Result<_, _>>()?,
                    is_negated,
                })
            }
            Operand::Text(operand) => {
                let values = literals.iter().map(|literal| text(name, literal));
                Ok(Condition::TextIn {
                    operand,
                    values: values.collect::<Result<_, _>>()?,
                    is_negated,
                })
            }
            Operand::Flag(_) => Err(flag_fault(name)),
        }
    }

    fn operand(self, name: &Name) -> Result<Operand, ExpressionFault> {
        Ok(match name.path.as_str() {
            "segment_id" => Operand::Text(TextOperand::SegmentId),
            "confidence" => Operand::unitless(NumberOperand::Confidence),
            "p_value" => Operand::unitless(NumberOperand::PValue),
            "outlier" => Operand::Flag(Condition::Outlier),
            "value.reliable" => Operand::Flag(Condition::ReliableValue),
            "value.churn_probability" => {
                Operand::unitless(NumberOperand::Value(ValueFigure::ChurnProbability))
            }
            "value.predicted_number_of_orders" => {
                Operand::unitless(NumberOperand::Value(ValueFigure::PredictedOrders))
            }
            "value.predicted_clv" => Operand::Number {
                operand: NumberOperand::Value(ValueFigure::PredictedSpend),
                unit: Some(self.features.monetary_unit().into()),
            },
            path => {
                if let Some(feature) = path.strip_prefix(FEATURES) {
                    return self.feature(name, feature);
                }
                if let Some(audience) = path.strip_prefix(AUDIENCES) {
                    return self.audience(name, audience);
                }
                return Err(self.unknown(name));
            }
        })
    }

    fn feature(self, name: &Name, feature: &str) -> Result<Operand, ExpressionFault> {
        let Some(index) = self.features.index_of(feature) else {
            let known = self.features.features().iter();
            let known = known.filter(|known| known.sensitivity != Sensitivity::Sensitive);
            let known = known.map(|known| &*known.name);
            let problem = format!("there is no feature `{feature}`{}", suggestion(feature, known));
            return Err(ExpressionFault::new(name.position, problem));
        };
        let definition = &self.features.features()[index];
        if definition.sensitivity == Sensitivity::Sensitive {
            let problem =
                format!("the feature `{feature}` is declared sensitive: audiences cannot read it");
            return Err(ExpressionFault::new(name.position, problem));
        }
        Ok(match self.features.value_type_at(index) {
            ValueType::Text => Operand::Text(TextOperand::Feature(index)),
            ValueType::Number => Operand::Number {
                operand: NumberOperand::Feature(index),
                unit: Some(definition.unit.clone()),
            },
        })
    }

    fn audience(self, name: &Name, audience: &str) -> Result<Operand, ExpressionFault> {
        if let Some(index) = self.audiences.get(audience) {
            return Ok(Operand::Flag(Condition::Audience(*index)));
        }
        let known = self.audiences.keys().copied();
        let problem = format!("there is no audience `{audience}`{}", suggestion(audience, known));
        Err(ExpressionFault::new(name.position, problem))
    }

    fn unknown(self, name: &Name) -> ExpressionFault {
        let path = &name.path;
        let problem = if self.features.index_of(path).is_some() {
            format!("write `{FEATURES}{path}` for the feature")
        } else if self.audiences.contains_key(path.as_str()) {
            format!("write `{AUDIENCES}{path}` for the audience")
        } else {
            format!(
                "there is no `{path}`: expected `segment_id`, `confidence`, `p_value`, `outlier`, \
                 `features.<name>`, `value.churn_probability`, `value.predicted_number_of_orders`, \
                 `value.predicted_clv`, `value.reliable` or `audiences.<name>`"
            )
        };
        ExpressionFault::new(name.position, problem)
    }
}

/// The number of a literal, checked against the operand's unit and range.
fn number(
    name: &Name,
    operand: NumberOperand,
    unit: Option<&str>,
    literal: &Literal,
) -> Result<f64, ExpressionFault> {
    let LiteralValue::Number { value, unit: written } = &literal.value else {
        let problem =
            format!("`{}` is a number: compare it with a number without quotes", name.path);
        return Err(ExpressionFault::new(literal.position, problem));
    };
    if let Some(written) = written
        && Some(written.path.as_str()) != unit
    {
        let right = match unit {
            Some(unit) => format!("write `{unit}` or no unit"),
            None => "write no unit".into(),
        };
        let problem = format!("`{}` is not the unit of `{}`: {right}", written.path, name.path);
        return Err(ExpressionFault::new(written.position, problem));
    }
    let is_probability = matches!(
        operand,
        NumberOperand::Confidence
            | NumberOperand::PValue
            | NumberOperand::Value(ValueFigure::ChurnProbability)
    );
    if is_probability && !(0.0..=1.0).contains(value) {
        let problem = format!("`{}` is from 0 to 1: {value} is not", name.path);
        return Err(ExpressionFault::new(literal.position, problem));
    }
    // The stored confidence has the precision of `f32`.
    let is_single = operand == NumberOperand::Confidence;
    Ok(if is_single { f64::from(*value as f32) } else { *value })
}

fn text(name: &Name, literal: &Literal) -> Result<Box<str>, ExpressionFault> {
    match &literal.value {
        LiteralValue::Text(text) => Ok(text.as_str().into()),
        LiteralValue::Number { .. } => {
            let problem = format!("`{}` is a text: write the value in quotes", name.path);
            Err(ExpressionFault::new(literal.position, problem))
        }
    }
}

fn expected_comparison(name: &Name, example: &str) -> ExpressionFault {
    let problem =
        format!("`{}` is neither true nor false: compare it, such as `{example}`", name.path);
    ExpressionFault::new(name.position, problem)
}

fn flag_fault(name: &Name) -> ExpressionFault {
    let path = &name.path;
    let problem = format!("`{path}` is true or false: write `{path}` or `not {path}`");
    ExpressionFault::new(name.position, problem)
}

/// The nearest known name, in words.
fn suggestion<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest_name(name, known).map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"))
}
