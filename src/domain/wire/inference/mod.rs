//! The Open Inference Protocol, version 2, with its binary tensor extension:
//! tensors to feature rows, scores to tensors, and the description of both.
//!
//! An input is a feature, named as the feature, with one element a customer:
//! shape `[n]` or `[n, 1]`. A feature whose input is left out is missing; so is
//! an element that is null, or not a number (NaN) in binary data.
//!
//! *Why not one matrix of all numbers as well?* Its columns go by position: a
//! client that has them in another order gets wrong segments and never learns
//! of it. And categories have no room in it.

mod data;
mod datatype;
mod metadata;
mod output;
mod reply;
mod request;

pub use metadata::Metadata;
pub use output::{AnsweredBy, Output, Scored};
pub use reply::{Reply, Written};
pub use request::{InferRequest, Requested, Unreadable, read};

/// What the only model is called; its versions are the ids of sealed models.
pub const MODEL_NAME: &str = "segments";
