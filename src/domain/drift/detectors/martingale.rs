//! Test martingale and Shiryaev-Roberts procedure: sequential change detection by betting
//! against "nothing has changed".
//!
//! Each step's p-value is turned into an e-value, the payout of a fair bet of 1: at most 1
//! on average while nothing changes (Vovk and Wang 2021, *E-values: calibration,
//! combination and applications*). The product of the e-values is a test martingale. The
//! Shiryaev-Roberts procedure places a new bet at each step and adds all bets up. Its sum R
//! less the number of steps has mean 0 while nothing changes, so the mean time until R
//! reaches c is at least c (Vovk et al. 2021, *Retrain or not retrain*; Shin, Ramdas and
//! Rinaldo 2023, *E-detectors*).
//!
//! All values are logarithms: one bet can pay more than a float can represent.

/// Below this −ln p the e-value comes from its power series.
const SMALL: f64 = 1e-3;

/// ln of the e-value of a p-value given as ln p, by the mixture calibrator: the mean of
/// κ p^(κ − 1) over κ in (0, 1), which is (1 − p + p ln p) / (p ln² p). It is 1/2 at p = 1.
pub fn ln_e_value(ln_p: f64) -> f64 {
    // In t = −ln p it is (e^t − 1 − t) / t².
    let t = (-ln_p).max(0.0);
    if t < SMALL {
        return (0.5 + t / 6.0 + t * t / 24.0).ln();
    }
    // For large t the factor e^t would overflow: add t to the logarithm instead.
    if t < 1.0 {
        return ((t.exp_m1() - t) / (t * t)).ln();
    }
    t + (-(1.0 + t) * (-t).exp()).ln_1p() - 2.0 * t.ln()
}

/// The Shiryaev-Roberts procedure, and the plain test martingale beside it.
#[derive(Debug, Clone)]
pub struct ShiryaevRoberts {
    ln_limit: f64,
    /// ln R; −∞ at the start.
    ln_sum: f64,
    /// Martingale over all steps ever.
    ln_martingale: f64,
    /// Martingale since the last alarm.
    ln_here: f64,
    /// Its lowest value.
    ln_lowest: f64,
    /// Steps since its lowest value.
    after_lowest: usize,
    is_alarm: bool,
}

impl ShiryaevRoberts {
    /// The mean time between false alarms is at least `limit` steps.
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

    /// Adds the p-value of one step, as ln p; returns whether it raises an alarm. After an
    /// alarm the procedure restarts; the plain martingale continues.
    pub fn step(&mut self, ln_p: f64) -> bool {
        if self.is_alarm {
            *self = Self::begin(self.ln_limit, self.ln_martingale);
        }
        let ln_e = ln_e_value(ln_p);
        // ln(R + 1) without overflow, as ln(max) + ln(1 + e^−|difference|).
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

    /// The statistic R, in steps; an alarm is raised when it reaches the limit.
    pub fn statistic(&self) -> f64 {
        self.ln_sum.exp().min(f64::MAX)
    }

    /// log₁₀ of the test martingale over all steps.
    pub fn martingale_log10(&self) -> f64 {
        self.ln_martingale / std::f64::consts::LN_10
    }

    /// Number of steps since the change: since the minimum of the martingale, where the
    /// most profitable bet starts.
    pub(crate) fn since_change(&self) -> usize {
        self.after_lowest
    }
}
