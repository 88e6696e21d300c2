//! Open Inference Protocol, version 2, with its binary tensor extension: tensors to feature
//! rows, and scores to tensors.
//!
//! An input is a feature of the same name with one element per customer: shape `[n]` or `[n,
//! 1]`. A feature without an input is missing; so is an element that is null, or not a number
//! (NaN) in binary data.
//!
//! *Why not one matrix of all numbers as well?* Its columns are identified by position. A
//! client with another order gets wrong segments without any error. And a matrix of numbers
//! cannot contain categories.

mod data;
mod datatype;
mod output;
mod reply;
mod request;

pub use output::{AnsweringScorer, OutputTensor, ScoredOutputRow};
pub use reply::{InferenceResponse, SerializedResponse};
pub use request::{InferenceRequest, InferenceRequestError, RequestedOutput, read};

/// Name of the only model; its versions are the ids of sealed models.
pub(crate) const MODEL_NAME: &str = "segments";
