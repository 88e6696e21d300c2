//! Dependence tree: the pairs of columns that depend on each other most, with the surprise of
//! each combination of their values.
//!
//! Chow and Liu (1968, *Approximating discrete probability distributions with dependence
//! trees*): of all distributions that are structured as a tree, the one closest to the data is
//! the maximum spanning tree of the columns by mutual information. Its surprise is the sum of
//! the surprise of each value and, for each edge, −ln(P(a, b) / (P(a) P(b))). This pair term is
//! negative for a combination more frequent than under independence, and positive for a rare
//! one.
//!
//! The pair terms have half weight. The surprise is then the mean of two: under independent
//! columns, and under the tree. Under the tree alone, a rare value hardly counts beside another
//! rare value that predicts it, although most outliers are rare in several dependent columns.

use serde::{Deserialize, Serialize};

use crate::domain::model::outlier::bins::BINS;

/// Groups per column. Few, so that each combination of two columns has enough training rows.
pub(in crate::domain) const GROUPS: usize = 4;
/// Combinations of the groups of two columns.
pub(in crate::domain) const COMBINATIONS: usize = GROUPS * GROUPS;
/// Largest absolute surprise of a bin or a combination.
pub(in crate::domain) const MAX_SURPRISE: f32 = 1e6;

/// Edges of the dependence tree, with a table of the surprise of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::domain) struct DependenceTree {
    /// Group of each bin, column by column; ascending in each column.
    pub(in crate::domain) groups: Vec<u8>,
    /// The two columns of each edge.
    pub(in crate::domain) edges: Vec<[u16; 2]>,
    /// Surprise of each combination of groups, edge by edge, in the order of [`combination`].
    pub(in crate::domain) surprise: Vec<f32>,
}

/// One edge: two columns, and the surprise of each combination of their groups.
pub(super) struct DependentPair<'a> {
    pub(super) columns: [usize; 2],
    pub(super) surprise: &'a [f32; COMBINATIONS],
}

impl DependenceTree {
    /// Group of each bin of each column.
    pub(super) fn group_tables(&self) -> &[[u8; BINS]] {
        self.groups.as_chunks().0
    }

    /// Group of a bin.
    pub(in crate::domain) fn group(&self, column: usize, bin: usize) -> u8 {
        self.groups[column * BINS + bin]
    }

    /// The edges in order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = DependentPair<'_>> {
        self.edges
            .iter()
            .zip(self.surprise.as_chunks().0)
            .map(|(edge, surprise)| DependentPair { columns: edge.map(usize::from), surprise })
    }

    pub(super) fn is_sound(&self, columns: usize) -> bool {
        self.groups.len() == columns * BINS
            && self.group_tables().iter().all(|table| table.is_sorted())
            && self.groups.iter().all(|group| usize::from(*group) < GROUPS)
            && self.edges.len() < columns
            && self.edges.iter().all(|[a, b]| a < b && usize::from(*b) < columns)
            && self.surprise.len() == self.edges.len() * COMBINATIONS
            && self.surprise.iter().all(|x| x.abs() <= MAX_SURPRISE)
    }
}

/// Index of the combination of a group of the first column with a group of the second.
pub(in crate::domain) fn combination(first: u8, second: u8) -> usize {
    GROUPS * usize::from(first) + usize::from(second)
}
