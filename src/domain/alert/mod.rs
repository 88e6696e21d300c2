//! Something that a person is to hear of, once, and again when it is over.
//!
//! The modules stand in import order.

mod notice;
mod target;

pub use notice::{Bar, Fact, Notice, Picture, State, Topic};
pub use target::{Envelope, Target};
