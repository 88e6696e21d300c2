//! Audiences: named rules over the features, the segment, the value and the other audiences of a
//! customer.
//!
//! A rule is an expression of the language below. It is checked against the feature set when it is
//! defined, and evaluated with every score that is stored.
//!
//! ```text
//! expression = conjunction { "or" conjunction }
//! conjunction = negation { "and" negation }
//! negation   = "not" negation | "(" expression ")" | condition
//! condition  = operand ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) literal
//!            | operand [ "not" ] "in" "(" literal { "," literal } ")"
//!            | operand "is" [ "not" ] "missing"
//!            | flag
//! operand    = "segment_id" | "confidence" | "p_value" | "features." name | "value." name
//! flag       = "outlier" | "value.reliable" | "audiences." name
//! literal    = number [ unit ] | "'" text "'" | '"' text '"'
//! ```
//!
//! Keywords may be in upper case. A comparison with a missing value is false, also `!=` and
//! `not in`. The operands are paths of the answer of `GET /v1/customers/{customer_id}`.
//!
//! The modules are listed in import order.

mod syntax;
mod token;

mod parser;

mod condition;
mod resolve;

mod time_change;

mod set;

pub use condition::AudienceInputs;
pub use parser::MAX_EXPRESSION_CHARS;
pub use set::{
    AudienceDefinition, AudienceFault, AudienceSet, CustomerAudiences, StoredAudiences,
    named_segments, names_audience,
};
pub use syntax::ExpressionFault;
pub use time_change::ForecastSource;
