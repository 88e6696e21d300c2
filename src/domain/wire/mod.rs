//! From bytes to values of the domain and back: one file, or folder, a format.

pub mod inference;
pub mod native;
pub mod rows;
