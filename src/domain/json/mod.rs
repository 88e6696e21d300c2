//! JSON (RFC 8259) as senders write it: numbers keep their digits, and nothing is built for
//! values that no reader uses.
//!
//! `serde_json` parses documents of our own. It cannot read events: it rounds integers beyond
//! 64 bits, and refuses a whole document for an unpaired surrogate, a number beyond the range
//! of a double, or deep nesting in a value that no feature reads.

pub mod decimal;
pub mod raw;
pub mod scan;

pub use raw::{JsonKind, JsonMember, RawJson};
pub use scan::JsonSyntaxError;
