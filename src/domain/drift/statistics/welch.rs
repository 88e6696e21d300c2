//! Whether the mean of a column is what it was, told in spreads of its training rows.

use serde::Serialize;

use crate::domain::stats::special;

/// How far a mean has moved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shift {
    /// In standard deviations of the training rows (Glass 1976): positive where it has
    /// grown.
    pub d: f64,
    /// How often chance alone moves it as far, in either direction.
    pub p_value: f64,
}

/// One column's rows as sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub rows: f64,
    /// Of how far each is from the training mean, in the training's spread.
    pub sum: f64,
    pub squares: f64,
}

impl Shift {
    /// By the test of Welch (1947), against `trained` rows with the mean 0 and a
    /// standard deviation of 1, or of 0 where they were all alike.
    ///
    /// A sample is taken to be spread no less than the training rows. What is rare,
    /// such as a number that nearly always is 0, is not in some samples at all: they
    /// have no spread of their own, and every difference would be certain.
    ///
    /// `None` with fewer than two rows on a side.
    pub fn of(trained: f64, was_spread: bool, now: Sample) -> Option<Self> {
        if trained < 2.0 || now.rows < 2.0 {
            return None;
        }
        let mean = now.sum / now.rows;
        let around_mean = (now.squares - now.sum * mean).max(0.0);
        let variance = (around_mean / (now.rows - 1.0)).max(1.0);
        let before = if was_spread { 1.0 / trained } else { 0.0 };
        let here = variance / now.rows;
        let degrees = (before + here).powi(2)
            / (before * before / (trained - 1.0) + here * here / (now.rows - 1.0));
        let t = mean / (before + here).sqrt();
        Some(Self { d: mean, p_value: special::student_beyond(t, degrees) })
    }
}
