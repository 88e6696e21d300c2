//! Matching of new and old segments by their common members.
//!
//! Both models score the same rows. Two segments can be the same only if they share at least a
//! third of all rows in either (Jaccard index). Among these pairs the assignment with the largest
//! sum of indices is chosen; of equally good assignments the one with the new members nearer to
//! the old prototypes.
//!
//! Reason for a third: two equally large segments that share half of each have index 1/3, and so
//! does a segment divided in three equal parts with each part; there one still inherits the name.
//! Below it the name would go to a segment with few of its former members.

use rayon::prelude::*;

use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue};
use crate::domain::model::{Model, ScoringScratch};
use crate::domain::train::lineage::hungarian;

/// Two segments match only if at least one in this number of rows in either is in both.
const SHARED_ONE_IN: u64 = 3;
/// Resolution of indices and distances, which are rounded before comparison: 256 pairs fit into an
/// integer, and rounding errors decide nothing.
const INDEX_PARTS: f64 = (1_u64 << 22) as f64;
const DISTANCE_PARTS: f64 = (1_u64 << 21) as f64;
const DISTANCE_BITS: u32 = 30;
/// As in `EncodedDataset`, the order of additions depends on the data alone.
const MIN_CHUNK_ROWS: usize = 1024;
const MAX_CHUNKS: usize = 64;

/// Contingency table of the old and new segments on the same rows.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberOverlap {
    /// `members[old][new]`; the last index of either is "no segment".
    pub members: Vec<Vec<u64>>,
    /// `distances[old][new]`: from the mean of the new segment's members to the nearest prototype
    /// of the old segment.
    pub distances: Vec<Vec<f64>>,
}

/// Matches each new segment with an old segment, or `None`.
pub fn match_segments(overlap: &MemberOverlap) -> Vec<Option<usize>> {
    let candidates = CandidatePairs::of(overlap);
    let (old, new) = (overlap.old_segments(), overlap.new_segments());
    let mut costs = vec![vec![0_i64; old]; new];
    for (n, costs) in costs.iter_mut().enumerate() {
        for (o, cost) in costs.iter_mut().enumerate() {
            *cost = candidates.cost(o, n);
        }
    }
    let chosen = hungarian::least_cost_assignment(&costs).into_iter().enumerate();
    chosen.map(|(n, o)| o.filter(|o| candidates.jaccard(*o, n).is_some())).collect()
}

/// Pairs of an old and a new segment that are similar enough to match.
struct CandidatePairs<'a> {
    overlap: &'a MemberOverlap,
    old_sizes: Vec<u64>,
    new_sizes: Vec<u64>,
    /// Largest distance of a candidate pair.
    farthest: f64,
}

impl<'a> CandidatePairs<'a> {
    fn of(overlap: &'a MemberOverlap) -> Self {
        let (old_sizes, new_sizes) = (overlap.old_sizes(), overlap.new_sizes());
        let mut candidates = Self { overlap, old_sizes, new_sizes, farthest: 0.0 };
        for o in 0..overlap.old_segments() {
            for n in 0..overlap.new_segments() {
                if candidates.jaccard(o, n).is_some() {
                    candidates.farthest = candidates.farthest.max(overlap.distances[o][n]);
                }
            }
        }
        candidates
    }

    /// Jaccard index of a candidate pair; `None` below the limit.
    fn jaccard(&self, o: usize, n: usize) -> Option<f64> {
        let shared = self.overlap.members[o][n];
        let union = self.old_sizes[o] + self.new_sizes[n] - shared;
        (shared > 0 && SHARED_ONE_IN * shared >= union).then(|| shared as f64 / union as f64)
    }

    /// Cost of matching a pair: less for a larger index, then for a smaller distance.
    fn cost(&self, o: usize, n: usize) -> i64 {
        let Some(index) = self.jaccard(o, n) else { return 0 };
        let index = (index * INDEX_PARTS).round() as i64;
        let distance = self.overlap.distances[o][n] / self.farthest;
        let distance = if distance.is_finite() { distance } else { 0.0 };
        // The index occupies the high bits, so distances only decide between equal indices.
        (distance * DISTANCE_PARTS).round() as i64 - (index << DISTANCE_BITS)
    }
}

