//! Streaming moments of a metric: one pass, mergeable, no stored rows.

/// Columns of which means and covariances are accumulated.
const COLUMNS: usize = 3;

/// Result of one exposed customer.
///
/// Every exposed customer counts once, also without any activity: leaving out customers without
/// activity would compare different kinds of customers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CustomerOutcome {
    /// Metric, or the numerator of a ratio metric; 0 or 1 for a proportion.
    pub metric: f64,
    /// Denominator of a ratio metric; 1 for a mean or a proportion.
    pub denominator: f64,
    /// Covariate from before the exposure; 0 for every customer if none is used. A customer without
    /// history takes a fixed value, the same in all variations.
    pub covariate: f64,
}

impl CustomerOutcome {
    /// Outcome of a mean metric or a proportion.
    pub const fn new(metric: f64, covariate: f64) -> Self {
        Self { metric, denominator: 1.0, covariate }
    }
}

/// Column of [`MetricMoments`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MomentColumn {
    Metric,
    Denominator,
    Covariate,
}

/// Count, means and co-moments of metric, denominator and covariate.
///
/// Updated by the method of Welford (1962) and merged by that of Chan, Golub and `LeVeque` (1983),
/// which do not lose precision when means are large against deviations.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MetricMoments {
    customers: u64,
    means: [f64; COLUMNS],
    /// Sums of products of deviations from the means; symmetric.
    products: [[f64; COLUMNS]; COLUMNS],
}

impl MetricMoments {
    /// Adds one customer.
    pub fn observe(&mut self, outcome: &CustomerOutcome) {
        let CustomerOutcome { metric, denominator, covariate } = *outcome;
        self.merge(&Self {
            customers: 1,
            means: [metric, denominator, covariate],
            products: [[0.0; COLUMNS]; COLUMNS],
        });
    }

    /// Adds all customers of `other`.
    pub fn merge(&mut self, other: &Self) {
        let customers = self.customers + other.customers;
        if other.customers == 0 {
            return;
        }
        let other_share = other.customers as f64 / customers as f64;
        let weight = self.customers as f64 * other_share;
        let mut distance = [0.0; COLUMNS];
        for (column, distance) in distance.iter_mut().enumerate() {
            *distance = other.means[column] - self.means[column];
        }
        for row in 0..COLUMNS {
            self.means[row] += distance[row] * other_share;
            for column in 0..COLUMNS {
                self.products[row][column] +=
                    other.products[row][column] + distance[row] * distance[column] * weight;
            }
        }
        self.customers = customers;
    }

    /// Customers observed.
    pub const fn customers(&self) -> u64 {
        self.customers
    }

    /// Mean of a column; 0 without customers.
    pub const fn mean(&self, column: MomentColumn) -> f64 {
        self.means[column as usize]
    }

    /// Sample covariance of two columns (divided by n - 1); 0 for fewer than two customers.
    pub fn covariance(&self, first: MomentColumn, second: MomentColumn) -> f64 {
        if self.customers < 2 {
            return 0.0;
        }
        self.products[first as usize][second as usize] / (self.customers - 1) as f64
    }

    /// Standard deviation between customers, as a plan needs it; of the linearised metric for a ratio
    /// metric. NaN without a mean of the denominators.
    pub fn standard_deviation(&self) -> f64 {
        self.linearised_variance().sqrt()
    }

    /// Ratio of the means of metric and denominator: the mean of a metric with denominators of 1.
    pub(super) fn ratio(&self) -> f64 {
        self.mean(MomentColumn::Metric) / self.mean(MomentColumn::Denominator)
    }

    /// Sample variance of the linearised metric (y - R d) / mean(d), where R is the ratio: the delta
    /// method (Deng, Knoblich and Lu 2018, *Applying the delta method in metric analytics*).
    pub(super) fn linearised_variance(&self) -> f64 {
        use MomentColumn::{Denominator, Metric};
        let (ratio, denominator) = (self.ratio(), self.mean(Denominator));
        let variance = self.covariance(Metric, Metric)
            - 2.0 * ratio * self.covariance(Metric, Denominator)
            + ratio * ratio * self.covariance(Denominator, Denominator);
        // Rounding can leave a negative rest of a constant metric.
        variance.max(0.0) / (denominator * denominator)
    }

    /// Sample covariance of the linearised metric and the covariate.
    pub(super) fn linearised_covariance(&self) -> f64 {
        use MomentColumn::{Covariate, Denominator, Metric};
        let covariance = self.covariance(Metric, Covariate)
            - self.ratio() * self.covariance(Denominator, Covariate);
        covariance / self.mean(Denominator)
    }
}
