//! Which new segment is which old one, by who is in both.
//!
//! The same rows are put into their segments by both models. Two segments can be
//! the same only if they share at least a third of all who are in either (their
//! Jaccard index); among these the pairs are chosen together, so that the sum of
//! the indices is greatest; of equally good choices the one whose members are
//! nearer to the old prototypes.
//!
//! A third: of two equally large segments that share half of each, or of one that
//! is cut in three equal parts, one still goes on. Below that the name would go on
//! with so few that they would be surprised by it.

use rayon::prelude::*;

use crate::domain::feature::{FeatureDef, FeatureRow, Value};
use crate::domain::model::{Model, Scratch};
use crate::domain::train::lineage::hungarian;

/// Of the members of either, at least one in so many must be shared for two
/// segments to be the same.
const ONE_IN: u64 = 3;
/// Indices and distances are rounded to these parts before they are compared:
/// 256 pairs fit into a whole number, and rounding errors decide nothing.
const INDEX_PARTS: f64 = (1_u64 << 22) as f64;
const DISTANCE_PARTS: f64 = (1_u64 << 21) as f64;
const DISTANCE_BITS: u32 = 30;
/// As with the pieces of `Dataset`, the order of additions depends on the data alone.
const MIN_CHUNK_ROWS: usize = 1024;
const MAX_CHUNKS: usize = 64;

/// Where the same rows are, before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlap {
    /// `members[old][new]`; the last of either are those in no segment.
    pub members: Vec<Vec<u64>>,
    /// `distances[old][new]`: from the mean of the new one's members to the nearest
    /// prototype of the old one.
    pub distances: Vec<Vec<f64>>,
}

/// The old segment that each new one is.
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
        (nearness * DISTANCE_PARTS).round() as i64 - (index << DISTANCE_BITS)
    };
    let costs: Vec<Vec<i64>> = (0..new).map(|n| (0..old).map(|o| cost(o, n)).collect()).collect();
    let chosen = hungarian::cheapest(&costs).into_iter().enumerate();
    chosen.map(|(n, o)| o.filter(|o| is_alike(*o, n))).collect()
}

impl Overlap {
    /// `None` where `old` reads a feature that `new` does not have.
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

/// How a model reads rows of a set that is not its own: features by name.
struct Reading {
    /// Where each of its features is; `None` for those it has no use for.
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

/// Counts, and sums of the vectors that the old model tells segments apart in.
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
