//! Recursive-descent parser of expressions.

use crate::domain::audience::syntax::{Expression, ExpressionFault, Literal, LiteralValue, Name};
use crate::domain::audience::token::{Token, TokenKind, tokenize};

/// Maximum length of an expression.
pub const MAX_EXPRESSION_CHARS: usize = 4_000;
/// Maximum nesting of `not` and parentheses: evaluation recurses that deep.
const MAX_NESTING: usize = 32;
/// Maximum number of literals after `in`.
const MAX_LITERALS: usize = 200;

/// Parses an expression. Names are resolved later.
pub(super) fn parse(text: &str) -> Result<Expression, ExpressionFault> {
    if text.chars().count() > MAX_EXPRESSION_CHARS {
        let problem = format!("the expression is longer than {MAX_EXPRESSION_CHARS} characters");
        return Err(ExpressionFault::new(MAX_EXPRESSION_CHARS + 1, problem));
    }
    let mut parser = Parser { tokens: tokenize(text)?, at: 0, nesting: 0 };
    let expression = parser.expression()?;
    match parser.peek() {
        TokenKind::End => Ok(expression),
        found => {
            let problem = format!("expected `and`, `or` or the end, found {}", found.describe());
            Err(parser.fault(problem))
        }
    }
}

struct Parser {
    /// Ends with [`TokenKind::End`], which is never consumed.
    tokens: Vec<Token>,
    at: usize,
    nesting: usize,
}

impl Parser {
    fn peek(&self) -> &TokenKind {
        &self.tokens[self.at].kind
    }

    fn position(&self) -> usize {
        self.tokens[self.at].position
    }

    fn fault(&self, problem: impl Into<String>) -> ExpressionFault {
        ExpressionFault::new(self.position(), problem)
    }

    /// Consumes the next token if it is `kind`.
    fn accept(&mut self, kind: &TokenKind) -> bool {
        let is_next = self.peek() == kind;
        if is_next {
            self.at += 1;
        }
        is_next
    }

    fn expect(&mut self, kind: &TokenKind, purpose: &str) -> Result<(), ExpressionFault> {
        if self.accept(kind) {
            return Ok(());
        }
        let found = self.peek().describe();
        Err(self.fault(format!("expected {} {purpose}, found {found}", kind.describe())))
    }

    fn expression(&mut self) -> Result<Expression, ExpressionFault> {
        let mut parts = vec![self.conjunction()?];
        while self.accept(&TokenKind::Or) {
            parts.push(self.conjunction()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn conjunction(&mut self) -> Result<Expression, ExpressionFault> {
        let mut parts = vec![self.negation()?];
        while self.accept(&TokenKind::And) {
            parts.push(self.negation()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn negation(&mut self) -> Result<Expression, ExpressionFault> {
        if self.nesting == MAX_NESTING {
            return Err(self.fault(format!("more than {MAX_NESTING} nested `not` and `(`")));
        }
        self.nesting += 1;
        let parsed = if self.accept(&TokenKind::Not) {
            Expression::Not(Box::new(self.negation()?))
        } else if self.accept(&TokenKind::Open) {
            let inner = self.expression()?;
            self.expect(&TokenKind::Close, "to close the parenthesis")?;
            inner
        } else {
            self.condition()?
        };
        self.nesting -= 1;
        Ok(parsed)
    }

    fn condition(&mut self) -> Result<Expression, ExpressionFault> {
        let position = self.position();
        let TokenKind::Name(path) = self.peek().clone() else {
            let found = self.peek().describe();
            return Err(self.fault(format!(
                "expected a condition, such as `features.orders >= 3`, found {found}"
            )));
        };
        self.at += 1;
        let operand = Name { position, path };
        match *self.peek() {
            TokenKind::Comparison(comparison) => {
                self.at += 1;
                Ok(Expression::Comparison { operand, comparison, literal: self.literal()? })
            }
            TokenKind::In => {
                self.at += 1;
                Ok(Expression::Membership {
                    operand,
                    literals: self.literals()?,
                    is_negated: false,
                })
            }
            TokenKind::Not => {
                self.at += 1;
                self.expect(&TokenKind::In, "after `not`")?;
                Ok(Expression::Membership { operand, literals: self.literals()?, is_negated: true })
            }
            TokenKind::Is => {
                self.at += 1;
                let is_negated = self.accept(&TokenKind::Not);
                self.expect(&TokenKind::Missing, "after `is`")?;
                let missing = Expression::Missing(operand);
                Ok(if is_negated { Expression::Not(Box::new(missing)) } else { missing })
            }
            _ => Ok(Expression::Flag(operand)),
        }
    }

    fn literals(&mut self) -> Result<Vec<Literal>, ExpressionFault> {
        self.expect(&TokenKind::Open, "after `in`")?;
        let mut literals = vec![self.literal()?];
        while self.accept(&TokenKind::Comma) {
            if literals.len() == MAX_LITERALS {
                return Err(self.fault(format!("more than {MAX_LITERALS} values after `in`")));
            }
            literals.push(self.literal()?);
        }
        self.expect(&TokenKind::Close, "to close the list")?;
        Ok(literals)
    }

    fn literal(&mut self) -> Result<Literal, ExpressionFault> {
        let position = self.position();
        let value = match self.peek().clone() {
            TokenKind::Text(text) => {
                self.at += 1;
                LiteralValue::Text(text)
            }
            TokenKind::Number(value) => {
                self.at += 1;
                LiteralValue::Number { value, unit: self.unit() }
            }
            found => {
                return Err(self.fault(format!(
                    "expected a number or a text in quotes, found {}",
                    found.describe()
                )));
            }
        };
        Ok(Literal { position, value })
    }

    /// The unit after a number, if any.
    fn unit(&mut self) -> Option<Name> {
        let position = self.position();
        let TokenKind::Name(path) = self.peek() else { return None };
        let unit = Name { position, path: path.clone() };
        self.at += 1;
        Some(unit)
    }
}
