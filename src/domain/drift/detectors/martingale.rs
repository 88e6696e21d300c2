//! A bet against "nothing has changed", whose winnings are the evidence that something
//! has.
//!
//! Each step's p-value is turned into an e-value, what a fair bet of 1 pays: at most 1
//! on average while nothing changes (Vovk and Wang 2021, *E-values: calibration,
//! combination and applications*). Multiplied up they are a test martingale. Betting
//! anew at each step and adding all bets up is the procedure of Shiryaev and Roberts:
//! its sum R less the number of steps has mean 0 while nothing changes, so that the
//! mean time until R reaches c is at least c (Vovk et al. 2021, *Retrain or not
//! retrain*; Shin, Ramdas and Rinaldo 2023, *E-detectors*).
//!
//! All is kept as logarithms: one bet can pay more than a float holds.

/// Below this −ln p the e-value is read from its series.
const SMALL: f64 = 1e-3;

/// ln of the e-value of a p-value that is given as ln p, by the calibrator that is the
/// mean of all κ p^(κ − 1): (1 − p + p ln p) / (p ln² p). It is 1/2 at p = 1.
pub fn ln_e_value(ln_p: f64) -> f64 {
    // In t = −ln p it is (e^t − 1 − t) / t².
    let t = (-ln_p).max(0.0);
    if t < SMALL {
        return (0.5 + t / 6.0 + t * t / 24.0).ln();
    }
    // Where e^t might be too large, it is taken out.
    if t < 1.0 {
        return ((t.exp_m1() - t) / (t * t)).ln();
    }
    t + (-(1.0 + t) * (-t).exp()).ln_1p() - 2.0 * t.ln()
}

/// The procedure of Shiryaev and Roberts, and the plain martingale beside it.
#[derive(Debug, Clone)]
pub struct ShiryaevRoberts {
    ln_limit: f64,
    /// −∞ at the start.
    ln_sum: f64,
    /// Of all steps ever.
    ln_martingale: f64,
    /// Since the last alarm: where the martingale is, where it was lowest, and the
    /// steps since.
    ln_here: f64,
    ln_lowest: f64,
    after_lowest: usize,
    is_alarm: bool,
}

impl ShiryaevRoberts {
    /// Alarms once in `limit` steps at most, on average, while nothing changes.
    pub fn new(limit: f64) -> Self {
        Self::begin(limit.ln(), 0.0)
    }

    fn begin(ln_limit: f64, ln_martingale: f64) -> Self {
        Self {
            ln_limit,
            ln_sum: f64::NEG_INFINITY,
            ln_martingale,
            ln_here: 0.0,
            ln_lowest: 0.0,
            after_lowest: 0,
            is_alarm: false,
        }
    }

    /// Takes in the p-value of one step, as ln p; whether there is an alarm. After one
    /// it begins anew.
    pub fn step(&mut self, ln_p: f64) -> bool {
        if self.is_alarm {
            *self = Self::begin(self.ln_limit, self.ln_martingale);
        }
        let ln_e = ln_e_value(ln_p);
        // ln(R + 1).
        let ln_stake = self.ln_sum.max(0.0) + (-self.ln_sum.abs()).exp().ln_1p();
        self.ln_sum = ln_stake + ln_e;
        self.ln_martingale += ln_e;
        self.ln_here += ln_e;
        self.after_lowest += 1;
        if self.ln_here < self.ln_lowest {
            (self.ln_lowest, self.after_lowest) = (self.ln_here, 0);
        }
        self.is_alarm = self.ln_sum >= self.ln_limit;
        self.is_alarm
    }

    /// R, in steps: what is to reach the limit.
    pub fn statistic(&self) -> f64 {
        self.ln_sum.exp().min(f64::MAX)
    }

    /// What a bet on every step has made of 1, as a power of ten.
    pub fn martingale_log10(&self) -> f64 {
        self.ln_martingale / std::f64::consts::LN_10
    }

    /// The last so many steps are those that the evidence comes from: since the
    /// martingale was lowest, from where on the bet that pays most is made.
    pub fn since_change(&self) -> usize {
        self.after_lowest
    }
}
