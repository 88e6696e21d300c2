//! Density-based clustering validation (DBCV): dense within segments, sparse between them,
//! whatever the shape.
//!
//! Moulavi, Jaskowiak, Campello, Zimek and Sander (2014), *Density-based clustering validation*.
//! A segment is as sparse as the longest inner edge of its minimum spanning tree by mutual
//! reachability; it is as separate as its shortest such distance to another segment.

use rayon::prelude::*;

use crate::domain::train::evaluation::external_indices::SegmentLabel;
use crate::domain::train::evaluation::row_distances::RowDistances;

/// Replaces the distance of equal rows, which has no inverse.
const LEAST_DISTANCE: f64 = 1e-9;

/// DBCV of a partition of rows with `columns` columns, -1..=1; large is good. The mean over all
/// rows of the validity of their segments, so that rows without a segment (noise) count 0.
/// `None` with fewer than two segments.
pub fn density_validation(
    distances: &RowDistances,
    columns: usize,
    labels: &[SegmentLabel],
) -> Option<f64> {
    let members = rows_of_segments(labels);
    if members.iter().filter(|rows| !rows.is_empty()).count() < 2 {
        return None;
    }
    let segments: Vec<SegmentDensity> = members
        .par_iter()
        .filter(|rows| !rows.is_empty())
        .map(|rows| SegmentDensity::measure(distances, columns, rows))
        .collect();
    let separations: Vec<f64> = (0..segments.len())
        .into_par_iter()
        .map(|own| {
            let others = (0..segments.len()).filter(|other| *other != own);
            others
                .map(|other| segments[own].separation(&segments[other], distances))
                .fold(f64::INFINITY, f64::min)
        })
        .collect();
    let weighted = segments.iter().zip(separations).map(|(segment, separation)| {
        segment.rows as f64 * validity(separation, segment.sparseness)
    });
    Some(weighted.sum::<f64>() / labels.len() as f64)
}

fn rows_of_segments(labels: &[SegmentLabel]) -> Vec<Vec<usize>> {
    let segments = labels.iter().flatten().max().map_or(0, |last| *last as usize + 1);
    let mut members = vec![Vec::new(); segments];
    for (row, label) in labels.iter().enumerate() {
        if let Some(label) = label {
            members[*label as usize].push(row);
        }
    }
    members
}

/// Validity of a segment, -1..=1: positive if it is more separate than sparse.
fn validity(separation: f64, sparseness: Option<f64>) -> f64 {
    // A segment of one or two rows has no inner edge, hence no density: the worst value.
    let Some(sparseness) = sparseness else { return -1.0 };
    let larger = separation.max(sparseness);
    if larger > 0.0 { (separation - sparseness) / larger } else { 0.0 }
}

/// Density of one segment.
struct SegmentDensity {
    rows: usize,
    /// Rows that are not leaves of the spanning tree, with their core distances.
    inner: Vec<(usize, f64)>,
    /// Longest edge between inner rows; `None` with fewer than three rows.
    sparseness: Option<f64>,
}

impl SegmentDensity {
    fn measure(distances: &RowDistances, columns: usize, rows: &[usize]) -> Self {
        let cores = core_distances(distances, columns, rows);
        if rows.len() < 3 {
            let inner = rows.iter().copied().zip(cores).collect();
            return Self { rows: rows.len(), inner, sparseness: None };
        }
        let edges = spanning_tree(distances, rows, &cores);
        let mut degrees = vec![0_u32; rows.len()];
        for (a, b, _) in &edges {
            degrees[*a] += 1;
            degrees[*b] += 1;
        }
        let is_inner = |place: usize| degrees[place] > 1;
        let longest = |edges: &mut dyn Iterator<Item = &(usize, usize, f64)>| {
            edges.map(|(_, _, length)| *length).reduce(f64::max)
        };
        // A star has one inner row and no inner edge: then all edges count.
        let sparseness =
            longest(&mut edges.iter().filter(|(a, b, _)| is_inner(*a) && is_inner(*b)))
                .or_else(|| longest(&mut edges.iter()));
        let places = (0..rows.len()).filter(|place| is_inner(*place));
        let inner = places.map(|place| (rows[place], cores[place])).collect();
        Self { rows: rows.len(), inner, sparseness }
    }

    /// Smallest mutual reachability distance between the inner rows of both.
    fn separation(&self, other: &Self, distances: &RowDistances) -> f64 {
        let mut least = f64::INFINITY;
        for (row, core) in &self.inner {
            let near = distances.of(*row);
            for (beside, core_beside) in &other.inner {
                least = least.min(f64::from(near[*beside]).max(*core).max(*core_beside));
            }
        }
        least
    }
}

/// All-points core distance of each row within its segment: the power mean, with exponent minus
/// the number of columns, of its distances to the other rows.
fn core_distances(distances: &RowDistances, columns: usize, rows: &[usize]) -> Vec<f64> {
    let power = columns.max(1) as f64;
    let others = rows.len().saturating_sub(1).max(1) as f64;
    let of_row = |row: &usize| {
        let near = distances.of(*row);
        let logs = rows
            .iter()
            .filter(|other| *other != row)
            .map(|other| -power * f64::from(near[*other]).max(LEAST_DISTANCE).ln());
        // By logarithms: a distance to the power of a hundred columns has no representation.
        let largest = logs.clone().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logs.map(|log| (log - largest).exp()).sum();
        (-(largest + sum.ln() - others.ln()) / power).exp()
    };
    rows.iter().map(of_row).collect()
}

/// Minimum spanning tree by mutual reachability (Prim 1957): (place, place, length).
///
/// A row with a large core distance is equally far from several rows, so that the tree is not
/// unique. As in the program of the method's authors, such a row joins the one of them that
/// entered the tree first.
fn spanning_tree(
    distances: &RowDistances,
    rows: &[usize],
    cores: &[f64],
) -> Vec<(usize, usize, f64)> {
    let mut edges = Vec::with_capacity(rows.len().saturating_sub(1));
    // Of each row that is not in the tree yet: its place, its nearest place in the tree, and how
    // far that is.
    let mut outside: Vec<(usize, usize, f64)> =
        (1..rows.len()).map(|place| (place, 0, f64::INFINITY)).collect();
    let mut last = 0;
    while !outside.is_empty() {
        let near = distances.of(rows[last]);
        let mut nearest = (f64::INFINITY, 0);
        for (index, (place, joined, shortest)) in outside.iter_mut().enumerate() {
            let length = f64::from(near[rows[*place]]).max(cores[last]).max(cores[*place]);
            if length < *shortest {
                (*joined, *shortest) = (last, length);
            }
            if *shortest < nearest.0 {
                nearest = (*shortest, index);
            }
        }
        let (place, joined, length) = outside.remove(nearest.1);
        edges.push((joined, place, length));
        last = place;
    }
    edges
}
