//! Minimum spanning tree under mutual reachability distance, by Borůvka's algorithm (1926).
//!
//! The mutual reachability distance of two rows is the maximum of their distance and their two
//! core distances (Campello, Moulavi and Sander 2013). Each round joins every part of the forest
//! to its nearest other part. The nearest row outside a row's part remains the nearest until its
//! own part joins, so most rows are searched only a few times.

use ndarray::Array1;
use rayon::prelude::*;

use crate::domain::train::clustering::density::kd_tree::{Nearest, Tree, Wanted};
use crate::domain::train::{FitError, Progress};

/// Rows per task; fixed, so that the result does not depend on the number of threads.
const TASK_ROWS: usize = 256;

/// An edge between two places of the tree, with the squared mutual reachability distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Edge {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) squared: f64,
}

/// Union-find (disjoint sets) over places: union by size, path halving.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    parent: Vec<u32>,
    size: Vec<u32>,
}

impl Parts {
    pub(crate) fn new(count: usize) -> Self {
        Self { parent: (0..count as u32).collect(), size: vec![1; count] }
    }

    pub(crate) fn find(&mut self, place: u32) -> u32 {
        let mut place = place as usize;
        while self.parent[place] as usize != place {
            self.parent[place] = self.parent[self.parent[place] as usize];
            place = self.parent[place] as usize;
        }
        place as u32
    }

