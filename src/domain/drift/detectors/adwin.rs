//! A window that grows while nothing changes and lets go of what was before a change:
//! ADWIN (Bifet and Gavaldà 2007, *Learning from time-changing data with adaptive
//! windowing*).
//!
//! The window is kept as buckets of 1, 2, 4, … successive values, at most a few of each
//! size, so that a window of any length takes little room. Where its older and its
//! newer part, cut between two buckets, differ in their means by more than chance
//! allows, the oldest bucket is dropped until none do. The same changes as River finds
//! where each step is looked at.

use std::collections::VecDeque;

/// Of one size, before two of them become one of the next.
const MOST_BUCKETS: usize = 5;
/// Values on each side of a cut, at least.
const LEAST_PART: f64 = 5.0;
/// A window of so many values is not cut yet.
const LEAST_WIDTH: f64 = 10.0;

#[derive(Debug, Clone)]
pub struct Adwin {
    /// The chance of a false cut, as its bound has it.
    delta: f64,
    /// By level: buckets of 2^level values, oldest first.
    levels: Vec<VecDeque<Bucket>>,
    width: f64,
    all: Bucket,
    /// Of the last step, as it was before anything was dropped.
    largest: Cut,
    is_alarm: bool,
}

/// Where the window is cut in two.
#[derive(Debug, Clone, Copy, Default)]
struct Cut {
    /// How the means differ, in times what chance allows.
    difference: f64,
    /// Values in the newer part.
    newer: f64,
}

/// Some successive values.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    total: f64,
    /// Squared deviations from the mean, added up (Babcock et al. 2003).
    squares: f64,
}

impl Adwin {
    pub fn new(delta: f64) -> Self {
        let (levels, all) = (vec![VecDeque::new()], Bucket::default());
        Self { delta, levels, width: 0.0, all, largest: Cut::default(), is_alarm: false }
    }

    /// Takes in one value from 0 to 1; whether there is an alarm. After one it begins
    /// anew.
    pub fn step(&mut self, x: f64) -> bool {
        if self.is_alarm {
            *self = Self::new(self.delta);
        }
        self.insert(x);
        self.is_alarm = false;
        let is_long = self.width > LEAST_WIDTH;
        self.largest = if is_long { self.largest_cut() } else { Cut::default() };
        let mut largest = self.largest;
        while largest.difference > 1.0 {
            self.is_alarm = true;
            self.drop_oldest();
            largest = self.largest_cut();
        }
        self.is_alarm
    }

    /// The largest difference between an older and a newer part, in times what chance
    /// allows: above 1 there is an alarm.
    pub fn statistic(&self) -> f64 {
        self.largest.difference
    }

    /// The last so many steps are the newer part where both differ most. What is left
    /// in the window after an alarm is more: buckets go only until no cut is left.
    pub fn since_change(&self) -> usize {
        self.largest.newer as usize
    }

    /// Values in the window.
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.all.total / self.width.max(1.0)
    }

    fn insert(&mut self, x: f64) {
        let one = Bucket { total: x, squares: 0.0 };
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
        // One bucket of the newest values is always left.
        while self.levels.len() > 1 && self.levels.last().is_some_and(VecDeque::is_empty) {
            self.levels.pop();
        }
    }

    fn largest_cut(&self) -> Cut {
        let mut largest = Cut::default();
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
                    largest = Cut { difference, newer };
                }
            }
        }
        largest
    }
}

impl Bucket {
    /// Both together, of `n` and `m` values.
    fn and(self, n: f64, other: Self, m: f64) -> Self {
        let difference = self.total / n - other.total / m;
        let apart = n * m * difference * difference / (n + m);
        Self { total: self.total + other.total, squares: self.squares + other.squares + apart }
    }
}

/// Values in a bucket of this level.
fn size(level: usize) -> f64 {
    (1_u64 << level) as f64
}
