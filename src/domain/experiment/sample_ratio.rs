//! Sample-ratio mismatch (SRM): variations with other numbers of customers than planned.
//!
//! Fabijan et al. (2019), *Diagnosing sample ratio mismatch in online controlled experiments*. A
//! mismatch means that customers are lost or added depending on the variation, so that the variations
//! have different kinds of customers and no effect can be trusted.

use crate::domain::stats::special::chi_square_upper_tail;

/// P-value below which a ratio is a mismatch. Small, because the test is repeated with each update of
/// the results.
pub const MISMATCH_P_VALUE: f64 = 0.001;
/// Fewest expected customers of a variation for the chi-square approximation (Cochran 1954).
const LEAST_EXPECTED: f64 = 5.0;

/// Conclusion of a test of the sample ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleRatioVerdict {
    Balanced,
    Mismatched,
    /// A variation has fewer than 5 expected customers.
    TooFewCustomers,
}

/// Pearson's chi-square test (1900) of the numbers of customers against the planned shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRatioTest {
    pub customers: u64,
    pub chi_square: f64,
    pub p_value: f64,
    pub verdict: SampleRatioVerdict,
}

/// Tests of the sample ratio of one experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRatioReport {
    pub overall: SampleRatioTest,
    /// One test a segment; the limit of the p-value is divided by the number of tests (Bonferroni).
    pub by_segment: Vec<SampleRatioTest>,
    /// One test a day of exposure; likewise.
    pub by_day: Vec<SampleRatioTest>,
}

/// Numbers of exposed customers, each with one entry a variation.
#[derive(Debug, Clone, Copy)]
pub struct ExposureCounts<'a> {
    pub overall: &'a [u64],
    pub by_segment: &'a [Vec<u64>],
    pub by_day: &'a [Vec<u64>],
}

impl SampleRatioReport {
    /// Tests the counts overall, by segment and by day. `expected_shares`: of the variations, as by
    /// `VariationAssigner::expected_shares`.
    pub fn check(counts: &ExposureCounts<'_>, expected_shares: &[f64]) -> Self {
        let mut overall = SampleRatioTest::measure(counts.overall, expected_shares);
        overall.conclude(MISMATCH_P_VALUE);
        Self {
            overall,
            by_segment: check_family(counts.by_segment, expected_shares),
            by_day: check_family(counts.by_day, expected_shares),
        }
    }

    /// Any mismatch. By chance, one look at a sound experiment finds one with a probability of at most
    /// 0.3 %.
    pub fn is_mismatched(&self) -> bool {
        self.overall.is_mismatched()
            || self.mismatched_segments().next().is_some()
            || self.mismatched_days().next().is_some()
    }

    /// Indices of the mismatched segments.
    pub fn mismatched_segments(&self) -> impl Iterator<Item = usize> {
        mismatched_indices(&self.by_segment)
    }

    /// Indices of the mismatched days.
    pub fn mismatched_days(&self) -> impl Iterator<Item = usize> {
        mismatched_indices(&self.by_day)
    }
}

fn mismatched_indices(tests: &[SampleRatioTest]) -> impl Iterator<Item = usize> {
    let numbered = tests.iter().enumerate();
    numbered.filter(|(_, test)| test.is_mismatched()).map(|(index, _)| index)
}

fn check_family(counts: &[Vec<u64>], expected_shares: &[f64]) -> Vec<SampleRatioTest> {
    let mut tests: Vec<SampleRatioTest> =
        counts.iter().map(|one| SampleRatioTest::measure(one, expected_shares)).collect();
    let is_tested = |test: &&SampleRatioTest| test.verdict != SampleRatioVerdict::TooFewCustomers;
    let limit = MISMATCH_P_VALUE / tests.iter().filter(is_tested).count().max(1) as f64;
    for test in &mut tests {
        test.conclude(limit);
    }
    tests
}

impl SampleRatioTest {
    /// Checks for a mismatch.
    pub fn is_mismatched(&self) -> bool {
        self.verdict == SampleRatioVerdict::Mismatched
    }

    /// The verdict is preliminary: it does not compare the p-value with a limit.
    fn measure(counts: &[u64], expected_shares: &[f64]) -> Self {
        let customers: u64 = counts.iter().sum();
        let total_share: f64 = expected_shares.iter().sum();
        let (mut chi_square, mut least_expected, mut cells) = (0.0, f64::INFINITY, 0_u32);
        for (count, share) in counts.iter().zip(expected_shares) {
            let expected = customers as f64 * share / total_share;
            if expected > 0.0 {
                chi_square += (*count as f64 - expected).powi(2) / expected;
                least_expected = least_expected.min(expected);
                cells += 1;
            } else if *count > 0 {
                // Customers in a variation without a share: a certain mismatch.
                chi_square = f64::INFINITY;
            }
        }
        let degrees = f64::from(cells.max(2) - 1);
        let p_value =
            if chi_square.is_finite() { chi_square_upper_tail(chi_square, degrees) } else { 0.0 };
        let has_enough = customers > 0 && least_expected >= LEAST_EXPECTED;
        let verdict = if has_enough {
            SampleRatioVerdict::Balanced
        } else {
            SampleRatioVerdict::TooFewCustomers
        };
        Self { customers, chi_square, p_value, verdict }
    }

    /// Decides by the limit of the p-value.
    fn conclude(&mut self, limit: f64) {
        if self.verdict == SampleRatioVerdict::Balanced && self.p_value < limit {
            self.verdict = SampleRatioVerdict::Mismatched;
        }
    }
}
