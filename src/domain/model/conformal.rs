//! How far from its prototype a customer may be: split-conformal calibration
//! on rows the clustering has not seen.
//!
//! A row's *strangeness* is its distance divided by its segment's scale. The
//! p-value of a new row is its rank among the strangeness of held-out rows, so
//! on unchanged data p ≤ alpha happens with probability alpha, whatever the
//! distribution (Vovk, Gammerman and Shafer 2005, *Algorithmic Learning in a
//! Random World*, proposition 4.1; Mondrian categories, section 4.5).

use serde::{Deserialize, Serialize};

/// A segment expected to have fewer held-out rows than this shares one
/// category with the other small ones. With 400 rows the limit for alpha =
/// 0.5 % rests on its two most extreme rows; with fewer than 199 none exists.
pub const MINIMUM_CATEGORY_ROWS: usize = 400;

/// Ranks 1…512 from the top are kept one by one, beyond them every
/// (1 + 1/512)th: p-values are exact below 512 / (n + 1) and at most 1/512
/// too large, relatively, above. Too large is the safe side: fewer flags.
const EXACT_RANKS: usize = 512;

/// The calibration of all segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Per segment: root mean square distance of its training rows; positive.
    scales: Vec<f32>,
    /// Per segment: its place in `categories`.
    category_of: Vec<usize>,
    categories: Vec<Ranks>,
}

/// The strangeness of one category's held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::domain) struct Ranks {
    /// Held-out rows in the category.
    rows: u32,
    /// Ascending values of strangeness…
    strangeness: Vec<f32>,
    /// …and how many rows are stranger than each.
    stranger: Vec<u32>,
}

impl Limits {
    /// `scales` and `expected_rows` (held-out rows expected from the training
    /// rows, so that categories do not depend on the calibration rows
    /// themselves) have one entry a segment; `held_out` is (segment, distance)
    /// with segments below their number.
    pub fn calibrate(scales: Vec<f32>, expected_rows: &[f64], held_out: &[(usize, f32)]) -> Self {
        let is_large = |rows: &f64| *rows >= MINIMUM_CATEGORY_ROWS as f64;
        let pooled = expected_rows.iter().filter(|rows| is_large(rows)).count();
        let mut next = 0..pooled;
        let category_of: Vec<usize> = expected_rows
            .iter()
            .map(|rows| if is_large(rows) { next.next().unwrap_or(pooled) } else { pooled })
            .collect();
        let count = category_of.iter().max().map_or(0, |last| last + 1);
        let mut members = vec![Vec::new(); count];
        for (segment, distance) in held_out {
            members[category_of[*segment]].push(distance / scales[*segment]);
        }
        let categories = members.into_iter().map(Ranks::of).collect();
        Self { scales, category_of, categories }
    }

    /// The conformal p-value (1 + #{held-out rows at least as strange}) / (rows + 1).
    pub fn p_value(&self, segment: usize, distance: f32) -> f64 {
        self.categories[self.category_of[segment]].p_value(distance / self.scales[segment])
    }

    /// The distance beyond which the p-value is at most `alpha`; infinite
    /// where the category has too few rows to tell.
    pub fn limit(&self, segment: usize, alpha: f64) -> f32 {
        self.categories[self.category_of[segment]].limit(alpha) * self.scales[segment]
    }

    pub(super) fn each_p_value(&self, each: &mut impl FnMut(f64, u32)) {
        for ranks in &self.categories {
            ranks.each_p_value(each);
        }
    }

    pub(super) fn scale(&self, segment: usize) -> f32 {
        self.scales[segment]
    }

    pub(super) fn is_sound(&self, segments: usize) -> bool {
        self.scales.len() == segments
            && self.category_of.len() == segments
            && self.category_of.iter().all(|category| *category < self.categories.len())
            && self.scales.iter().all(|scale| *scale > 0.0 && scale.is_finite())
            && self.categories.iter().all(Ranks::is_sound)
    }
}

impl Ranks {
    pub(in crate::domain) fn of(mut strangeness: Vec<f32>) -> Self {
        strangeness.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut kept =
            Self { rows: strangeness.len() as u32, strangeness: vec![], stranger: vec![] };
        let mut rank = 0;
        while let Some(value) = strangeness.get(rank) {
            // Equal values count as one, ranked by the strangest.
            let first = strangeness.partition_point(|other| other > value);
            if kept.strangeness.last() != Some(value) {
                kept.strangeness.push(*value);
                kept.stranger.push(first as u32);
            }
            rank += 1 + rank / EXACT_RANKS;
        }
        kept.strangeness.reverse();
        kept.stranger.reverse();
        kept
    }

    pub(in crate::domain) fn p_value(&self, strangeness: f32) -> f64 {
        let below = self.strangeness.partition_point(|known| *known < strangeness);
        let at_least = match below.checked_sub(1) {
            Some(nearest_below) => self.stranger[nearest_below],
            None => self.rows,
        };
        p(at_least, self.rows)
    }

    /// The p-values there are, and the held-out rows that a new one like them has
    /// it from.
    pub(super) fn each_p_value(&self, each: &mut impl FnMut(f64, u32)) {
        let mut at_least = self.rows;
        for stranger in &self.stranger {
            each(p(at_least, self.rows), at_least - stranger);
            at_least = *stranger;
        }
    }

    pub(super) fn limit(&self, alpha: f64) -> f32 {
        let first = self.stranger.partition_point(|stranger| p(*stranger, self.rows) > alpha);
        self.strangeness.get(first).copied().unwrap_or(f32::INFINITY)
    }

    pub(super) fn is_sound(&self) -> bool {
        self.strangeness.len() == self.stranger.len()
            && self.strangeness.is_sorted_by(|a, b| a < b)
            && self.strangeness.iter().all(|value| value.is_finite() && *value >= 0.0)
            && self.stranger.is_sorted_by(|a, b| a > b)
            && self.stranger.iter().all(|stranger| *stranger < self.rows)
    }
}

fn p(at_least_as_strange: u32, rows: u32) -> f64 {
    (1.0 + f64::from(at_least_as_strange)) / (1.0 + f64::from(rows))
}

/// The one of `bins` equal bins that `p` is in: bin i holds i / bins < p ≤ (i + 1) / bins.
pub(in crate::domain) fn p_value_bin(p: f64, bins: usize) -> usize {
    ((p * bins as f64).ceil() as usize).clamp(1, bins) - 1
}
