//! Conversion of clusters to the served decision function: `f32` numbers, segments in descending
//! order of size.

use std::cmp::Ordering;

use ndarray::Array2;

use crate::domain::encode::LinearProjection;
use crate::domain::model::{DecisionFunction, MAX_SEGMENTS, NearestSegments, Prototypes};
use crate::domain::train::clustering::ward::{DendrogramMerge, MergeTree};
use crate::domain::train::{EncodedDataset, PrototypeClusters, TrainingError};

/// Result of a clustering, with the projection it was computed in.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectedClusters {
    pub clusters: PrototypeClusters,
    /// Projection of the encoded rows; the clusters are in its image.
    pub projection: Option<LinearProjection>,
    /// Name of the algorithm; `None`: an algorithm outside this crate.
    pub algorithm: Option<Box<str>>,
    /// For a hierarchy: the merges of the clusters.
    pub tree: Option<MergeTree>,
}

impl ProjectedClusters {
    /// Clusters of the encoded rows themselves, by any algorithm.
    pub fn without_projection(clusters: PrototypeClusters) -> Self {
        Self { clusters, projection: None, algorithm: None, tree: None }
    }
}

/// Decision function with segments in final order, and the placement of every row.
pub(crate) struct OrderedDecisionFunction {
    pub(crate) decision_function: DecisionFunction,
    pub(crate) placed: Vec<NearestSegments>,
    /// Rows in each segment.
    pub(crate) sizes: Vec<u64>,
    /// For a hierarchy: the merges of the segments.
    pub(crate) joins: Vec<DendrogramMerge>,
}

impl OrderedDecisionFunction {
    /// Converts `found`; `points` are the rows in its metric space.
    pub(crate) fn from_found(
        found: &ProjectedClusters,
        points: &EncodedDataset,
    ) -> Result<Self, TrainingError> {
        let unordered = unordered_function(found)?;
        let segments = found.clusters.segments();
        // The order needs the sizes as served, which may differ from the algorithm's own.
        let order =
            order_by_size(&unordered, &count_rows(&place_rows(points, &unordered), segments));
        let decision_function = reorder_segments(&unordered, &order);
        let placed = place_rows(points, &decision_function);
        let sizes = count_rows(&placed, segments);
        if let Some(segment) = sizes.iter().position(|size| *size == 0) {
            return Err(TrainingError::EmptySegment { segment, segments });
        }
        let joins = found.tree.as_ref().map_or_else(Vec::new, |tree| reorder_merges(tree, &order));
        Ok(Self { decision_function, placed, sizes, joins })
    }
}

/// Projects the rows, with the code that serves.
pub(crate) fn project(encoded: &EncodedDataset, projection: &LinearProjection) -> EncodedDataset {
    let width = projection.width(encoded.columns());
    let images = encoded.map_chunks(|rows| {
        let mut images = vec![0.0; rows.len() * width];
        for (image, row) in images.chunks_exact_mut(width.max(1)).zip(rows) {
            if let Some(vector) = encoded.row(row).to_slice() {
                projection.apply(vector, image);
            }
        }
        images
    });
    let shape = (encoded.rows(), width);
    encoded.with_matrix(Array2::from_shape_vec(shape, images.concat()).unwrap_or_default())
}

/// Number of rows in each segment; unassigned rows do not count.
pub(crate) fn count_rows<'a>(
    placed: impl IntoIterator<Item = &'a NearestSegments>,
    segments: usize,
) -> Vec<u64> {
    let mut sizes = vec![0; segments];
    for near in placed.into_iter().filter(|near| near.is_within_radius) {
        sizes[near.segment] += 1;
    }
    sizes
}

/// The clusters in single precision, in their own order. Offsets are shifted so that the smallest
/// is 0, which changes no comparison and leaves more digits.
fn unordered_function(found: &ProjectedClusters) -> Result<DecisionFunction, TrainingError> {
    let clusters = &found.clusters;
    let segments = clusters.segments();
    let values = single_precision(clusters.prototypes.iter());
    let prototypes = Prototypes::new(clusters.prototypes.ncols(), values)
        .filter(|_| (1..=MAX_SEGMENTS).contains(&segments))
        .ok_or(TrainingError::EmptySegment { segment: 0, segments })?;
    let offsets = clusters.offsets.as_deref().unwrap_or_default();
    let least = offsets.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(DecisionFunction {
        prototypes,
        segment_of: clusters.segment_of.iter().map(|segment| *segment as usize).collect(),
        weights: single_precision(clusters.weights.iter().flatten()),
        offsets: offsets.iter().map(|offset| (offset - least) as f32).collect(),
        reach: single_precision(clusters.radius.iter().flatten()),
        metric: clusters.metric,
    })
}

