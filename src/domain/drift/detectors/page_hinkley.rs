//! Two-sided Page-Hinkley test (Page 1954, *Continuous inspection schemes*): accumulates
//! deviations of the values from their running mean.
//!
//! It computes the same as River's `PageHinkley`. River's sums can decay a little at each
//! step. Decay wears the slack out in the long run, and false alarms come every few
//! thousand steps, so the stream of hours uses none (`decay_factor` = 1).

/// No alarm before this number of steps: the running mean is too uncertain.
const LEAST_STEPS: usize = 30;

#[derive(Debug, Clone)]
pub struct PageHinkley {
    /// Tolerated deviation per step (`delta` in River).
    slack: f64,
    limit: f64,
    /// Decay factor of the sums at each step (`alpha` in River); 1: no decay.
    decay_factor: f64,
    steps: usize,
    mean: f64,
    rise: CumulativeSum,
    fall: CumulativeSum,
    is_alarm: bool,
}

/// Cumulative sum of the deviations in one direction, less the slack, and its minimum.
#[derive(Debug, Clone)]
struct CumulativeSum {
    sum: f64,
    lowest: f64,
    after_lowest: usize,
}

impl PageHinkley {
    pub fn new(slack: f64, limit: f64, decay_factor: f64) -> Self {
        let side = CumulativeSum { sum: 0.0, lowest: f64::INFINITY, after_lowest: 0 };
        let (rise, fall) = (side.clone(), side);
        Self { slack, limit, decay_factor, steps: 0, mean: 0.0, rise, fall, is_alarm: false }
    }

    /// Adds one value; returns whether it raises an alarm. After an alarm the test restarts.
    pub fn step(&mut self, x: f64) -> bool {
        if self.is_alarm {
            *self = Self::new(self.slack, self.limit, self.decay_factor);
        }
        self.steps += 1;
        self.mean += (x - self.mean) / self.steps as f64;
        let deviation = x - self.mean;
        self.rise.add(deviation - self.slack, self.decay_factor);
        self.fall.add(-deviation - self.slack, self.decay_factor);
        self.is_alarm = self.steps >= LEAST_STEPS && self.statistic() > self.limit;
        self.is_alarm
    }

    /// The larger of the two sums, each measured from its minimum.
    pub fn statistic(&self) -> f64 {
        self.rise.height().max(self.fall.height())
    }

    /// Number of steps since the change: since the minimum of the larger sum.
    pub fn since_change(&self) -> usize {
        let is_rise = self.rise.height() >= self.fall.height();
        if is_rise { self.rise.after_lowest } else { self.fall.after_lowest }
    }
}

impl CumulativeSum {
    fn add(&mut self, x: f64, decay_factor: f64) {
        self.sum = decay_factor * self.sum + x;
        self.after_lowest += 1;
        if self.sum < self.lowest {
            (self.lowest, self.after_lowest) = (self.sum, 0);
        }
    }

    fn height(&self) -> f64 {
        // No value was added yet.
        if self.lowest.is_infinite() { 0.0 } else { self.sum - self.lowest }
    }
}
