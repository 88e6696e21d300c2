//! Ward's hierarchical clustering: repeatedly merges the pair of clusters that raises the sum
//! of squares least, until one is left.
//!
//! Ward (1963), *Hierarchical grouping to optimize an objective function*, by the
//! nearest-neighbour chain algorithm (Murtagh 1983). Centres and sizes replace the distance
//! matrix: memory grows with the rows, not with their square, and a leaf can represent many
//! rows. Heights equal those of `SciPy`.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::domain::train::clustering::density::minimum_spanning_tree::UnionFind;
use crate::domain::train::clustering::kmeans::coreset::CoresetCells;
use crate::domain::train::{EncodedDataset, TrainingError, TrainingProgress};

/// Number of clusters compared side by side.
const LANES: usize = 16;

/// Settings of Ward's clustering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WardSettings {
    /// With more rows, k-means cells of rows are merged instead of rows.
    pub max_rows: usize,
    /// Number of cells.
    pub cells: usize,
}

impl Default for WardSettings {
    fn default() -> Self {
        Self { max_rows: 10_000, cells: 1000 }
    }
}

/// A merge of two nodes of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DendrogramMerge {
    /// A node below the number of leaves is a leaf; number of leaves + i is the result of
    /// merge i.
    pub a: u32,
    pub b: u32,
    /// √(2 |A| |B| / (|A| + |B|)) × the distance of the centres.
    pub height: f64,
    /// Rows below the merged node.
    pub size: f64,
}

/// Dendrogram: all merges in ascending order of height.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeTree {
    pub leaves: usize,
    pub merges: Vec<DendrogramMerge>,
}

impl MergeTree {
    /// Part of each leaf when the last `parts` − 1 merges are undone. Parts are numbered in
    /// the order of their first leaves. A cut into more parts subdivides these parts.
    pub fn cut(&self, parts: usize) -> Vec<u32> {
        let kept = self.merges_below(parts);
        let mut joined = UnionFind::new(self.leaves + kept);
        // Heights ascend, so the first merges are those below the cut.
        for (node, merge) in self.merges.iter().take(kept).enumerate() {
            let node = (self.leaves + node) as u32;
            joined.unite(merge.a, node);
            joined.unite(merge.b, node);
        }
        let mut numbers = std::collections::HashMap::new();
        (0..self.leaves as u32)
            .map(|leaf| {
                let next = numbers.len() as u32;
                *numbers.entry(joined.find(leaf)).or_insert(next)
            })
            .collect()
    }

    /// The tree above that cut: its leaf i is the part that `names[i]` numbers.
    #[must_use]
    pub(crate) fn above_cut(&self, parts: usize, names: &[u32]) -> Self {
        let kept = self.merges_below(parts);
        let leaves = self.leaves - kept;
        let mut node: Vec<u32> = self.cut(parts).iter().map(|part| names[*part as usize]).collect();
        for (place, merge) in self.merges.iter().enumerate() {
            // Merges above the cut are numbered anew; those below become their part.
            let is_above = place.checked_sub(kept).map(|place| (leaves + place) as u32);
            node.push(is_above.unwrap_or(node[merge.a as usize]));
        }
        let merges = self.merges[kept..].iter().map(|merge| DendrogramMerge {
            a: node[merge.a as usize],
            b: node[merge.b as usize],
            ..*merge
        });
        Self { leaves, merges: merges.collect() }
    }

    /// Number of merges below a cut into `parts` parts.
    fn merges_below(&self, parts: usize) -> usize {
        (self.merges.len() + 1).saturating_sub(parts.max(1))
    }
}

/// A hierarchy of rows and one cut through it.
#[derive(Debug, Clone, PartialEq)]
pub struct RowHierarchy {
    /// The leaves are rows, or cells of rows.
    pub tree: MergeTree,
    /// Part of each row, numbered as in the cut.
    pub labels: Vec<u32>,
}

