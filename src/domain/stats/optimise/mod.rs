//! Maxima, minima and roots of functions.

pub mod bisection;
pub mod maximise;
pub mod minimise;