    /// Unites the parts of `a` and `b`; returns whether they were separate.
    pub(crate) fn join(&mut self, a: u32, b: u32) -> bool {
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

/// Squared core distance of each place: the distance to its nearest row number `samples`,
/// itself included.
pub(crate) fn core_distances(tree: &Tree, columns: usize, samples: usize) -> Vec<f64> {
    let mut cores = vec![0.0; tree.rows.len()];
    cores.par_chunks_mut(TASK_ROWS).enumerate().for_each(|(task, cores)| {
        let mut nearest = Nearest::new(samples);
        let mut point = vec![0.0; columns];
        for (offset, core) in cores.iter_mut().enumerate() {
            tree.copy(task * TASK_ROWS + offset, &mut point);
            tree.search(&point, &mut nearest);
            *core = nearest.take();
        }
    });
    cores
}

/// Edges of the minimum spanning tree: one less than there are places.
pub(crate) fn spanning_tree(
    tree: &Tree,
    columns: usize,
    cores: &[f64],
    progress: &dyn Progress,
) -> Result<Vec<Edge>, FitError> {
    let count = cores.len();
    let mut parts = Parts::new(count);
    let mut edges = Vec::with_capacity(count.saturating_sub(1));
    let least_core = least_of_nodes(tree, cores);
    // The nearest place in another part, as far as known: its distance is at least `least`,
    // and equals it while `other` is in another part.
    let mut least = cores.to_vec();
    let mut other = vec![u32::MAX; count];
    while edges.len() + 1 < count {
        if progress.should_stop() {
            return Err(FitError::Stopped);
        }
        let part_of: Array1<u32> = (0..count as u32).map(|place| parts.find(place)).collect();
        let part_of = part_of.as_slice().unwrap_or_default();
        let part_of_node = parts_of_nodes(tree, part_of);
        let is_known = |place: usize, other: &[u32]| {
            other[place] != u32::MAX && part_of[other[place] as usize] != part_of[place]
        };
        // Upper bound for each part: the best edge that is still valid from earlier rounds.
        let mut bound = vec![f64::INFINITY; count];
        for place in (0..count).filter(|place| is_known(*place, &other)) {
            let bound = &mut bound[part_of[place] as usize];
            *bound = bound.min(least[place]);
        }
        let look = Look { cores, least_core: &least_core, part_of, part_of_node: &part_of_node };
        // A snapshot: each task writes its part of `other` and reads the state before the round.
        let known = other.clone();
        least.par_chunks_mut(TASK_ROWS).zip(other.par_chunks_mut(TASK_ROWS)).enumerate().for_each(
            |(task, (least, other))| {
                let mut point = vec![0.0; columns];
                // Bound of the part of the previous row: neighbouring places are often in one part.
                let mut tight = (u32::MAX, f64::INFINITY);
                for offset in 0..least.len() {
                    let place = task * TASK_ROWS + offset;
                    let part = part_of[place];
                    if tight.0 != part {
                        tight = (part, bound[part as usize]);
                    }
                    // Skips rows with a valid nearest place, and rows that cannot improve the
                    // bound of their part.
                    if is_known(place, &known) || least[offset] >= tight.1 {
                        continue;
                    }
                    tree.copy(place, &mut point);
                    let mut foreign = Foreign {
                        look: &look,
                        part,
                        core: cores[place],
                        best: tight.1,
                        place: u32::MAX,
                    };
                    tree.search(&point, &mut foreign);
                    least[offset] = foreign.best;
                    other[offset] = foreign.place;
                    if foreign.place != u32::MAX {
                        tight.1 = foreign.best;
                    }
                }
            },
        );
        let mut chosen = vec![u32::MAX; count];
        for place in (0..count).filter(|place| is_known(*place, &other)) {
            let best = &mut chosen[part_of[place] as usize];
            if *best == u32::MAX || least[place] < least[*best as usize] {
                *best = place as u32;
            }
        }
        let before = edges.len();
        for place in chosen.into_iter().filter(|place| *place != u32::MAX) {
            let (a, b) = (place, other[place as usize]);
            // Ties: an earlier edge of this round may already have joined the two parts.
            if parts.join(a, b) {
                edges.push(Edge { a, b, squared: least[place as usize] });
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

struct Look<'a> {
    cores: &'a [f64],
    /// Minimum core distance within each node.
    least_core: &'a [f64],
    part_of: &'a [u32],
    /// The part that all places of a node belong to; `u32::MAX` if there are several.
    part_of_node: &'a [u32],
}

/// Search for the nearest place in another part.
struct Foreign<'a> {
    look: &'a Look<'a>,
    part: u32,
    core: f64,
    best: f64,
    place: u32,
}

impl Wanted for Foreign<'_> {
    fn limit(&self) -> f64 {
        // Mutual reachability is never below the row's own core distance.
        if self.best <= self.core { 0.0 } else { self.best }
    }

    fn passes_by(&self, node: usize) -> bool {
        self.look.part_of_node[node] == self.part || self.look.least_core[node] >= self.best
    }

    fn meet(&mut self, place: usize, squared: f64) {
        if self.look.part_of[place] == self.part {
            return;
        }
        let reachability = squared.max(self.core).max(self.look.cores[place]);
        if reachability < self.best {
            (self.best, self.place) = (reachability, place as u32);
        }
    }
}

/// Minimum core distance per node. Children come after their parents, so one reverse pass is
/// enough.
fn least_of_nodes(tree: &Tree, cores: &[f64]) -> Vec<f64> {
    let mut least = vec![f64::INFINITY; tree.nodes.len()];
    for (index, node) in tree.nodes.iter().enumerate().rev() {
        least[index] = match node.halves {
            Some((lower, upper)) => least[lower].min(least[upper]),
            None => cores[node.first..node.end].iter().copied().fold(f64::INFINITY, f64::min),
        };
    }
    least
}

fn parts_of_nodes(tree: &Tree, part_of: &[u32]) -> Vec<u32> {
    let mut parts = vec![u32::MAX; tree.nodes.len()];
    for (index, node) in tree.nodes.iter().enumerate().rev() {
        let (one, other) = if let Some((lower, upper)) = node.halves {
            (parts[lower], parts[upper])
        } else {
            let places = &part_of[node.first..node.end];
            let is_one = places.iter().all(|part| *part == places[0]);
            (places[0], if is_one { places[0] } else { u32::MAX })
        };
        parts[index] = if one == other { one } else { u32::MAX };
    }
    parts
}