/// Builds the hierarchy of the rows and cuts it into `segments` parts.
pub fn fit(
    data: &EncodedDataset,
    segments: usize,
    settings: &WardSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<RowHierarchy, TrainingError> {
    let distinct = data.distinct_rows(segments);
    if distinct < segments {
        return Err(TrainingError::TooFewDistinct { distinct, segments });
    }
    let cells = if data.rows() <= settings.max_rows {
        CoresetCells::from_rows(data)
    } else {
        CoresetCells::from_kmeans(data, settings.cells.max(segments), seed, progress)?
    };
    let tree = build_hierarchy(&cells.centres, &cells.sizes, progress)?;
    let parts = tree.cut(segments);
    let labels = cells.of_row.iter().map(|leaf| parts[*leaf as usize]).collect();
    Ok(RowHierarchy { tree, labels })
}

/// Dendrogram of `points` (`leaves`, `n_columns`); each point represents `sizes` rows.
pub fn build_hierarchy(
    points: &Array2<f64>,
    sizes: &[f64],
    progress: &dyn TrainingProgress,
) -> Result<MergeTree, TrainingError> {
    let (leaves, pause) = (points.nrows(), progress.pause());
    let mut active = ActiveClusters::new(points, sizes);
    // One leaf of each side, the height, and the size of the union.
    let mut found: Vec<(u32, u32, f64, f64)> = Vec::with_capacity(leaves.saturating_sub(1));
    let mut chain: Vec<usize> = Vec::new();
    while found.len() + 1 < leaves {
        if chain.is_empty() {
            if progress.should_stop() {
                return Err(TrainingError::Stopped);
            }
            active.compact();
            chain.push(active.first_taken());
        }
        pause();
        let last = chain[chain.len() - 1];
        let before = chain.len().checked_sub(2).map(|place| chain[place]);
        let (nearest, cost) = active.nearest(last, before);
        // Mutual nearest neighbours: Ward's cost is reducible, so merging them now gives the same
        // tree as always merging the cheapest pair.
        if before == Some(nearest) {
            chain.truncate(chain.len() - 2);
            let sides = (active.leaf[last], active.leaf[nearest]);
            active.merge(nearest, last);
            found.push((sides.0, sides.1, cost.sqrt(), active.sizes[nearest]));
        } else {
            chain.push(nearest);
        }
    }
    // The chain finds the merges out of order; the tree lists them by height.
    found.sort_by(|x, y| x.2.total_cmp(&y.2));
    let mut parts = UnionFind::new(leaves);
    // Node numbers follow the sorted order: each union remembers its latest node.
    let mut node: Vec<u32> = (0..leaves as u32).collect();
    let merges = found.into_iter().enumerate().map(|(index, (a, b, height, size))| {
        let sides = [node[parts.find(a) as usize], node[parts.find(b) as usize]];
        parts.unite(a, b);
        node[parts.find(a) as usize] = (leaves + index) as u32;
        DendrogramMerge { a: sides[0].min(sides[1]), b: sides[0].max(sides[1]), height, size }
    });
    Ok(MergeTree { leaves, merges: merges.collect() })
}

/// Clusters not merged yet, in slots.
struct ActiveClusters {
    columns: usize,
    /// Tiles of [`LANES`] slots, each tile column by column.
    centres: Vec<[f64; LANES]>,
    /// Rows; 0 in an empty slot.
    sizes: Vec<f64>,
    /// Any leaf of the cluster.
    leaf: Vec<u32>,
    count: usize,
}

impl ActiveClusters {
    fn new(points: &Array2<f64>, sizes: &[f64]) -> Self {
        let mut active = Self::empty(points.ncols());
        for (leaf, (point, size)) in points.rows().into_iter().zip(sizes).enumerate() {
            active.push(&point.to_vec(), *size, leaf as u32);
        }
        active
    }

    fn empty(columns: usize) -> Self {
        Self { columns, centres: Vec::new(), sizes: Vec::new(), leaf: Vec::new(), count: 0 }
    }

    fn push(&mut self, point: &[f64], size: f64, leaf: u32) {
        let lane = self.count % LANES;
        if lane == 0 {
            // The cost of an empty slot is infinity times 0: NaN, which is never less than any
            // cost.
            self.centres.extend(std::iter::repeat_n([f64::INFINITY; LANES], self.columns));
            self.sizes.extend([0.0; LANES]);
            self.leaf.extend([u32::MAX; LANES]);
        }
        let tile = self.centres.len() - self.columns;
        for (column, x) in self.centres[tile..].iter_mut().zip(point) {
            column[lane] = *x;
        }
        self.sizes[self.count] = size;
        self.leaf[self.count] = leaf;
        self.count += 1;
    }

    fn centre(&self, slot: usize) -> Vec<f64> {
        let tile = &self.centres[slot / LANES * self.columns..][..self.columns];
        tile.iter().map(|column| column[slot % LANES]).collect()
    }

    fn is_taken(&self, slot: usize) -> bool {
        self.leaf[slot] != u32::MAX
    }

    fn first_taken(&self) -> usize {
        (0..self.leaf.len()).find(|slot| self.is_taken(*slot)).unwrap_or_default()
    }

    /// Closes the gaps once half of the slots are empty. Slot numbers change, so it must not run
    /// while a chain refers to slots.
    fn compact(&mut self) {
        if self.count * 2 > self.leaf.len() {
            return;
        }
        let mut dense = Self::empty(self.columns);
        for slot in (0..self.leaf.len()).filter(|slot| self.is_taken(*slot)) {
            let centre = self.centre(slot);
            dense.push(&centre, self.sizes[slot], self.leaf[slot]);
        }
        *self = dense;
    }

    /// The slot with the cheapest merge with `from`, and its cost; of equal costs `preferred`,
    /// then the first.
    fn nearest(&self, from: usize, preferred: Option<usize>) -> (usize, f64) {
        let (point, size) = (self.centre(from), self.sizes[from]);
        let mut best = (usize::MAX, f64::INFINITY);
        if let Some(slot) = preferred {
            best = (slot, self.merge_costs(slot / LANES, &point, size)[slot % LANES]);
        }
        for tile in 0..self.sizes.len() / LANES {
            let costs = self.merge_costs(tile, &point, size);
            let least = costs.iter().fold(f64::INFINITY, |least, cost| least.min(*cost));
            // The tile of `from` passes even without a better slot: its own cost is 0.
            if least >= best.1 {
                continue;
            }
            for (lane, cost) in costs.into_iter().enumerate() {
                let slot = tile * LANES + lane;
                if cost < best.1 && slot != from && self.is_taken(slot) {
                    best = (slot, cost);
                }
            }
        }
        best
    }

    /// 2 |A| |B| / (|A| + |B|) × squared distance, for each slot of a tile.
    fn merge_costs(&self, tile: usize, point: &[f64], size: f64) -> [f64; LANES] {
        let mut sums = [0.0; LANES];
        let columns = &self.centres[tile * self.columns..][..self.columns];
        for (column, x) in columns.iter().zip(point) {
            for (sum, value) in sums.iter_mut().zip(column) {
                *sum += (value - x) * (value - x);
            }
        }
        let sizes = &self.sizes[tile * LANES..][..LANES];
        for (sum, other) in sums.iter_mut().zip(sizes) {
            *sum *= 2.0 * size * other / (size + other);
        }
        sums
    }

    /// Merges the cluster in slot `from` into slot `into`.
    fn merge(&mut self, into: usize, from: usize) {
        let total = self.sizes[into] + self.sizes[from];
        let (share, moved) = (self.sizes[from] / total, self.centre(from));
        let (tile, lane) = (into / LANES * self.columns, into % LANES);
        for (column, x) in self.centres[tile..].iter_mut().zip(&moved) {
            column[lane] += share * (x - column[lane]);
        }
        let (tile, lane) = (from / LANES * self.columns, from % LANES);
        for column in &mut self.centres[tile..][..self.columns] {
            column[lane] = f64::INFINITY;
        }
        self.sizes[into] = total;
        self.sizes[from] = 0.0;
        self.leaf[from] = u32::MAX;
        self.count -= 1;
    }
}
