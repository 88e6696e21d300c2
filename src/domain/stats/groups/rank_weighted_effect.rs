//! RATE: rank-weighted average treatment effect of a priority order.
//!
//! Yadlowsky, Fleming, Shah, Brunskill and Wager (2025), *Evaluating treatment prioritization rules
//! via rank-weighted average treatment effects*. The targeting operator characteristic TOC(q) is the
//! mean effect among the share q of rows with the highest priority, minus the mean effect of all rows.
//! RATE is its weighted integral over q: above 0 if the order puts rows with a larger effect first.

/// Weights of the targeting operator characteristic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankWeighting {
    /// Area under the curve: sensitive to a large effect among few rows.
    Autoc,
    /// Weight q, proportional to the Qini coefficient: sensitive to effects of many rows.
    Qini,
}

/// Rows of one group with the sum of their effect scores.
///
/// An effect score is an unbiased measurement of the treatment effect of one row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GroupScores {
    pub rows: u64,
    pub score_sum: f64,
}

impl GroupScores {
    /// Adds one row.
    pub fn observe(&mut self, score: f64) {
        self.rows += 1;
        self.score_sum += score;
    }

    /// Adds all rows of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.score_sum += other.score_sum;
    }

    /// Mean effect; `None` without rows.
    pub fn mean(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.score_sum / self.rows as f64)
    }
}

/// Groups by falling priority; groups of equal priority are merged.
///
/// `priorities`: one for each group. Groups without one come last, those with NaN first.
pub fn order_groups(groups: &[GroupScores], priorities: &[f64]) -> Vec<GroupScores> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|a, b| priority_of(*b, priorities).total_cmp(&priority_of(*a, priorities)));
    let mut merged: Vec<GroupScores> = Vec::new();
    let mut last_priority = f64::NAN;
    for group in order {
        match merged.last_mut() {
            // Priorities fall, so this means equal. By value, 0 and -0 are equal.
            Some(last) if last_priority <= priority_of(group, priorities) => {
                last.merge(&groups[group]);
            }
            _ => merged.push(groups[group]),
        }
        last_priority = priority_of(group, priorities);
    }
    merged
}

/// Priority of a group; lowest if it has none.
fn priority_of(group: usize, priorities: &[f64]) -> f64 {
    priorities.get(group).copied().unwrap_or(f64::NEG_INFINITY)
}

/// RATE of groups in the order of their priority; 0 without rows.
///
/// Rows of one group are tied: the result is the mean over all orders of the rows within the groups.
/// An estimate that ranks tied rows by their position would depend on how the rows are stored.
pub fn rank_weighted_effect(ordered: &[GroupScores], weighting: RankWeighting) -> f64 {
    let rows: u64 = ordered.iter().map(|group| group.rows).sum();
    if rows == 0 {
        return 0.0;
    }
    let total: f64 = ordered.iter().map(|group| group.score_sum).sum();
    let overall_mean = total / rows as f64;
    let (mut start, mut score_before, mut area) = (0, 0.0, 0.0);
    for group in ordered {
        let Some(mean) = group.mean() else { continue };
        let end = start + group.rows;
        let count = group.rows as f64;
        // The sum of scores rises linearly within a tie. Sums over the ranks j = start + 1 … end:
        area += match weighting {
            // (score_before + (j - start) mean) / j - overall_mean
            RankWeighting::Autoc => {
                let reciprocals = harmonic_number(end) - harmonic_number(start);
                (score_before - start as f64 * mean) * reciprocals + count * (mean - overall_mean)
            }
            // The same, times j / rows
            RankWeighting::Qini => {
                let within = mean * count * (count + 1.0) / 2.0;
                let ranks = (start + end + 1) as f64 * count / 2.0;
                (score_before * count + within - overall_mean * ranks) / rows as f64
            }
        };
        start = end;
        score_before += group.score_sum;
    }
    area / rows as f64
}

/// Harmonic number 1 + 1/2 + … + 1/n, for large n by the expansion of Euler and Maclaurin.
fn harmonic_number(n: u64) -> f64 {
    const EULER_MASCHERONI: f64 = 0.577_215_664_901_532_9;
    if n < 64 {
        return (1..=n).map(|term| 1.0 / term as f64).sum();
    }
    let n = n as f64;
    let square = 1.0 / (n * n);
    // The next term, 1 / (240 n⁸), is below the precision of a double.
    let rest = square * (1.0 / 12.0 - square * (1.0 / 120.0 - square / 252.0));
    n.ln() + EULER_MASCHERONI + 0.5 / n - rest
}
