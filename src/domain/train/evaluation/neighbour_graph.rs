//! Modularity of a partition in the graph of nearest neighbours: whether rows and their
//! neighbours are in the same segment, more often than by chance.
//!
//! The index has no preference for a shape: it counts borders that cut through dense regions,
//! and segments that are near to each other only at their ends cost nothing. It grows with the
//! number of segments as long as their borders stay sparse.

use rayon::prelude::*;

use crate::domain::train::evaluation::external_indices::SegmentLabel;
use crate::domain::train::evaluation::row_distances::RowDistances;

/// Each row with its nearest other rows.
#[derive(Debug, Clone)]
pub struct NeighbourGraph {
    /// Rows × neighbours.
    neighbours: Vec<u32>,
    /// Number of neighbours of each row.
    each: usize,
    /// Number of rows of which each row is a neighbour.
    in_degrees: Vec<u32>,
}

impl NeighbourGraph {
    /// Finds the `each` nearest other rows of each row, of equally near ones the first; fewer if
    /// there are not as many rows.
    pub fn new(distances: &RowDistances, each: usize) -> Self {
        let rows = distances.rows();
        let each = each.min(rows.saturating_sub(1));
        let lists: Vec<Vec<u32>> = (0..rows)
            .into_par_iter()
            .map(|row| {
                let near = distances.of(row);
                let mut others: Vec<u32> = (0..rows as u32).collect();
                others.swap_remove(row);
                let order = |a: &u32, b: &u32| {
                    near[*a as usize].total_cmp(&near[*b as usize]).then(a.cmp(b))
                };
                if each < others.len() {
                    others.select_nth_unstable_by(each, order);
                    others.truncate(each);
                }
                others
            })
            .collect();
        let neighbours: Vec<u32> = lists.into_iter().flatten().collect();
        let mut in_degrees = vec![0; rows];
        for neighbour in &neighbours {
            in_degrees[*neighbour as usize] += 1;
        }
        Self { neighbours, each, in_degrees }
    }

    /// Modularity for directed graphs (Leicht and Newman 2008, *Community structure in directed
    /// networks*), below 1: Σ over segments of the share of edges inside, minus the share that
    /// random edges with the same degrees would have. Each row without a segment (noise) is a
    /// community of its own, so noise loses all its edges. 0 without edges.
    pub fn modularity(&self, labels: &[SegmentLabel]) -> f64 {
        if self.neighbours.is_empty() {
            return 0.0;
        }
        let segments = labels.iter().flatten().max().map_or(0, |last| *last as usize + 1);
        let (mut inside, mut out, mut into) =
            (vec![0_u64; segments], vec![0_u64; segments], vec![0_u64; segments]);
        let edges = self.neighbours.len() as f64;
        let mut expected = 0.0;
        for (row, near) in self.neighbours.chunks(self.each).enumerate() {
            let Some(own) = labels[row] else {
                expected += f64::from(self.in_degrees[row]) / edges * (self.each as f64 / edges);
                continue;
            };
            let own_segment = own as usize;
            out[own_segment] += self.each as u64;
            into[own_segment] += u64::from(self.in_degrees[row]);
            let same = near.iter().filter(|other| labels[**other as usize] == Some(own));
            inside[own_segment] += same.count() as u64;
        }
        let mut modularity = -expected;
        for segment in 0..segments {
            modularity += inside[segment] as f64 / edges
                - (out[segment] as f64 / edges) * (into[segment] as f64 / edges);
        }
        modularity
    }
}
