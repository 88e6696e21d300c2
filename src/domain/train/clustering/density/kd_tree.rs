//! k-d tree for nearest-neighbour and radius searches over the rows.
//!
//! Bentley (1975), *Multidimensional binary search trees used for associative searching*. Each
//! leaf contains sixteen rows, column by column, so that all their distances are computed side
//! by side. Distances are squared and `f64`.

use crate::domain::train::{EncodedDataset, PauseFunction};

/// Rows per leaf.
pub(crate) const LEAF: usize = 16;

/// The tree, with the rows in leaf order: position 16 i + j is row j of leaf i.
pub(crate) struct KdTree {
    columns: usize,
    /// The row at each position.
    pub(crate) rows: Vec<u32>,
    /// Pause of the dataset, called once per search.
    pause: PauseFunction,
    /// Leaf by leaf, column by column: [`LEAF`] values each.
    values: Vec<[f64; LEAF]>,
    /// The root first; every node comes before its children.
    pub(crate) nodes: Vec<KdNode>,
    /// Minimum and maximum of each column, node by node (bounding boxes).
    bounds: Vec<(f64, f64)>,
}

/// A node: a range of positions, with two halves unless it is a leaf.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KdNode {
    /// Range of positions, `first..end`.
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// The two child nodes; `None` for a leaf.
    pub(crate) halves: Option<(usize, usize)>,
}

/// Collector of the rows that a search is for.
pub(crate) trait NeighbourCollector {
    /// Squared distance at and beyond which no row is of interest.
    fn limit(&self) -> f64;
    /// Whether the search can skip the node.
    fn skips_node(&self, _node: usize) -> bool {
        false
    }
    /// Receives a row nearer than the limit.
    fn offer(&mut self, position: usize, squared: f64);
}

impl KdTree {
    /// Builds the tree over all rows.
    pub(crate) fn new(data: &EncodedDataset) -> Self {
        let mut tree = Self {
            columns: data.columns(),
            rows: (0..data.rows() as u32).collect(),
            pause: data.pause_function(),
            values: Vec::new(),
            nodes: Vec::new(),
            bounds: Vec::new(),
        };
        if data.rows() > 0 {
            tree.build_subtree(data, 0, data.rows());
        }
        for leaf in tree.rows.chunks(LEAF) {
            for column in 0..tree.columns {
                // A position without a row is infinitely far away.
                let mut values = [f64::INFINITY; LEAF];
                for (value, row) in values.iter_mut().zip(leaf) {
                    *value = f64::from(data.row(*row as usize)[column]);
                }
                tree.values.push(values);
            }
        }
        tree
    }

