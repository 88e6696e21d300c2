//! ADWIN: a sliding window of adaptive length (Bifet and Gavaldà 2007, *Learning from
//! time-changing data with adaptive windowing*).
//!
//! The window grows while nothing changes and drops the values from before a change. It is
//! stored as an exponential histogram: buckets of 1, 2, 4, … successive values, at most a
//! few of each size, so memory is logarithmic in its length. A cut between two buckets
//! splits it into an older and a newer part. While the means of any two parts differ by
//! more than the bound, the oldest bucket is dropped. It finds the same changes as River's
//! `ADWIN` that tests at every step (`clock=1`).

use std::collections::VecDeque;

/// Most buckets of one size; then the two oldest are merged into one of the next size.
const MOST_BUCKETS: usize = 5;
/// Least number of values on each side of a cut.
const LEAST_PART: f64 = 5.0;
/// A window of at most this many values is not cut.
const LEAST_WIDTH: f64 = 10.0;

#[derive(Debug, Clone)]
pub struct AdwinDetector {
    /// Bound of the probability of a false cut.
    delta: f64,
    /// By level: buckets of 2^level values, oldest first.
    levels: Vec<VecDeque<ValueBucket>>,
    width: f64,
    all: ValueBucket,
    /// Largest cut at the last step, before any bucket was dropped.
    largest: WindowCut,
    is_alarm: bool,
}

/// A cut of the window into an older and a newer part.
#[derive(Debug, Clone, Copy, Default)]
struct WindowCut {
    /// Difference of the means, as a multiple of the bound.
    difference: f64,
    /// Values in the newer part.
    newer: f64,
}

/// Summary of successive values.
#[derive(Debug, Clone, Copy, Default)]
struct ValueBucket {
    total: f64,
    /// Sum of squared deviations from the mean (Babcock et al. 2003, *Maintaining variance
    /// and k-medians over data stream windows*).
    squares: f64,
}

impl AdwinDetector {
    pub fn new(delta: f64) -> Self {
        let (levels, all) = (vec![VecDeque::new()], ValueBucket::default());
        Self { delta, levels, width: 0.0, all, largest: WindowCut::default(), is_alarm: false }
    }

    /// Adds one value from 0 to 1; returns whether it raises an alarm. After an alarm the
    /// detector restarts.
    pub fn step(&mut self, x: f64) -> bool {
        if self.is_alarm {
            *self = Self::new(self.delta);
        }
        self.insert(x);
        self.is_alarm = false;
        let is_long = self.width > LEAST_WIDTH;
        self.largest = if is_long { self.largest_cut() } else { WindowCut::default() };
        let mut largest = self.largest;
        while largest.difference > 1.0 {
            self.is_alarm = true;
            self.drop_oldest();
            largest = self.largest_cut();
        }
        self.is_alarm
    }

    /// The largest difference between an older and a newer part, as a multiple of the
    /// bound: above 1 there is an alarm.
    pub fn statistic(&self) -> f64 {
        self.largest.difference
    }

    /// Number of steps since the change: the newer part at the largest cut. The window
    /// after an alarm is longer, because buckets are dropped only until no cut is left.
    pub fn since_change(&self) -> usize {
        self.largest.newer as usize
    }

    /// Number of values in the window.
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// Mean of the window.
    pub fn mean(&self) -> f64 {
        self.all.total / self.width.max(1.0)
    }

    fn insert(&mut self, x: f64) {
        let one = ValueBucket { total: x, squares: 0.0 };
        self.all = if self.width > 0.0 { self.all.and(self.width, one, 1.0) } else { one };
        self.width += 1.0;
        self.levels[0].push_back(one);
        let mut level = 0;
        while self.levels[level].len() > MOST_BUCKETS {
            let buckets = &mut self.levels[level];
            let (Some(older), Some(newer)) = (buckets.pop_front(), buckets.pop_front()) else {
                return;
            };
            let size = size(level);
            level += 1;
            if level == self.levels.len() {
                self.levels.push(VecDeque::new());
            }
            self.levels[level].push_back(older.and(size, newer, size));
        }
    }

    fn drop_oldest(&mut self) {
        let level = self.levels.len() - 1;
        let Some(oldest) = self.levels[level].pop_front() else { return };
        let n = size(level);
        self.width -= n;
        self.all.total -= oldest.total;
        let difference = oldest.total / n - self.all.total / self.width;
        let apart = n * self.width * difference * difference / (n + self.width);
        self.all.squares -= oldest.squares + apart;
        // Level 0 always remains, so the next value has a place to go.
        while self.levels.len() > 1 && self.levels.last().is_some_and(VecDeque::is_empty) {
            self.levels.pop();
        }
    }

    fn largest_cut(&self) -> WindowCut {
        let mut largest = WindowCut::default();
        let ln = (2.0 * self.width.ln() / self.delta).ln();
        let variance = self.all.squares / self.width;
        let (mut n, mut total) = (0.0, 0.0);
        for (level, buckets) in self.levels.iter().enumerate().rev() {
            for bucket in buckets {
                n += size(level);
                total += bucket.total;
                let newer = self.width - n;
                if n < LEAST_PART || newer < LEAST_PART {
                    continue;
                }
                let difference = total / n - (self.all.total - total) / newer;
                let parts = 1.0 / (n - LEAST_PART + 1.0) + 1.0 / (newer - LEAST_PART + 1.0);
                let by_chance = (2.0 * parts * variance * ln).sqrt() + 2.0 / 3.0 * ln * parts;
                let difference = difference.abs() / by_chance;
                if difference > largest.difference {
                    largest = WindowCut { difference, newer };
                }
            }
        }
        largest
    }
}

impl ValueBucket {
    /// Merges buckets of `n` and `m` values (parallel variance, Chan et al. 1979).
    fn and(self, n: f64, other: Self, m: f64) -> Self {
        let difference = self.total / n - other.total / m;
        let apart = n * m * difference * difference / (n + m);
        Self { total: self.total + other.total, squares: self.squares + other.squares + apart }
    }
}

/// Number of values in a bucket of this level.
fn size(level: usize) -> f64 {
    (1_u64 << level) as f64
}
