//! Syntax tree of an expression, and its faults.

use std::fmt;

/// A fault of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionFault {
    /// Character at which the fault begins, counted from 1.
    pub position: usize,
    /// The violated rule of the language, and a correction.
    pub problem: String,
}

impl ExpressionFault {
    pub(super) fn new(position: usize, problem: impl Into<String>) -> Self {
        Self { position, problem: problem.into() }
    }
}

impl fmt::Display for ExpressionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.position, self.problem)
    }
}

/// A parsed expression whose names are not resolved yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    /// Conjunction: all parts are true.
    All(Vec<Self>),
    /// Disjunction: at least one part is true.
    Any(Vec<Self>),
    Not(Box<Self>),
    /// A flag, such as `outlier`.
    Flag(Name),
    Comparison {
        operand: Name,
        comparison: Comparison,
        literal: Literal,
    },
    Membership {
        operand: Name,
        literals: Vec<Literal>,
        is_negated: bool,
    },
    Missing(Name),
}

/// A dotted path, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) position: usize,
    pub(super) path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    pub(super) fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            // Thresholds are as exact as people write them.
            #[expect(clippy::float_cmp, reason = "the author of the rule asks for equality")]
            Self::Equal => value == bound,
            #[expect(clippy::float_cmp, reason = "the author of the rule asks for equality")]
            Self::NotEqual => value != bound,
            Self::Less => value < bound,
            Self::AtMost => value <= bound,
            Self::Greater => value > bound,
            Self::AtLeast => value >= bound,
        }
    }
}

/// A literal with its position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Literal {
    pub(super) position: usize,
    pub(super) value: LiteralValue,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum LiteralValue {
    Number { value: f64, unit: Option<Name> },
    Text(String),
}