    /// Builds a subtree: splits the widest column at a leaf border, half of the leaves on each
    /// side.
    fn build_subtree(&mut self, data: &EncodedDataset, first: usize, end: usize) -> usize {
        let node = self.nodes.len();
        let bounds: Vec<(f64, f64)> = (0..self.columns)
            .map(|column| {
                let values = self.rows[first..end]
                    .iter()
                    .map(|row| f64::from(data.row(*row as usize)[column]));
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
                    (low.min(x), high.max(x))
                })
            })
            .collect();
        let widest = (0..self.columns)
            .rev()
            .max_by(|a, b| (bounds[*a].1 - bounds[*a].0).total_cmp(&(bounds[*b].1 - bounds[*b].0)));
        self.bounds.extend(bounds);
        self.nodes.push(KdNode { first, end, halves: None });
        let leaves = (end - first).div_ceil(LEAF);
        if let (Some(column), true) = (widest, leaves > 1) {
            // Whole leaves on the lower side: only the last leaf of the tree may be partly filled.
            let middle = leaves / 2 * LEAF;
            self.rows[first..end].select_nth_unstable_by(middle, |a, b| {
                let (x, y) = (data.row(*a as usize)[column], data.row(*b as usize)[column]);
                x.total_cmp(&y).then(a.cmp(b))
            });
            let lower = self.build_subtree(data, first, first + middle);
            let upper = self.build_subtree(data, first + middle, end);
            self.nodes[node].halves = Some((lower, upper));
        }
        node
    }

    /// Copies the row at `position` into `point`.
    pub(crate) fn copy(&self, position: usize, point: &mut [f64]) {
        let leaf = &self.values[position / LEAF * self.columns..];
        for (x, column) in point.iter_mut().zip(leaf) {
            *x = column[position % LEAF];
        }
    }

    /// Passes every row of interest around `point` to `collector`, nearer nodes first.
    pub(crate) fn search(&self, point: &[f64], collector: &mut impl NeighbourCollector) {
        (self.pause)();
        if !self.nodes.is_empty() {
            self.descend(0, self.distance_to_node(0, point), point, collector);
        }
    }

    fn descend(
        &self,
        node: usize,
        squared: f64,
        point: &[f64],
        collector: &mut impl NeighbourCollector,
    ) {
        if squared >= collector.limit() || collector.skips_node(node) {
            return;
        }
        let KdNode { first, end, halves } = self.nodes[node];
        let Some((lower, upper)) = halves else {
            let distances = self.distances_to_leaf(first / LEAF, point);
            for (position, squared) in (first..end).zip(distances) {
                if squared < collector.limit() {
                    collector.offer(position, squared);
                }
            }
            return;
        };
        // The nearer half first: it tightens the limit before the farther half is tested.
        let (to_lower, to_upper) =
            (self.distance_to_node(lower, point), self.distance_to_node(upper, point));
        let mut halves = [(lower, to_lower), (upper, to_upper)];
        if to_upper < to_lower {
            halves.swap(0, 1);
        }
        for (half, squared) in halves {
            self.descend(half, squared, point, collector);
        }
    }

    /// Squared distance from `point` to the bounding box of a node.
    fn distance_to_node(&self, node: usize, point: &[f64]) -> f64 {
        let bounds = &self.bounds[node * self.columns..(node + 1) * self.columns];
        let mut sum = 0.0;
        for (x, (low, high)) in point.iter().zip(bounds) {
            let distance = (low - x).max(x - high).max(0.0);
            sum += distance * distance;
        }
        sum
    }

    /// Squared distances from `point` to the rows of a leaf.
    fn distances_to_leaf(&self, leaf: usize, point: &[f64]) -> [f64; LEAF] {
        let columns = &self.values[leaf * self.columns..(leaf + 1) * self.columns];
        let mut sums = [0.0; LEAF];
        for (column, x) in columns.iter().zip(point) {
            for (sum, value) in sums.iter_mut().zip(column) {
                *sum += (value - x) * (value - x);
            }
        }
        sums
    }
}

/// Collector of the `k` nearest rows, for the distance of row number `k`.
pub(crate) struct NearestRows {
    k: usize,
    /// Max-heap of squared distances, as bits: the bits of non-negative floats sort like the
    /// floats.
    found: std::collections::BinaryHeap<u64>,
}

impl NearestRows {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, found: std::collections::BinaryHeap::with_capacity(k + 1) }
    }

    /// Returns the squared distance of the last row and clears the collector.
    pub(crate) fn take_distance(&mut self) -> f64 {
        let last = self.found.peek().map_or(0.0, |bits| f64::from_bits(*bits));
        self.found.clear();
        last
    }
}

impl NeighbourCollector for NearestRows {
    fn limit(&self) -> f64 {
        if self.found.len() < self.k {
            return f64::INFINITY;
        }
        self.found.peek().map_or(0.0, |bits| f64::from_bits(*bits))
    }

    fn offer(&mut self, _position: usize, squared: f64) {
        if self.found.len() == self.k {
            self.found.pop();
        }
        self.found.push(squared.to_bits());
    }
}

/// Collector of all rows up to a squared distance, inclusive.
pub(crate) struct RadiusSearch<'a> {
    pub(crate) squared: f64,
    pub(crate) positions: &'a mut Vec<usize>,
}

impl NeighbourCollector for RadiusSearch<'_> {
    fn limit(&self) -> f64 {
        // The limit is exclusive; the next float makes the radius inclusive.
        self.squared.next_up()
    }

    fn offer(&mut self, position: usize, _squared: f64) {
        self.positions.push(position);
    }
}

/// Collector of the nearest row; of equally near rows the one with the lowest number.
pub(crate) struct NearestRow<'a> {
    pub(crate) tree: &'a KdTree,
    pub(crate) squared: f64,
    pub(crate) row: u32,
}

impl NeighbourCollector for NearestRow<'_> {
    fn limit(&self) -> f64 {
        // Equally near rows must still be offered: the lowest row number decides among them.
        self.squared.next_up()
    }

    fn offer(&mut self, position: usize, squared: f64) {
        let row = self.tree.rows[position];
        if squared < self.squared || row < self.row {
            (self.squared, self.row) = (squared, row);
        }
    }
}
