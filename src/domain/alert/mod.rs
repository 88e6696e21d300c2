//! Something that a person is to hear of, once, and again when it is over.
//!
//! The modules stand in import order.

mod notice;
mod signing;
mod target;

pub use notice::{Bar, Fact, Notice, Picture, State, Topic};
pub use signing::{SigningKey, webhook_secret};
pub use target::{Envelope, Shown, Target, mail_problem};
