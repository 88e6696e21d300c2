//! Minimum spanning tree under mutual reachability distance, by Borůvka's algorithm (1926).
//!
//! The mutual reachability distance of two rows is the maximum of their distance and their two
//! core distances (Campello, Moulavi and Sander 2013). Each round joins every part of the forest
//! to its nearest other part. The nearest row outside a row's part remains the nearest until its
//! own part joins, so most rows are searched only a few times.

use ndarray::Array1;
use rayon::prelude::*;

use crate::domain::train::clustering::density::kd_tree::{KdTree, NearestRows, NeighbourCollector};
use crate::domain::train::{TrainingError, TrainingProgress};

/// Rows per task; fixed, so that the result does not depend on the number of threads.
const TASK_ROWS: usize = 256;

/// An edge between two positions of the tree, with the squared mutual reachability distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TreeEdge {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) squared: f64,
}

/// Union-find (disjoint sets) over positions: union by size, path halving.
#[derive(Debug, Clone)]
pub(crate) struct UnionFind {
    parent: Vec<u32>,
    size: Vec<u32>,
}

impl UnionFind {
    /// One part per position.
    pub(crate) fn new(count: usize) -> Self {
        Self { parent: (0..count as u32).collect(), size: vec![1; count] }
    }

    /// Root of the part that contains `position`.
    pub(crate) fn find(&mut self, position: u32) -> u32 {
        let mut position = position as usize;
        while self.parent[position] as usize != position {
            self.parent[position] = self.parent[self.parent[position] as usize];
            position = self.parent[position] as usize;
        }
        position as u32
    }

    /// Unites the parts of `a` and `b`; returns whether they were separate.
    pub(crate) fn unite(&mut self, a: u32, b: u32) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return false;
        }
        let (small, large) =
            if self.size[a as usize] < self.size[b as usize] { (a, b) } else { (b, a) };
        self.parent[small as usize] = large;
        self.size[large as usize] += self.size[small as usize];
        true
    }
}

/// Squared core distance of each position: the distance to its nearest row number `samples`,
/// itself included.
pub(crate) fn core_distances(tree: &KdTree, columns: usize, samples: usize) -> Vec<f64> {
    let mut cores = vec![0.0; tree.rows.len()];
    cores.par_chunks_mut(TASK_ROWS).enumerate().for_each(|(task, cores)| {
        let mut nearest = NearestRows::new(samples);
        let mut point = vec![0.0; columns];
        for (offset, core) in cores.iter_mut().enumerate() {
            tree.copy(task * TASK_ROWS + offset, &mut point);
            tree.search(&point, &mut nearest);
            *core = nearest.take_distance();
        }
    });
    cores
}