impl MemberOverlap {
    /// `None` if `old` reads a feature that `new` does not have.
    pub(crate) fn measure(old: &Model, new: &Model, rows: &[FeatureRow]) -> Option<Self> {
        let reading = FeatureAdapter::of(old, new.features())?;
        let chunk = rows.len().div_ceil(MAX_CHUNKS).max(MIN_CHUNK_ROWS);
        let parts: Vec<OverlapSums> = rows
            .par_chunks(chunk)
            .map(|rows| OverlapSums::of_rows(old, new, &reading, rows))
            .collect();
        let mut sums = OverlapSums::empty(old, new);
        for part in &parts {
            sums.add(part);
        }
        Some(sums.into_overlap(old))
    }

    fn old_segments(&self) -> usize {
        self.members.len().saturating_sub(1)
    }

    fn new_segments(&self) -> usize {
        self.members.first().map_or(0, Vec::len).saturating_sub(1)
    }

    pub(crate) fn old_sizes(&self) -> Vec<u64> {
        self.members.iter().map(|of_old| of_old.iter().sum()).collect()
    }

    pub(crate) fn new_sizes(&self) -> Vec<u64> {
        (0..=self.new_segments())
            .map(|new| self.members.iter().map(|of_old| of_old[new]).sum())
            .collect()
    }
}

/// Adapter for scoring rows of another feature set: matches features by name.
struct FeatureAdapter {
    /// Position of each feature; `None` for a feature without one.
    places: Vec<Option<usize>>,
}

impl FeatureAdapter {
    fn of(model: &Model, defs: &[FeatureDefinition]) -> Option<Self> {
        let places: Vec<Option<usize>> = model
            .features()
            .iter()
            .map(|own| defs.iter().position(|def| def.name == own.name))
            .collect();
        model
            .encoder()
            .feature_indices()
            .all(|read| places[read].is_some())
            .then_some(Self { places })
    }

    fn translate(&self, row: &FeatureRow, out: &mut FeatureRow) {
        out.0.clear();
        for place in &self.places {
            let value = place.and_then(|place| row.0.get(place)).cloned();
            out.0.push(value.unwrap_or(FeatureValue::Missing));
        }
    }
}

/// Member counts, and sums of the members' vectors in the old model's metric space.
struct OverlapSums {
    members: Vec<Vec<u64>>,
    vectors: Vec<Vec<f64>>,
}

impl OverlapSums {
    fn empty(old: &Model, new: &Model) -> Self {
        let width = old.decision_function().prototypes().width();
        Self {
            members: vec![vec![0; new.segments().len() + 1]; old.segments().len() + 1],
            vectors: vec![vec![0.0; width]; new.segments().len()],
        }
    }

    fn of_rows(old: &Model, new: &Model, reading: &FeatureAdapter, rows: &[FeatureRow]) -> Self {
        let mut sums = Self::empty(old, new);
        let (mut before, mut after) = (old.scratch(), ScoringScratch::default());
        let (none_before, none_after) = (old.segments().len(), new.segments().len());
        let mut read = FeatureRow(Vec::new());
        for row in rows {
            reading.translate(row, &mut read);
            let old_segment = old.score(&read, &mut before).segment();
            let new_segment = new.score(row, &mut after).segment();
            sums.members[old_segment.unwrap_or(none_before)][new_segment.unwrap_or(none_after)] +=
                1;
            if let Some(segment) = new_segment {
                for (sum, x) in
                    sums.vectors[segment].iter_mut().zip(old.decision_vector(&read, &mut before))
                {
                    *sum += f64::from(*x);
                }
            }
        }
        sums
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in self.members.iter_mut().flatten().zip(other.members.iter().flatten()) {
            *sum += more;
        }
        for (sum, more) in self.vectors.iter_mut().flatten().zip(other.vectors.iter().flatten()) {
            *sum += more;
        }
    }

    fn into_overlap(self, old: &Model) -> MemberOverlap {
        let mut distances = vec![vec![f64::INFINITY; self.vectors.len()]; old.segments().len()];
        for (new, sums) in self.vectors.iter().enumerate() {
            let rows: u64 = self.members.iter().map(|of_old| of_old[new]).sum();
            let mean: Vec<f64> = sums.iter().map(|sum| sum / rows.max(1) as f64).collect();
            for (index, prototype) in old.decision_function().prototypes().rows().enumerate() {
                let nearest = &mut distances[old.decision_function().segment_of(index)][new];
                let pairs = prototype.iter().zip(&mean);
                *nearest = nearest.min(pairs.map(|(p, x)| (f64::from(*p) - x).powi(2)).sum());
            }
        }
        for distance in distances.iter_mut().flatten() {
            *distance = distance.sqrt();
        }
        MemberOverlap { members: self.members, distances }
    }
}
