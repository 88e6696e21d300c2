//! Conversion of clusters to the served decision function: `f32` numbers, segments in descending
//! order of size.

use ndarray::Array2;

use crate::domain::encode::Projection;
use crate::domain::model::{Form, MAX_SEGMENTS, Near, Prototypes};
use crate::domain::train::clustering::ward::{Merge, Tree};
use crate::domain::train::{Clusters, Dataset, FitError};

/// Result of a clustering, with the projection it was computed in.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub clusters: Clusters,
    /// Projection of the encoded rows; the clusters are in its image.
    pub projection: Option<Projection>,
    /// Name of the algorithm; `None`: an algorithm outside this crate.
    pub algorithm: Option<Box<str>>,
    /// For a hierarchy: the merges of the clusters.
    pub tree: Option<Tree>,
}

impl Found {
    /// Clusters of the encoded rows themselves, by any algorithm.
    pub fn plain(clusters: Clusters) -> Self {
        Self { clusters, projection: None, algorithm: None, tree: None }
    }
}

/// Decision function with segments in final order, and the placement of every row.
pub(crate) struct Shape {
    pub(crate) form: Form,
    pub(crate) placed: Vec<Near>,
    /// Rows in each segment.
    pub(crate) sizes: Vec<u64>,
    /// For a hierarchy: the merges of the segments.
    pub(crate) joins: Vec<Merge>,
}

impl Shape {
    /// Converts `found`; `points` are the rows in its metric space.
    pub(crate) fn of(found: &Found, points: &Dataset) -> Result<Self, FitError> {
        let unordered = form(found)?;
        let segments = found.clusters.segments();
        // The order needs the sizes as served, which may differ from the algorithm's own.
        let order = by_size(&unordered, &sizes(&place(points, &unordered), segments));
        let form = reordered(&unordered, &order);
        let placed = place(points, &form);
        let sizes = sizes(&placed, segments);
        if let Some(segment) = sizes.iter().position(|size| *size == 0) {
            return Err(FitError::EmptySegment { segment, segments });
        }
        let joins = found.tree.as_ref().map_or_else(Vec::new, |tree| joins(tree, &order));
        Ok(Self { form, placed, sizes, joins })
    }
}

/// Projects the rows, with the code that serves.
pub(crate) fn project(encoded: &Dataset, projection: &Projection) -> Dataset {
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
    encoded.like(Array2::from_shape_vec(shape, images.concat()).unwrap_or_default())
}

/// Number of rows in each segment; unassigned rows do not count.
pub(crate) fn sizes<'a>(placed: impl IntoIterator<Item = &'a Near>, segments: usize) -> Vec<u64> {
    let mut sizes = vec![0; segments];
    for near in placed.into_iter().filter(|near| near.reached) {
        sizes[near.segment] += 1;
    }
    sizes
}

/// The clusters in single precision, in their own order. Offsets are shifted so that the smallest
/// is 0, which changes no comparison and leaves more digits.
fn form(found: &Found) -> Result<Form, FitError> {
    let clusters = &found.clusters;
    let segments = clusters.segments();
    let narrow = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x as f32).collect();
    let values: Vec<f32> = narrow(&mut clusters.prototypes.iter().copied());
    let prototypes = Prototypes::new(clusters.prototypes.ncols(), values)
        .filter(|_| (1..=MAX_SEGMENTS).contains(&segments))
        .ok_or(FitError::EmptySegment { segment: 0, segments })?;
    let least = |offsets: &[f64]| offsets.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(Form {
        prototypes,
        segment_of: clusters.segment_of.iter().map(|segment| *segment as usize).collect(),
        weights: clusters
            .weights
            .as_ref()
            .map(|w| narrow(&mut w.iter().copied()))
            .unwrap_or_default(),
        offsets: clusters.offsets.as_ref().map_or_else(Vec::new, |offsets| {
            let least = least(offsets);
            narrow(&mut offsets.iter().map(|offset| offset - least))
        }),
        reach: clusters.reach.as_ref().map(|r| narrow(&mut r.iter().copied())).unwrap_or_default(),
        metric: clusters.metric,
    })
}

/// Old positions of the segments in descending order of size; equal sizes are ordered by the
/// numbers of their first prototype, compared from the left.
fn by_size(form: &Form, sizes: &[u64]) -> Vec<usize> {
    let first = |segment: usize| {
        let mut rows = form.prototypes().rows().enumerate();
        rows.find(|(prototype, _)| form.segment_of(*prototype) == segment).map(|(_, row)| row)
    };
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|a, b| {
        let by_numbers = || {
            let pairs = first(*a).into_iter().flatten().zip(first(*b).into_iter().flatten());
            pairs.map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne()).unwrap_or(a.cmp(b))
        };
        sizes[*b].cmp(&sizes[*a]).then_with(by_numbers)
    });
    order
}

/// The merges of a hierarchy, with its clusters in this order.
fn joins(tree: &Tree, order: &[usize]) -> Vec<Merge> {
    let mut place = vec![0; order.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new as u32;
    }
    let at = |node: u32| place.get(node as usize).copied().unwrap_or(node);
    tree.merges.iter().map(|join| Merge { a: at(join.a), b: at(join.b), ..*join }).collect()
}

/// The decision function with segments and their prototypes in this order. Default values are
/// stored as empty lists.
fn reordered(form: &Form, order: &[usize]) -> Form {
    let width = form.prototypes().width();
    let mut place = vec![0; order.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new;
    }
    let mut prototypes: Vec<usize> = (0..form.prototypes().count()).collect();
    prototypes.sort_by_key(|prototype| place[form.segment_of(*prototype)]);
    let rows: Vec<&[f32]> = form.prototypes().rows().collect();
    let values: Vec<f32> =
        prototypes.iter().flat_map(|prototype| rows[*prototype]).copied().collect();
    let segment_of: Vec<usize> =
        prototypes.iter().map(|prototype| place[form.segment_of(*prototype)]).collect();
    let is_one_each =
        segment_of.iter().enumerate().all(|(prototype, segment)| prototype == *segment);
    let of_segments = |values: &[f32], length: usize| -> Vec<f32> {
        order
            .iter()
            .flat_map(|old| values.get(old * length..(old + 1) * length).unwrap_or_default())
            .copied()
            .collect()
    };
    Form {
        prototypes: Prototypes::new(width, values).unwrap_or_else(|| form.prototypes().clone()),
        segment_of: if is_one_each { Vec::new() } else { segment_of },
        weights: of_segments(&form.weights, width),
        offsets: prototypes.iter().filter_map(|old| form.offsets.get(*old)).copied().collect(),
        reach: of_segments(&form.reach, 1),
        metric: form.metric,
    }
}

/// Nearest segments of every row, computed as in serving.
fn place(points: &Dataset, form: &Form) -> Vec<Near> {
    points.map_chunks(|rows| form.two_nearest_of_each(points.numbers_of(rows))).concat()
}