/// Edges of the minimum spanning tree: one less than there are positions.
pub(crate) fn spanning_tree(
    tree: &KdTree,
    columns: usize,
    cores: &[f64],
    progress: &dyn TrainingProgress,
) -> Result<Vec<TreeEdge>, TrainingError> {
    let count = cores.len();
    let mut parts = UnionFind::new(count);
    let mut edges = Vec::with_capacity(count.saturating_sub(1));
    let least_core = least_core_of_nodes(tree, cores);
    // The nearest position in another part, as far as known: its distance is at least `least`,
    // and equals it while `other` is in another part.
    let mut least = cores.to_vec();
    let mut other = vec![u32::MAX; count];
    while edges.len() + 1 < count {
        if progress.should_stop() {
            return Err(TrainingError::Stopped);
        }
        let part_of: Array1<u32> = (0..count as u32).map(|position| parts.find(position)).collect();
        let part_of = part_of.as_slice().unwrap_or_default();
        let part_of_node = parts_of_nodes(tree, part_of);
        // Upper bound for each part: the best edge that is still valid from earlier rounds.
        let mut bound = vec![f64::INFINITY; count];
        for position in (0..count).filter(|position| is_foreign(*position, &other, part_of)) {
            let bound = &mut bound[part_of[position] as usize];
            *bound = bound.min(least[position]);
        }
        let state =
            ForestState { cores, least_core: &least_core, part_of, part_of_node: &part_of_node };
        // A snapshot: each task writes its part of `other` and reads the state before the round.
        let known = other.clone();
        least.par_chunks_mut(TASK_ROWS).zip(other.par_chunks_mut(TASK_ROWS)).enumerate().for_each(
            |(task, (least, other))| {
                let mut point = vec![0.0; columns];
                // Bound of the part of the previous row: neighbours are often in one part.
                let mut tight = (u32::MAX, f64::INFINITY);
                for offset in 0..least.len() {
                    let position = task * TASK_ROWS + offset;
                    let part = part_of[position];
                    if tight.0 != part {
                        tight = (part, bound[part as usize]);
                    }
                    // Skips rows with a valid nearest position, and rows that cannot improve the
                    // bound of their part.
                    if is_foreign(position, &known, part_of) || least[offset] >= tight.1 {
                        continue;
                    }
                    tree.copy(position, &mut point);
                    let mut foreign = ForeignSearch {
                        state: &state,
                        part,
                        core: cores[position],
                        best: tight.1,
                        position: u32::MAX,
                    };
                    tree.search(&point, &mut foreign);
                    least[offset] = foreign.best;
                    other[offset] = foreign.position;
                    if foreign.position != u32::MAX {
                        tight.1 = foreign.best;
                    }
                }
            },
        );
        let mut chosen = vec![u32::MAX; count];
        for position in (0..count).filter(|position| is_foreign(*position, &other, part_of)) {
            let best = &mut chosen[part_of[position] as usize];
            if *best == u32::MAX || least[position] < least[*best as usize] {
                *best = position as u32;
            }
        }
        let before = edges.len();
        for position in chosen.into_iter().filter(|position| *position != u32::MAX) {
            let (a, b) = (position, other[position as usize]);
            // Ties: an earlier edge of this round may already have joined the two parts.
            if parts.unite(a, b) {
                edges.push(TreeEdge { a, b, squared: least[position as usize] });
            }
        }
        // No part found another one, for example when distances are NaN: end instead of looping.
        if edges.len() == before {
            break;
        }
        progress.report("cluster", edges.len() as u64, count as u64);
    }
    Ok(edges)
}

/// Whether the position last found for `position` is in another part.
fn is_foreign(position: usize, other: &[u32], part_of: &[u32]) -> bool {
    other[position] != u32::MAX && part_of[other[position] as usize] != part_of[position]
}

/// State of the forest in one round.
struct ForestState<'a> {
    cores: &'a [f64],
    /// Minimum core distance within each node.
    least_core: &'a [f64],
    part_of: &'a [u32],
    /// The part that all positions of a node belong to; `u32::MAX` if there are several.
    part_of_node: &'a [u32],
}

/// Search for the nearest position in another part.
struct ForeignSearch<'a> {
    state: &'a ForestState<'a>,
    part: u32,
    core: f64,
    best: f64,
    position: u32,
}

impl NeighbourCollector for ForeignSearch<'_> {
    fn limit(&self) -> f64 {
        // Mutual reachability is never below the row's own core distance.
        if self.best <= self.core { 0.0 } else { self.best }
    }

    fn skips_node(&self, node: usize) -> bool {
        self.state.part_of_node[node] == self.part || self.state.least_core[node] >= self.best
    }

    fn offer(&mut self, position: usize, squared: f64) {
        if self.state.part_of[position] == self.part {
            return;
        }
        let reachability = squared.max(self.core).max(self.state.cores[position]);
        if reachability < self.best {
            (self.best, self.position) = (reachability, position as u32);
        }
    }
}

/// Minimum core distance per node. Children come after their parents, so one reverse pass is
/// enough.
fn least_core_of_nodes(tree: &KdTree, cores: &[f64]) -> Vec<f64> {
    let mut least = vec![f64::INFINITY; tree.nodes.len()];
    for (index, node) in tree.nodes.iter().enumerate().rev() {
        least[index] = match node.halves {
            Some((lower, upper)) => least[lower].min(least[upper]),
            None => cores[node.first..node.end].iter().copied().fold(f64::INFINITY, f64::min),
        };
    }
    least
}

/// The part of each node, see [`ForestState::part_of_node`].
fn parts_of_nodes(tree: &KdTree, part_of: &[u32]) -> Vec<u32> {
    let mut parts = vec![u32::MAX; tree.nodes.len()];
    for (index, node) in tree.nodes.iter().enumerate().rev() {
        let (one, other) = if let Some((lower, upper)) = node.halves {
            (parts[lower], parts[upper])
        } else {
            let positions = &part_of[node.first..node.end];
            let is_one = positions.iter().all(|part| *part == positions[0]);
            (positions[0], if is_one { positions[0] } else { u32::MAX })
        };
        parts[index] = if one == other { one } else { u32::MAX };
    }
    parts
}
