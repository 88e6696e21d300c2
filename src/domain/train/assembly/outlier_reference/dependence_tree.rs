//! Fit of the dependence tree (Chow and Liu 1968): its edges, and the surprise of each
//! combination.

use rayon::prelude::*;

use crate::domain::model::OutlierReference;
use crate::domain::model::outlier::dependence_tree::{COMBINATIONS, GROUPS, combination};
use crate::domain::train::EncodedDataset;

/// Rows of the sample that measures mutual information, with up to [`MANY_COLUMNS`] columns.
const SAMPLE_ROWS: usize = 10_000;
/// The number of pairs grows with the square of the columns, so that the sample of a wider table
/// is smaller.
const MANY_COLUMNS: usize = 256;
const SAMPLE_ROWS_OF_MANY_COLUMNS: usize = 2000;
/// Mutual information in nats above which two columns count as dependent. It exceeds the bias of
/// the estimate for independent columns, about 9 / (2 · rows), from 45 rows on.
const MINIMUM_INFORMATION: f64 = 0.1;
/// Weight of the pair terms: see the module of the served tree.
const PAIR_WEIGHT: f64 = 0.5;
/// Rows as under independence that are added to each pair of columns: half a row a combination on
/// average.
const SMOOTHING_ROWS: f64 = 8.0;

/// Edges of the maximum spanning forest of the columns by mutual information, in ascending
/// order of their columns.
pub(super) fn find_edges(fitted: &EncodedDataset, reference: &OutlierReference) -> Vec<[u16; 2]> {
    let columns = fitted.columns();
    let sample = if columns > MANY_COLUMNS { SAMPLE_ROWS_OF_MANY_COLUMNS } else { SAMPLE_ROWS };
    let step = fitted.rows().div_ceil(sample).max(1);
    let groups: Vec<Vec<u8>> = (0..columns)
        .into_par_iter()
        .map(|column| {
            let rows = (0..fitted.rows()).step_by(step);
            rows.map(|row| reference.group_of(column, fitted.row_values(row)[column])).collect()
        })
        .collect();
    let tree = maximum_spanning_tree(columns, |a, b| {
        fitted.pause();
        mutual_information(&groups[a], &groups[b])
    });
    let mut edges = Vec::new();
    for edge in tree {
        if edge.information > MINIMUM_INFORMATION {
            let [a, b] = edge.columns.map(|column| column as u16);
            edges.push([a.min(b), a.max(b)]);
        }
    }
    edges.sort_unstable();
    edges
}

struct WeightedEdge {
    columns: [usize; 2],
    information: f64,
}

/// Maximum spanning tree (Prim 1957). Of equal edges the first in column order is taken.
fn maximum_spanning_tree(
    columns: usize,
    information: impl Fn(usize, usize) -> f64 + Sync,
) -> Vec<WeightedEdge> {
    let mut tree = Vec::with_capacity(columns.saturating_sub(1));
    // Strongest edge of each column into the tree; `None`: the column is in the tree.
    let outside = |column| WeightedEdge { columns: [0, column], information: f64::NEG_INFINITY };
    let mut strongest: Vec<Option<WeightedEdge>> =
        (0..columns).map(|column| Some(outside(column))).collect();
    let mut last = 0;
    while tree.len() + 1 < columns {
        strongest[last] = None;
        strongest.par_iter_mut().flatten().for_each(|edge| {
            let column = edge.columns[1];
            let information = information(last, column);
            if information > edge.information {
                *edge = WeightedEdge { columns: [last, column], information };
            }
        });
        let mut next = last;
        let mut most = f64::NEG_INFINITY;
        for edge in strongest.iter().flatten() {
            if edge.information > most {
                (most, next) = (edge.information, edge.columns[1]);
            }
        }
        // Mutual information is finite, so that there is always a next column.
        let Some(edge) = strongest[next].take() else { break };
        tree.push(edge);
        last = next;
    }
    tree
}

