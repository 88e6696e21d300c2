//! From bytes to values of the domain: one file a format.

pub mod native;
pub mod rows;