fn single_precision<'a>(values: impl Iterator<Item = &'a f64>) -> Vec<f32> {
    values.map(|x| *x as f32).collect()
}

/// Old positions of the segments in descending order of size; equal sizes are ordered by the
/// numbers of their first prototype, compared from the left.
fn order_by_size(decision_function: &DecisionFunction, sizes: &[u64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|a, b| {
        sizes[*b]
            .cmp(&sizes[*a])
            .then_with(|| by_first_prototype(decision_function, *a, *b))
            .then(a.cmp(b))
    });
    order
}

/// Lexicographic order of the first prototypes of two segments.
fn by_first_prototype(decision_function: &DecisionFunction, a: usize, b: usize) -> Ordering {
    for (x, y) in
        first_prototype(decision_function, a).iter().zip(first_prototype(decision_function, b))
    {
        let order = x.total_cmp(y);
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn first_prototype(decision_function: &DecisionFunction, segment: usize) -> &[f32] {
    for (prototype, row) in decision_function.prototypes().rows().enumerate() {
        if decision_function.segment_of(prototype) == segment {
            return row;
        }
    }
    &[]
}

/// The merges of a hierarchy, with its clusters in this order.
fn reorder_merges(tree: &MergeTree, order: &[usize]) -> Vec<DendrogramMerge> {
    let mut place = vec![0; order.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new as u32;
    }
    let mut merges = tree.merges.clone();
    for node in merges.iter_mut().flat_map(|merge| [&mut merge.a, &mut merge.b]) {
        // Nodes beyond the leaves are merges: their numbers do not change.
        if let Some(leaf) = place.get(*node as usize) {
            *node = *leaf;
        }
    }
    merges
}

/// The decision function with segments and their prototypes in this order. Default values are
/// stored as empty lists.
fn reorder_segments(decision_function: &DecisionFunction, order: &[usize]) -> DecisionFunction {
    let width = decision_function.prototypes().width();
    let mut place = vec![0; order.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new;
    }
    let mut prototypes: Vec<usize> = (0..decision_function.prototypes().count()).collect();
    prototypes.sort_by_key(|prototype| place[decision_function.segment_of(*prototype)]);
    let rows: Vec<&[f32]> = decision_function.prototypes().rows().collect();
    let values: Vec<f32> =
        prototypes.iter().flat_map(|prototype| rows[*prototype]).copied().collect();
    let segment_of: Vec<usize> = prototypes
        .iter()
        .map(|prototype| place[decision_function.segment_of(*prototype)])
        .collect();
    let is_one_each =
        segment_of.iter().enumerate().all(|(prototype, segment)| prototype == *segment);
    DecisionFunction {
        prototypes: Prototypes::new(width, values)
            .unwrap_or_else(|| decision_function.prototypes().clone()),
        segment_of: if is_one_each { Vec::new() } else { segment_of },
        weights: reorder_values(&decision_function.weights, order, width),
        offsets: prototypes
            .iter()
            .filter_map(|old| decision_function.offsets.get(*old))
            .copied()
            .collect(),
        reach: reorder_values(&decision_function.reach, order, 1),
        metric: decision_function.metric,
    }
}

/// `values` with `length` numbers per segment, in the new order; an empty list stays empty.
fn reorder_values(values: &[f32], order: &[usize], length: usize) -> Vec<f32> {
    let mut reordered = Vec::with_capacity(values.len());
    for old in order {
        let of_segment = values.get(old * length..(old + 1) * length);
        reordered.extend_from_slice(of_segment.unwrap_or_default());
    }
    reordered
}

/// Nearest segments of every row, computed as in serving.
fn place_rows(
    points: &EncodedDataset,
    decision_function: &DecisionFunction,
) -> Vec<NearestSegments> {
    points
        .map_chunks(|rows| decision_function.two_nearest_of_batch(points.rows_values(rows)))
        .concat()
}
