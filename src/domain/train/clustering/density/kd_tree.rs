//! k-d tree for nearest-neighbour and radius searches over the rows.
//!
//! Bentley (1975), *Multidimensional binary search trees used for associative searching*. Each
//! leaf contains sixteen rows, column by column, so that all their distances are computed side
//! by side. Distances are squared and `f64`.

use crate::domain::train::{Dataset, Pause};

pub(crate) const LEAF: usize = 16;

/// The tree, with the rows in leaf order: place 16 i + j is row j of leaf i.
pub(crate) struct Tree {
    columns: usize,
    /// The row at each place.
    pub(crate) rows: Vec<u32>,
    /// Pause of the dataset, called once per search.
    pause: Pause,
    /// Leaf by leaf, column by column: [`LEAF`] values each.
    values: Vec<[f64; LEAF]>,
    /// The root first; every node comes before its children.
    pub(crate) nodes: Vec<Node>,
    /// Minimum and maximum of each column, node by node (bounding boxes).
    bounds: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// Range of places, `first..end`.
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// The two child nodes; `None` for a leaf.
    pub(crate) halves: Option<(usize, usize)>,
}

/// Collector of the rows that a search is for.
pub(crate) trait Wanted {
    /// Squared distance at and beyond which no row is of interest.
    fn limit(&self) -> f64;
    /// Whether the search can skip the node.
    fn passes_by(&self, _node: usize) -> bool {
        false
    }
    /// Receives a row nearer than the limit.
    fn meet(&mut self, place: usize, squared: f64);
}

impl Tree {
    pub(crate) fn new(data: &Dataset) -> Self {
        let mut tree = Self {
            columns: data.columns(),
            rows: (0..data.rows() as u32).collect(),
            pause: data.pauses(),
            values: Vec::new(),
            nodes: Vec::new(),
            bounds: Vec::new(),
        };
        if data.rows() > 0 {
            tree.grow(data, 0, data.rows());
        }
        for leaf in tree.rows.chunks(LEAF) {
            for column in 0..tree.columns {
                let value = |place: usize| {
                    // A place without a row is infinitely far away.
                    leaf.get(place)
                        .map_or(f64::INFINITY, |row| f64::from(data.row(*row as usize)[column]))
                };
                tree.values.push(std::array::from_fn(value));
            }
        }
        tree
    }

    /// Builds a subtree: splits the widest column at a leaf border, half of the leaves on each
    /// side.
    fn grow(&mut self, data: &Dataset, first: usize, end: usize) -> usize {
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
        self.nodes.push(Node { first, end, halves: None });
        let leaves = (end - first).div_ceil(LEAF);
        if let (Some(column), true) = (widest, leaves > 1) {
            let middle = leaves / 2 * LEAF;
            self.rows[first..end].select_nth_unstable_by(middle, |a, b| {
                let (x, y) = (data.row(*a as usize)[column], data.row(*b as usize)[column]);
                x.total_cmp(&y).then(a.cmp(b))
            });
            let lower = self.grow(data, first, first + middle);
            let upper = self.grow(data, first + middle, end);
            self.nodes[node].halves = Some((lower, upper));
        }
        node
    }

    /// Copies the row at `place` into `point`.
    pub(crate) fn copy(&self, place: usize, point: &mut [f64]) {
        let leaf = &self.values[place / LEAF * self.columns..];
        for (x, column) in point.iter_mut().zip(leaf) {
            *x = column[place % LEAF];
        }
    }

    /// Passes every row of interest around `point` to `wanted`, nearer nodes first.
    pub(crate) fn search(&self, point: &[f64], wanted: &mut impl Wanted) {
        (self.pause)();
        if !self.nodes.is_empty() {
            self.descend(0, self.to_node(0, point), point, wanted);
        }
    }

    fn descend(&self, node: usize, squared: f64, point: &[f64], wanted: &mut impl Wanted) {
        if squared >= wanted.limit() || wanted.passes_by(node) {
            return;
        }
        let Node { first, end, halves } = self.nodes[node];
        let Some((lower, upper)) = halves else {
            let distances = self.to_leaf(first / LEAF, point);
            for (place, squared) in (first..end).zip(distances) {
                if squared < wanted.limit() {
                    wanted.meet(place, squared);
                }
            }
            return;
        };
        // The nearer half first: it tightens the limit before the farther half is tested.
        let (to_lower, to_upper) = (self.to_node(lower, point), self.to_node(upper, point));
        let mut halves = [(lower, to_lower), (upper, to_upper)];
        if to_upper < to_lower {
            halves.swap(0, 1);
        }
        for (half, squared) in halves {
            self.descend(half, squared, point, wanted);
        }
    }

    fn to_node(&self, node: usize, point: &[f64]) -> f64 {
        let bounds = &self.bounds[node * self.columns..(node + 1) * self.columns];
        let beyond = |(x, (low, high)): (&f64, &(f64, f64))| {
            let distance = (low - x).max(x - high).max(0.0);
            distance * distance
        };
        point.iter().zip(bounds).map(beyond).sum()
    }

    fn to_leaf(&self, leaf: usize, point: &[f64]) -> [f64; LEAF] {
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
pub(crate) struct Nearest {
    k: usize,
    /// Max-heap of squared distances, as bits: the bits of non-negative floats sort like the
    /// floats.
    found: std::collections::BinaryHeap<u64>,
}

impl Nearest {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, found: std::collections::BinaryHeap::with_capacity(k + 1) }
    }

    /// Returns the squared distance of the last row and clears the collector.
    pub(crate) fn take(&mut self) -> f64 {
        let last = self.found.peek().map_or(0.0, |bits| f64::from_bits(*bits));
        self.found.clear();
        last
    }
}

impl Wanted for Nearest {
    fn limit(&self) -> f64 {
        if self.found.len() < self.k {
            return f64::INFINITY;
        }
        self.found.peek().map_or(0.0, |bits| f64::from_bits(*bits))
    }

    fn meet(&mut self, _place: usize, squared: f64) {
        if self.found.len() == self.k {
            self.found.pop();
        }
        self.found.push(squared.to_bits());
    }
}

/// Collector of all rows up to a squared distance, inclusive.
pub(crate) struct Within<'a> {
    pub(crate) squared: f64,
    pub(crate) places: &'a mut Vec<usize>,
}

impl Wanted for Within<'_> {
    fn limit(&self) -> f64 {
        // The limit is exclusive; the next float makes the radius inclusive.
        self.squared.next_up()
    }

    fn meet(&mut self, place: usize, _squared: f64) {
        self.places.push(place);
    }
}

/// Collector of the nearest row; of equally near rows the one with the lowest number.
pub(crate) struct Closest<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) squared: f64,
    pub(crate) row: u32,
}

impl Wanted for Closest<'_> {
    fn limit(&self) -> f64 {
        // Equally near rows must still be offered: the lowest row number decides among them.
        self.squared.next_up()
    }

    fn meet(&mut self, place: usize, squared: f64) {
        let row = self.tree.rows[place];
        if squared < self.squared || row < self.row {
            (self.squared, self.row) = (squared, row);
        }
    }
}
