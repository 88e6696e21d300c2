//! Something that a person is to hear of, once, and again when it is over.
//!
//! The modules stand in import order.

mod notice;
mod route;
pub mod schedule;
mod signing;
mod target;

pub use crate::domain::drift::Bar;
pub use notice::{Fact, Notice, Picture, State, Topic};
pub use route::{Route, Sent, Silence, Standing, Told, channel_key, is_owed};
pub use signing::{SigningKey, webhook_secret};
pub use target::{Envelope, Shown, Target, mail_problem};
