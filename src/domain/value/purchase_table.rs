//! Purchase histories with equal figures, collapsed into one row with a weight.
//!
//! A likelihood depends on a customer by few integers only, so its logarithms and special functions
//! are evaluated once for each value of these, not once for each customer.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::domain::feature::PurchaseHistory;

/// Rows summed by one thread at a time. Sums of chunks are added in order, so results do not depend on
/// the number of threads.
const CHUNK_ROWS: usize = 8_192;
/// Pairs for which one thread evaluates terms at a time.
const CHUNK_PAIRS: usize = 1_024;

/// The distinct purchase histories of some customers.
#[derive(Debug)]
pub(super) struct PurchaseTable {
    rows: Vec<RowTerms>,
    customers: f64,
    /// Distinct numbers of repeat days, ascending.
    repeat_days: Vec<u32>,
    most_days: u32,
    /// Distinct pairs of an index in `repeat_days` and a day.
    pairs: Vec<(u32, u32)>,
    pause: fn(),
}

/// One distinct history, by indices into the tables of terms.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowTerms {
    /// Index of the number of repeat days.
    pub(super) frequency: usize,
    pub(super) last_day: usize,
    pub(super) age_days: usize,
    /// Index of the pair of repeat days and last day.
    pub(super) at_last: usize,
    /// Index of the pair of repeat days and age.
    pub(super) at_age: usize,
    customers: f64,
}

impl PurchaseTable {
    /// `pause` is called by working threads between pieces of work of well under a millisecond.
    pub(super) fn new(histories: impl Iterator<Item = PurchaseHistory>, pause: fn()) -> Self {
        let mut keys: Vec<(u32, u32, u32)> = histories
            .map(|history| (history.repeat_days, history.last_day, history.age_days))
            .collect();
        keys.par_sort_unstable();
        let mut repeat_days: Vec<u32> = keys.iter().map(|(x, _, _)| *x).collect();
        repeat_days.dedup();
        let frequency_of: BTreeMap<u32, u32> = repeat_days.iter().copied().zip(0..).collect();
        let mut pairs: Vec<(u32, u32)> = keys
            .iter()
            .flat_map(|(x, last, age)| [(frequency_of[x], *last), (frequency_of[x], *age)])
            .collect();
        pairs.par_sort_unstable();
        pairs.dedup();
        let place = |pair| pairs.binary_search(&pair).unwrap_or_default();
        let rows = keys
            .chunk_by(|a, b| a == b)
            .map(|equal| {
                let (x, last, age) = equal[0];
                let frequency = frequency_of[&x];
                RowTerms {
                    frequency: frequency as usize,
                    last_day: last as usize,
                    age_days: age as usize,
                    at_last: place((frequency, last)),
                    at_age: place((frequency, age)),
                    customers: equal.len() as f64,
                }
            })
            .collect();
        Self {
            rows,
            customers: keys.len() as f64,
            most_days: keys.iter().map(|(_, _, age)| *age).max().unwrap_or_default(),
            repeat_days,
            pairs,
            pause,
        }
    }

    /// A term by day: index 0 is the day of the first order.
    pub(super) fn by_day<T>(&self, term: impl Fn(f64) -> T) -> Vec<T> {
        (0..=self.most_days).map(|day| term(f64::from(day))).collect()
    }

    /// A term by number of repeat days.
    pub(super) fn by_repeat_days<T>(&self, term: impl Fn(u32) -> T) -> Vec<T> {
        self.repeat_days.iter().map(|repeat_days| term(*repeat_days)).collect()
    }

    /// A term by pair of repeat days and day.
    pub(super) fn by_frequency_and_day(&self, term: impl Fn(u32, f64) -> f64 + Sync) -> Vec<f64> {
        let terms_of = |pairs: &[(u32, u32)]| -> Vec<f64> {
            (self.pause)();
            pairs
                .iter()
                .map(|(frequency, day)| {
                    term(self.repeat_days[*frequency as usize], f64::from(*day))
                })
                .collect()
        };
        self.pairs.par_chunks(CHUNK_PAIRS).flat_map(terms_of).collect()
    }

    /// The mean of a term over the customers.
    pub(super) fn mean(&self, term: impl Fn(RowTerms) -> f64 + Sync) -> f64 {
        let chunks: Vec<f64> = self
            .rows
            .par_chunks(CHUNK_ROWS)
            .map(|rows| {
                (self.pause)();
                rows.iter().map(|row| row.customers * term(*row)).sum()
            })
            .collect();
        chunks.iter().sum::<f64>() / self.customers
    }
}
