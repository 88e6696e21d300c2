//! Whether what is scored still looks like what the model was trained on.
//!
//! Everything is told from counts on bins that were fixed at training.

pub mod window;

pub use window::{FeatureCounts, Layout, P_VALUE_BINS, View, Window, WrongLength};
