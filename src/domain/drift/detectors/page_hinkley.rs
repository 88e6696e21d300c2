//! The two-sided test of Page (1954) and Hinkley: how far values have drifted from
//! their running mean, added up.
//!
//! As River computes it. There sums may forget a little at each step; with that the
//! slack is lost in the long run, and false alarms come every few thousand steps, so
//! that the stream of hours forgets nothing.

/// No alarm before so many steps: the mean is not known yet.
const LEAST_STEPS: usize = 30;

#[derive(Debug, Clone)]
pub struct PageHinkley {
    /// A drift of so much a step is taken for none.
    slack: f64,
    limit: f64,
    /// What is kept of the sums at each step; 1: all.
    kept: f64,
    steps: usize,
    mean: f64,
    rise: Side,
    fall: Side,
    is_alarm: bool,
}

/// One direction: the sum of the deviations in it, less the slack, over its lowest.
#[derive(Debug, Clone)]
struct Side {
    sum: f64,
    lowest: f64,
    after_lowest: usize,
}

impl PageHinkley {
    pub fn new(slack: f64, limit: f64, kept: f64) -> Self {
        let side = Side { sum: 0.0, lowest: f64::INFINITY, after_lowest: 0 };
        let (rise, fall) = (side.clone(), side);
        Self { slack, limit, kept, steps: 0, mean: 0.0, rise, fall, is_alarm: false }
    }

    /// Takes in one value; whether there is an alarm. After one it begins anew.
    pub fn step(&mut self, x: f64) -> bool {
        if self.is_alarm {
            *self = Self::new(self.slack, self.limit, self.kept);
        }
        self.steps += 1;
        self.mean += (x - self.mean) / self.steps as f64;
        let deviation = x - self.mean;
        self.rise.add(deviation - self.slack, self.kept);
        self.fall.add(-deviation - self.slack, self.kept);
        self.is_alarm = self.steps >= LEAST_STEPS && self.statistic() > self.limit;
        self.is_alarm
    }

    /// The larger of the two sums, each over its lowest.
    pub fn statistic(&self) -> f64 {
        self.rise.height().max(self.fall.height())
    }

    /// The last so many steps are those after the sum was lowest.
    pub fn since_change(&self) -> usize {
        let is_rise = self.rise.height() >= self.fall.height();
        if is_rise { self.rise.after_lowest } else { self.fall.after_lowest }
    }
}

impl Side {
    fn add(&mut self, x: f64, kept: f64) {
        self.sum = kept * self.sum + x;
        self.after_lowest += 1;
        if self.sum < self.lowest {
            (self.lowest, self.after_lowest) = (self.sum, 0);
        }
    }

    fn height(&self) -> f64 {
        // Nothing was added yet.
        if self.lowest.is_infinite() { 0.0 } else { self.sum - self.lowest }
    }
}
