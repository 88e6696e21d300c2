//! Split conformal calibration of outlier limits, on rows that the clustering has not seen.
//!
//! The *strangeness* (nonconformity measure) of a row is its distance divided by the scale
//! of its segment. The p-value of a new row is its rank among the strangeness of held-out
//! rows. So on unchanged data p ≤ alpha has probability alpha, whatever the distribution
//! (Vovk, Gammerman and Shafer 2005, *Algorithmic Learning in a Random World*, proposition
//! 4.1; Mondrian categories, section 4.5).

use serde::{Deserialize, Serialize};

use crate::domain::model::sorted_values::SortedValues;

/// Held-out rows from which a segment has a category of its own; segments expected to have
/// fewer share one. With 400 rows the limit for alpha = 0.5 % rests on the two most extreme
/// rows; with fewer than 199 there is none.
pub const MINIMUM_CATEGORY_ROWS: usize = 400;

/// Ranks 1…512 from the top are stored one by one; beyond them the step grows by one every
/// 512 ranks. p-values are exact below 512 / (n + 1), and above at most 1/512 too large,
/// relatively. Too large is the safe side: fewer flags.
const EXACT_RANKS: usize = 512;

/// Calibrated distance limits of all segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConformalLimits {
    /// Per segment: root mean square distance of its training rows; positive.
    scales: Vec<f32>,
    /// Per segment: its index in `categories`.
    category_of: Vec<usize>,
    categories: Vec<ConformalRanks>,
}

/// Empirical distribution of the strangeness of held-out rows, compressed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::domain) struct ConformalRanks {
    /// Held-out rows in the category.
    rows: u32,
    /// Strangeness of the stored ranks, ascending.
    strangeness: SortedValues,
    /// Number of rows stranger than each stored value.
    stranger: Vec<u32>,
}

impl ConformalLimits {
    /// Calibrates the limits on the `held_out` rows, given as (segment, distance).
    ///
    /// `scales` and `expected_rows` have one entry per segment. `expected_rows` are the
    /// held-out rows expected from the training rows: categories must not depend on the
    /// calibration rows themselves, or the guarantee is lost.
    pub fn calibrate(scales: Vec<f32>, expected_rows: &[f64], held_out: &[(usize, f32)]) -> Self {
        // Large segments get the categories 0, 1, …; the small ones share the one after.
        let pooled = expected_rows.iter().filter(|rows| has_own_category(**rows)).count();
        let mut next = 0;
        let mut category_of = Vec::with_capacity(expected_rows.len());
        for rows in expected_rows {
            category_of.push(if has_own_category(*rows) { next } else { pooled });
            next += usize::from(has_own_category(*rows));
        }
        let count = category_of.iter().max().map_or(0, |last| last + 1);
        let mut members = vec![Vec::new(); count];
        for (segment, distance) in held_out {
            members[category_of[*segment]].push(distance / scales[*segment]);
        }
        let categories = members.into_iter().map(ConformalRanks::from_held_out).collect();
        Self { scales, category_of, categories }
    }

    /// The conformal p-value (1 + #{held-out rows at least as strange}) / (rows + 1).
    pub fn p_value(&self, segment: usize, distance: f32) -> f64 {
        self.categories[self.category_of[segment]].p_value(distance / self.scales[segment])
    }

    /// The distance beyond which the p-value is at most `alpha`; infinite if the category
    /// has too few rows.
    pub fn distance_limit(&self, segment: usize, alpha: f64) -> f32 {
        self.categories[self.category_of[segment]].limit(alpha) * self.scales[segment]
    }

    pub(super) fn scale(&self, segment: usize) -> f32 {
        self.scales[segment]
    }

    pub(super) fn is_sound(&self, segments: usize) -> bool {
        self.scales.len() == segments
            && self.category_of.len() == segments
            && self.category_of.iter().all(|category| *category < self.categories.len())
            && self.scales.iter().all(|scale| *scale > 0.0 && scale.is_finite())
            && self.categories.iter().all(ConformalRanks::is_sound)
    }
}

impl ConformalRanks {
    pub(in crate::domain) fn from_held_out(mut held_out: Vec<f32>) -> Self {
        held_out.sort_unstable_by(|a, b| b.total_cmp(a));
        let (mut strangeness, mut stranger) = (Vec::new(), Vec::new());
        let mut rank = 0;
        while let Some(value) = held_out.get(rank) {
            // Ties share one entry, with the rank of the strangest.
            let first = held_out.partition_point(|other| other > value);
            if strangeness.last() != Some(value) {
                strangeness.push(*value);
                stranger.push(first as u32);
            }
            rank += 1 + rank / EXACT_RANKS;
        }
        strangeness.reverse();
        stranger.reverse();
        Self { rows: held_out.len() as u32, strangeness: strangeness.into(), stranger }
    }

    /// The conformal p-value. Between stored ranks the next larger rank applies.
    pub(in crate::domain) fn p_value(&self, strangeness: f32) -> f64 {
        let below = self.strangeness.count_below(strangeness);
        let at_least = match below.checked_sub(1) {
            Some(nearest_below) => self.stranger[nearest_below],
            None => self.rows,
        };
        p(at_least, self.rows)
    }

    /// The p-value of a row stranger than every calibrating row.
    pub(super) fn smallest_p_value(&self) -> f64 {
        p(0, self.rows)
    }

    pub(super) fn limit(&self, alpha: f64) -> f32 {
        let first = self.stranger.partition_point(|stranger| p(*stranger, self.rows) > alpha);
        self.strangeness.as_slice().get(first).copied().unwrap_or(f32::INFINITY)
    }

    pub(super) fn is_sound(&self) -> bool {
        let strangeness = self.strangeness.as_slice();
        strangeness.len() == self.stranger.len()
            && strangeness.is_sorted_by(|a, b| a < b)
            && strangeness.iter().all(|value| value.is_finite() && *value >= 0.0)
            && self.stranger.is_sorted_by(|a, b| a > b)
            && self.stranger.iter().all(|stranger| *stranger < self.rows)
    }
}

fn has_own_category(expected_rows: f64) -> bool {
    expected_rows >= MINIMUM_CATEGORY_ROWS as f64
}

/// The conformal p-value; the new row itself counts as one of the rows.
fn p(at_least_as_strange: u32, rows: u32) -> f64 {
    (1.0 + f64::from(at_least_as_strange)) / (1.0 + f64::from(rows))
}

/// Equal bins of p-values in drift detection: bin i holds i / 20 < p ≤ (i + 1) / 20.
pub const P_VALUE_BINS: usize = 20;

/// Index of the bin of `p` among `bins` equal bins: i / bins < p ≤ (i + 1) / bins.
pub(in crate::domain) fn p_value_bin(p: f64, bins: usize) -> usize {
    ((p * bins as f64).ceil() as usize).clamp(1, bins) - 1
}
