//! Mean, variance and correlation of a stream of numbers in one pass.

/// Number, mean and sum of squared deviations of the numbers so far. Updates and merges do not
/// lose digits as a sum of squares does (Welford, 1962; Chan, Golub and `LeVeque`, 1983).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunningMoments {
    pub rows: u64,
    pub mean: f64,
    /// Sum of the squared deviations from the mean.
    pub squares: f64,
    /// Numbers other than 0.
    pub non_zero: u64,
}

impl RunningMoments {
    pub fn add(&mut self, value: f64) {
        self.rows += 1;
        self.non_zero += u64::from(value != 0.0);
        let away = value - self.mean;
        self.mean += away / self.rows as f64;
        self.squares += away * (value - self.mean);
    }

    /// The moments of the numbers of both.
    #[must_use]
    pub fn merged_with(&self, other: &Self) -> Self {
        let rows = self.rows + other.rows;
        if rows == 0 {
            return Self::default();
        }
        let (all, own, others) = (rows as f64, self.rows as f64, other.rows as f64);
        let away = other.mean - self.mean;
        Self {
            rows,
            mean: self.mean + away * others / all,
            squares: self.squares + other.squares + away * away * own * others / all,
            non_zero: self.non_zero + other.non_zero,
        }
    }

    /// Variance with the denominator n; 0 without numbers.
    pub fn variance(&self) -> f64 {
        self.squares / (self.rows as f64).max(1.0)
    }
}

/// Moments of pairs of a predictor and an outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunningPairs {
    pub predictor: RunningMoments,
    pub outcome: RunningMoments,
    /// Sum of the products of the deviations from the means.
    products: f64,
}

impl RunningPairs {
    pub fn add(&mut self, predictor: f64, outcome: f64) {
        let away = predictor - self.predictor.mean;
        self.predictor.add(predictor);
        self.outcome.add(outcome);
        self.products += away * (outcome - self.outcome.mean);
    }

    /// The moments of the pairs of both.
    #[must_use]
    pub fn merged_with(&self, other: &Self) -> Self {
        let rows = (self.predictor.rows + other.predictor.rows) as f64;
        let (own, others) = (self.predictor.rows as f64, other.predictor.rows as f64);
        let away = other.predictor.mean - self.predictor.mean;
        let outcomes_away = other.outcome.mean - self.outcome.mean;
        Self {
            predictor: self.predictor.merged_with(&other.predictor),
            outcome: self.outcome.merged_with(&other.outcome),
            products: self.products
                + other.products
                + away * outcomes_away * own * others / rows.max(1.0),
        }
    }

    /// The adjusted R² of a linear regression of the outcome on the predictor. `None` with fewer
    /// than three pairs, and if either is constant.
    pub fn explained_share(&self) -> Option<f64> {
        let (rows, spread) = (self.outcome.rows as f64, self.predictor.squares);
        if rows < 3.0 || spread <= 0.0 || self.outcome.squares <= 0.0 {
            return None;
        }
        let r_squared = self.products * self.products / (spread * self.outcome.squares);
        Some(1.0 - (1.0 - r_squared) * (rows - 1.0) / (rows - 2.0))
    }
}
