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

use crate::domain::feature::{FeatureDef, FeatureRow, Value};
use crate::domain::model::{Model, Scratch};
use crate::domain::train::lineage::hungarian;

/// Two segments match only if at least one in this number of rows in either is in both.
const ONE_IN: u64 = 3;
/// Resolution of indices and distances, which are rounded before comparison: 256 pairs fit into an
/// integer, and rounding errors decide nothing.
const INDEX_PARTS: f64 = (1_u64 << 22) as f64;
const DISTANCE_PARTS: f64 = (1_u64 << 21) as f64;
const DISTANCE_BITS: u32 = 30;
/// As in `Dataset`, the order of additions depends on the data alone.
const MIN_CHUNK_ROWS: usize = 1024;
const MAX_CHUNKS: usize = 64;

/// Contingency table of the old and new segments on the same rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlap {
    /// `members[old][new]`; the last index of either is "no segment".
    pub members: Vec<Vec<u64>>,
    /// `distances[old][new]`: from the mean of the new segment's members to the nearest prototype
    /// of the old segment.
    pub distances: Vec<Vec<f64>>,
}

/// Matches each new segment with an old segment, or `None`.
pub fn matches(overlap: &Overlap) -> Vec<Option<usize>> {
    let (old, new) = (overlap.old_segments(), overlap.new_segments());
    let (old_sizes, new_sizes) = (overlap.old_sizes(), overlap.new_sizes());
    let union = |o: usize, n: usize| old_sizes[o] + new_sizes[n] - overlap.members[o][n];
    let is_alike = |o: usize, n: usize| {
        overlap.members[o][n] > 0 && ONE_IN * overlap.members[o][n] >= union(o, n)
    };
    let pairs = (0..old).flat_map(|o| (0..new).map(move |n| (o, n)));
    let farthest = pairs
        .filter(|(o, n)| is_alike(*o, *n))
        .map(|(o, n)| overlap.distances[o][n])
        .fold(0.0, f64::max);
    let cost = |o: usize, n: usize| {
        if !is_alike(o, n) {
            return 0;
        }
        let index = overlap.members[o][n] as f64 / union(o, n) as f64;
        let index = (index * INDEX_PARTS).round() as i64;
        let nearness = overlap.distances[o][n] / farthest;
        let nearness = if nearness.is_finite() { nearness } else { 0.0 };
        // The index occupies the high bits, so distances only decide between equal indices.
        (nearness * DISTANCE_PARTS).round() as i64 - (index << DISTANCE_BITS)
    };
    let costs: Vec<Vec<i64>> = (0..new).map(|n| (0..old).map(|o| cost(o, n)).collect()).collect();
    let chosen = hungarian::cheapest(&costs).into_iter().enumerate();
    chosen.map(|(n, o)| o.filter(|o| is_alike(*o, n))).collect()
}

impl Overlap {
    /// `None` if `old` reads a feature that `new` does not have.
    pub(crate) fn measure(old: &Model, new: &Model, rows: &[FeatureRow]) -> Option<Self> {
        let reading = Reading::of(old, new.features())?;
        let chunk = rows.len().div_ceil(MAX_CHUNKS).max(MIN_CHUNK_ROWS);
        let parts: Vec<Sums> =
            rows.par_chunks(chunk).map(|rows| Sums::over(old, new, &reading, rows)).collect();
        let mut sums = Sums::none(old, new);
        for part in &parts {
            sums.add(part);
        }
        Some(sums.overlap(old))
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
        let size = |new: usize| self.members.iter().map(|of_old| of_old[new]).sum();
        (0..=self.new_segments()).map(size).collect()
    }
}

/// Adapter for scoring rows of another feature set: matches features by name.
struct Reading {
    /// Position of each feature; `None` for a feature without one.
    places: Vec<Option<usize>>,
}

impl Reading {
    fn of(model: &Model, defs: &[FeatureDef]) -> Option<Self> {
        let place = |name: &str| defs.iter().position(|def| &*def.name == name);
        let places: Vec<_> = model.features().iter().map(|def| place(&def.name)).collect();
        model.encoder().features().all(|read| places[read].is_some()).then_some(Self { places })
    }

    fn row(&self, row: &FeatureRow, out: &mut FeatureRow) {
        out.0.clear();
        let value = |place: &Option<usize>| place.and_then(|place| row.0.get(place)).cloned();
        out.0.extend(self.places.iter().map(|place| value(place).unwrap_or(Value::Missing)));
    }
}

/// Member counts, and sums of the members' vectors in the old model's metric space.
struct Sums {
    members: Vec<Vec<u64>>,
    vectors: Vec<Vec<f64>>,
}

impl Sums {
    fn none(old: &Model, new: &Model) -> Self {
        let width = old.form().prototypes().width();
        Self {
            members: vec![vec![0; new.segments().len() + 1]; old.segments().len() + 1],
            vectors: vec![vec![0.0; width]; new.segments().len()],
        }
    }

    fn over(old: &Model, new: &Model, reading: &Reading, rows: &[FeatureRow]) -> Self {
        let mut sums = Self::none(old, new);
        let (mut before, mut after) = (old.scratch(), Scratch::default());
        let (none_before, none_after) = (old.segments().len(), new.segments().len());
        let mut read = FeatureRow(Vec::new());
        for row in rows {
            reading.row(row, &mut read);
            let was = old.score(&read, &mut before).segment();
            let is = new.score(row, &mut after).segment();
            sums.members[was.unwrap_or(none_before)][is.unwrap_or(none_after)] += 1;
            if let Some(is) = is {
                for (sum, x) in sums.vectors[is].iter_mut().zip(old.place(&read, &mut before)) {
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

    fn overlap(self, old: &Model) -> Overlap {
        let distance = |prototype: &[f32], mean: &[f64]| -> f64 {
            prototype.iter().zip(mean).map(|(p, x)| (f64::from(*p) - x).powi(2)).sum()
        };
        let mut distances = vec![vec![f64::INFINITY; self.vectors.len()]; old.segments().len()];
        for (new, sums) in self.vectors.iter().enumerate() {
            let rows: u64 = self.members.iter().map(|of_old| of_old[new]).sum();
            let mean: Vec<f64> = sums.iter().map(|sum| sum / rows.max(1) as f64).collect();
            for (index, prototype) in old.form().prototypes().rows().enumerate() {
                let nearest = &mut distances[old.form().segment_of(index)][new];
                *nearest = nearest.min(distance(prototype, &mean));
            }
        }
        for distance in distances.iter_mut().flatten() {
            *distance = distance.sqrt();
        }
        Overlap { members: self.members, distances }
    }
}