/// Mutual information of the groups of two columns, in nats.
fn mutual_information(first: &[u8], second: &[u8]) -> f64 {
    let mut counts = [0_u32; COMBINATIONS];
    for (a, b) in first.iter().zip(second) {
        counts[combination(*a, *b)] += 1;
    }
    let counts = counts.map(f64::from);
    let rows = first.len() as f64;
    let marginals = Marginals::of(&counts);
    let mut information = 0.0;
    for (combination, count) in counts.iter().enumerate() {
        if *count > 0.0 {
            information += count * (count * rows / marginals.product(combination)).ln();
        }
    }
    information / rows
}

/// Fitted rows in each combination of the groups of two dependent columns, edge by edge.
pub(super) struct PairCounts {
    rows: f64,
    columns: usize,
    counts: Vec<[f64; COMBINATIONS]>,
}

impl PairCounts {
    /// Counts the rows in the combinations of the edges of `reference`.
    pub(super) fn of(fitted: &EncodedDataset, reference: &OutlierReference) -> Self {
        let edges = reference.dependence_tree.edges.len();
        let chunks = fitted.map_chunks(|rows| {
            let mut counts = vec![[0_u32; COMBINATIONS]; edges];
            for row in rows {
                let combinations = combinations_of(reference, fitted.row_values(row));
                for (counts, combination) in counts.iter_mut().zip(combinations) {
                    counts[combination] += 1;
                }
            }
            counts
        });
        let mut counts = vec![[0.0; COMBINATIONS]; edges];
        for chunk in chunks {
            for (count, more) in counts.as_flattened_mut().iter_mut().zip(chunk.as_flattened()) {
                *count += f64::from(*more);
            }
        }
        Self { rows: fitted.rows() as f64, columns: fitted.columns(), counts }
    }

    /// Surprise of each combination, edge by edge.
    pub(super) fn surprise(&self) -> Vec<f32> {
        let edges = 0..self.counts.len();
        edges
            .flat_map(|edge| (0..COMBINATIONS).map(move |combination| (edge, combination)))
            .map(|(edge, combination)| self.surprise_of(edge, combination, 0.0))
            .collect()
    }

    /// Surprise −ln(P(a, b) / (P(a) P(b))) of a combination, weighted, and divided by the number
    /// of columns as the surprise of the bins. 0 if one of the groups is empty. `without` rows are
    /// left out of the combination.
    pub(super) fn surprise_of(&self, edge: usize, combination: usize, without: f64) -> f32 {
        let mut counts = self.counts[edge];
        counts[combination] -= without;
        let rows = self.rows - without;
        let independent = Marginals::of(&counts).product(combination) / (rows * rows);
        // Without rows the share is not a number, and not above 0 either.
        if independent > 0.0 {
            let smoothed = counts[combination] + SMOOTHING_ROWS * independent;
            let ratio = smoothed / ((rows + SMOOTHING_ROWS) * independent);
            (-PAIR_WEIGHT * ratio.ln() / self.columns as f64) as f32
        } else {
            0.0
        }
    }
}

/// The combination of a row at each edge of `reference`.
pub(super) fn combinations_of(
    reference: &OutlierReference,
    vector: &[f32],
) -> impl Iterator<Item = usize> {
    reference.dependence_tree.edges.iter().map(|edge| {
        let [first, second] = edge.map(|column| {
            let column = usize::from(column);
            reference.group_of(column, vector[column])
        });
        combination(first, second)
    })
}

/// Rows in each group of two columns.
struct Marginals {
    first: [f64; GROUPS],
    second: [f64; GROUPS],
}

impl Marginals {
    fn of(counts: &[f64; COMBINATIONS]) -> Self {
        let mut marginals = Self { first: [0.0; GROUPS], second: [0.0; GROUPS] };
        for (combination, count) in counts.iter().enumerate() {
            marginals.first[combination / GROUPS] += count;
            marginals.second[combination % GROUPS] += count;
        }
        marginals
    }

    /// Product of the rows in both groups of a combination.
    fn product(&self, combination: usize) -> f64 {
        self.first[combination / GROUPS] * self.second[combination % GROUPS]
    }
}
