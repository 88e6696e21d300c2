//! Density-based clustering: DBSCAN and HDBSCAN. Rows in sparse regions are noise.
//!
//! Ester, Kriegel, Sander and Xu (1996), *A density-based algorithm for discovering clusters*;
//! Campello, Moulavi and Sander (2013), *Density-based clustering based on hierarchical density
//! estimates*.
//!
//! Ties. A row with a large core distance is equally far from several rows, so ties are the
//! rule in HDBSCAN. Here all rows that join at the same distance join at once, as the
//! definition says. scikit-learn and hdbscan join them two at a time in an unspecified order, so
//! a few border rows of a segment may be noise in one implementation only. DBSCAN assigns a
//! border row to the lowest-numbered segment with a core row in its neighbourhood, as
//! scikit-learn does.

pub(crate) mod kd_tree;
pub(crate) mod minimum_spanning_tree;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::train::clustering::density::kd_tree::{KdTree, RadiusSearch};
use crate::domain::train::clustering::density::minimum_spanning_tree::{TreeEdge, UnionFind};
use crate::domain::train::clustering::sample;
use crate::domain::train::clustering::sample::RowLabels;
use crate::domain::train::{EncodedDataset, TrainingError, TrainingProgress};

/// Number of neighbour lists in memory at a time.
const BATCH_ROWS: usize = 4096;
/// Fewest rows of a segment by its share, and of the default core neighbourhood.
const LEAST_CLUSTER_ROWS: usize = 5;
const LEAST_CORE_ROWS: usize = 5;
/// Replaces a distance of zero, which has no inverse.
const LEAST_DISTANCE: f64 = 1e-150;

/// Settings of HDBSCAN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HdbscanSettings {
    /// Minimum size of a segment, as a share of the rows, but at least five rows. A share keeps
    /// its meaning when there are more rows.
    pub min_cluster_share: f64,
    /// Minimum number of rows in a segment; `None`: by `min_cluster_share`.
    pub min_cluster_size: Option<usize>,
    /// The core distance is the distance to the nearest row number `min_samples`, the row
    /// itself included; `None`: as the minimum size of a segment, the rule of Campello et al.
    pub min_samples: Option<usize>,
    /// Maximum number of rows to cluster: of more rows a sample is clustered, with both sizes
    /// scaled down. Each other row gets the label of its nearest sampled row.
    pub max_rows: usize,
}

impl Default for HdbscanSettings {
    fn default() -> Self {
        Self {
            min_cluster_share: 0.01,
            min_cluster_size: None,
            min_samples: None,
            max_rows: 20_000,
        }
    }
}

/// Settings of DBSCAN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DbscanSettings {
    /// Radius of a neighbourhood in the encoded space; `None`: the knee of the sorted logarithms
    /// of the core distances.
    pub eps: Option<f64>,
    /// A core row has at least this number of rows in its neighbourhood, itself included; `None`:
    /// twice the number of columns (Sander, Ester, Kriegel and Xu 1998, *Density-based clustering
    /// in spatial databases*), and at least 2 ln(rows) and five: the more rows, the larger the
    /// groups that arise by chance at the rim of a dense region. Birant and Kut (2007, *ST-DBSCAN*)
    /// advise ln(rows); with it, three clouds of 1,000 rows were four segments in 9 of 20 trials.
    pub min_samples: Option<usize>,
    /// Minimum size of a segment, as a share of the rows; the rows of smaller ones are noise.
    pub min_cluster_share: f64,
    /// Maximum number of rows to cluster: of more rows a sample is clustered, and each other
    /// row gets the label of its nearest sampled row. `eps` grows with the thinner sample.
    pub max_rows: usize,
}

impl Default for DbscanSettings {
    fn default() -> Self {
        Self { eps: None, min_samples: None, min_cluster_share: 0.005, max_rows: 20_000 }
    }
}

/// Segment of each row by HDBSCAN with excess-of-mass selection; `None` is noise.
pub fn hdbscan(
    data: &EncodedDataset,
    settings: &HdbscanSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<RowLabels, TrainingError> {
    sample::cluster_sample(data, settings.max_rows, seed, |data, share| {
        // A sample is thinner by `share`: counts of rows shrink with it, so that the same regions
        // stay dense.
        let least = match settings.min_cluster_size {
            Some(size) => scaled_down(size, share, 2),
            None => scaled_down(data.rows(), settings.min_cluster_share, LEAST_CLUSTER_ROWS),
        };
        let samples = match settings.min_samples {
            None => least,
            Some(samples) if share < 1.0 => scaled_down(samples, share, 2),
            Some(samples) => samples,
        };
        let tree = KdTree::new(data);
        let cores = minimum_spanning_tree::core_distances(&tree, data.columns(), samples);
        let edges = minimum_spanning_tree::spanning_tree(&tree, data.columns(), &cores, progress)?;
        let clusters = CondensedTree::new(&Dendrogram::new(edges, data.rows()), least);
        Ok(in_row_order(&tree, &clusters.labels()))
    })
}

/// Segment of each row by DBSCAN; `None` is noise.
pub fn dbscan(
    data: &EncodedDataset,
    settings: &DbscanSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<RowLabels, TrainingError> {
    sample::cluster_sample(data, settings.max_rows, seed, |data, share| {
        let samples = settings.min_samples.unwrap_or_else(|| default_core_rows(data));
        let tree = KdTree::new(data);
        let cores = minimum_spanning_tree::core_distances(&tree, data.columns(), samples);
        // In a sample, the ball with as many rows as before is larger.
        let growth = share.powf(-1.0 / data.columns().max(1) as f64);
        let eps = settings.eps.map_or_else(|| knee_distance(&cores), |eps| eps * growth);
        let is_core: Vec<bool> =
            cores.iter().map(|core| samples <= data.rows() && *core <= eps * eps).collect();
        let mut parts = UnionFind::new(data.rows());
        // Border rows, with the core rows in their neighbourhood.
        let mut rims: Vec<(u32, Vec<u32>)> = Vec::new();
        let positions: Vec<usize> = (0..data.rows()).collect();
        for batch in positions.chunks(BATCH_ROWS) {
            if progress.should_stop() {
                return Err(TrainingError::Stopped);
            }
            let near: Vec<Vec<u32>> = batch
                .par_iter()
                .map(|position| {
                    let (mut point, mut positions) = (vec![0.0; data.columns()], Vec::new());
                    tree.copy(*position, &mut point);
                    tree.search(
                        &point,
                        &mut RadiusSearch { squared: eps * eps, positions: &mut positions },
                    );
                    positions
                        .into_iter()
                        .filter(|near| is_core[*near])
                        .map(|near| near as u32)
                        .collect()
                })
                .collect();
            for (position, near) in batch.iter().zip(near) {
                if is_core[*position] {
                    for near in &near {
                        // Whether the parts were separate does not matter here.
                        _ = parts.unite(*position as u32, *near);
                    }
                } else if !near.is_empty() {
                    rims.push((*position as u32, near));
                }
            }
        }
        // The order of the parts is that of the lowest row number among their core rows: positions
        // follow the k-d tree, not the rows.
        let mut labels: Vec<Option<u32>> = (0..data.rows())
            .map(|position| is_core[position].then(|| parts.find(position as u32)))
            .collect();
        let mut first = vec![u32::MAX; data.rows()];
        for (position, part) in labels.iter().enumerate() {
            if let Some(part) = part {
                let first = &mut first[*part as usize];
                *first = tree.rows[position].min(*first);
            }
        }
        for (position, near) in rims {
            labels[position as usize] = near
                .into_iter()
                .filter_map(|core| labels[core as usize])
                .min_by_key(|part| first[*part as usize]);
        }
        remove_small_parts(&mut labels, settings.min_cluster_share);
        let named: RowLabels =
            labels.iter().map(|part| part.map(|part| first[part as usize])).collect();
        Ok(in_row_order(&tree, &named))
    })
}

/// Refuses labels without a segment; `remedy` says which settings to change.
pub(crate) fn refuse_all_noise(
    labels: &[Option<u32>],
    remedy: &'static str,
) -> Result<(), TrainingError> {
    if labels.iter().all(Option::is_none) {
        return Err(TrainingError::AllNoise { rows: labels.len(), remedy });
    }
    Ok(())
}

/// Default of `min_samples` in DBSCAN.
fn default_core_rows(data: &EncodedDataset) -> usize {
    let by_rows = (2.0 * (data.rows() as f64).ln()).ceil() as usize;
    (2 * data.columns()).max(by_rows).max(LEAST_CORE_ROWS)
}

/// Turns the rows of parts below a share of all rows into noise.
fn remove_small_parts(labels: &mut [Option<u32>], least_share: f64) {
    let mut sizes = vec![0_usize; labels.len()];
    for part in labels.iter().flatten() {
        sizes[*part as usize] += 1;
    }
    let least = least_share * labels.len() as f64;
    for label in labels.iter_mut() {
        *label = label.filter(|part| sizes[*part as usize] as f64 >= least);
    }
}

fn scaled_down(count: usize, share: f64, least: usize) -> usize {
    ((count as f64 * share).round() as usize).max(least)
}

/// Default neighbourhood radius: the knee of the sorted core distances, which is the point
/// farthest below the chord from the first to the last (Satopää et al. 2011, *Finding a
/// "kneedle" in a haystack*). Logarithms are compared, so that one extreme row, which moves the
/// end of the chord, hardly moves the knee. `cores` are squared; rows on one place have no
/// logarithm, and are left out.
fn knee_distance(cores: &[f64]) -> f64 {
    let positive = cores.iter().filter(|core| **core > 0.0);
    let mut ascending: Vec<f64> = positive.map(|core| core.sqrt().ln()).collect();
    ascending.sort_unstable_by(f64::total_cmp);
    let (Some(first), Some(last)) = (ascending.first(), ascending.last()) else { return 0.0 };
    let mut best = (f64::NEG_INFINITY, 0.0);
    for (index, distance) in ascending.iter().enumerate() {
        let along = index as f64 / (ascending.len() - 1).max(1) as f64;
        let below_chord = first + (last - first) * along - distance;
        // The last of equal maxima: the largest radius.
        if below_chord >= best.0 {
            best = (below_chord, *distance);
        }
    }
    best.1.exp()
}

/// Converts labels of positions in the k-d tree to labels of rows.
fn in_row_order(tree: &KdTree, of_positions: &[Option<u32>]) -> RowLabels {
    let mut of_rows = vec![None; of_positions.len()];
    for (row, label) in tree.rows.iter().zip(of_positions) {
        of_rows[*row as usize] = *label;
    }
    of_rows
}

/// Single-linkage dendrogram of positions. Nodes below `leaves` are positions; the others come in
/// ascending order of height, the root last.
struct Dendrogram {
    leaves: usize,
    /// Children of node `leaves` + i.
    children: Vec<Vec<u32>>,
    /// Distance at which node `leaves` + i forms.
    heights: Vec<f64>,
    /// Places below each node.
    sizes: Vec<usize>,
}

impl Dendrogram {
    fn new(mut edges: Vec<TreeEdge>, leaves: usize) -> Self {
        edges.sort_unstable_by(|x, y| {
            x.squared.total_cmp(&y.squared).then((x.a, x.b).cmp(&(y.a, y.b)))
        });
        let mut tree =
            Self { leaves, children: Vec::new(), heights: Vec::new(), sizes: vec![1; leaves] };
        let mut parts = UnionFind::new(leaves);
        // Per part, indexed by its root: its node, and the nodes that join in it at this height.
        let mut node: Vec<u32> = (0..leaves as u32).collect();
        let mut joining: Vec<Vec<u32>> = vec![Vec::new(); leaves];
        for equal in edges.chunk_by(|x, y| x.squared.total_cmp(&y.squared).is_eq()) {
            for edge in equal {
                // First pass: collect the nodes that join at this height, over all its edges.
                let (a, b) = (parts.find(edge.a), parts.find(edge.b));
                let mut all = Vec::new();
                for part in [a as usize, b as usize] {
                    if joining[part].is_empty() {
                        all.push(node[part]);
                    } else {
                        all.append(&mut joining[part]);
                    }
                }
                parts.unite(a, b);
                joining[parts.find(a) as usize] = all;
            }
            // Second pass: one new node per group of joined nodes, at the first edge of it.
            for edge in equal {
                let part = parts.find(edge.a) as usize;
                let children = std::mem::take(&mut joining[part]);
                if children.is_empty() {
                    continue;
                }
                node[part] = tree.sizes.len() as u32;
                tree.sizes.push(children.iter().map(|child| tree.sizes[*child as usize]).sum());
                tree.heights.push(equal[0].squared.sqrt());
                tree.children.push(children);
            }
        }
        tree
    }
}

/// Condensed tree: the dendrogram without splits into parts smaller than a segment.
struct CondensedTree {
    /// The root first; every cluster comes after its parent.
    clusters: Vec<CondensedCluster>,
    /// For each position, the last cluster that contains it.
    last: Vec<u32>,
}

struct CondensedCluster {
    parent: Option<usize>,
    /// Inverse of the distance at which the cluster splits off.
    birth: f64,
    /// Σ over its positions of their lifetime in the cluster, in inverse distances.
    stability: f64,
}

impl CondensedTree {
    fn new(tree: &Dendrogram, least: usize) -> Self {
        let root = CondensedCluster { parent: None, birth: 0.0, stability: 0.0 };
        let mut condensed = Self { clusters: vec![root], last: vec![0; tree.leaves] };
        let mut open = vec![(tree.sizes.len().saturating_sub(1), 0)];
        while let Some((node, cluster)) = open.pop() {
            let Some(inner) = node.checked_sub(tree.leaves) else { continue };
            let inverse = tree.heights[inner].max(LEAST_DISTANCE).recip();
            let children = &tree.children[inner];
            let large: Vec<usize> = children
                .iter()
                .map(|child| *child as usize)
                .filter(|child| tree.sizes[*child] >= least)
                .collect();
            let stay = inverse - condensed.clusters[cluster].birth;
            // One large child: the cluster goes on and loses its small children as noise.
            // Otherwise it ends here, and each large child starts a cluster.
            let leaving = if let [only] = large[..] {
                open.push((only, cluster));
                tree.sizes[node] - tree.sizes[only]
            } else {
                for child in &large {
                    open.push((*child, condensed.clusters.len()));
                    condensed.clusters.push(CondensedCluster {
                        parent: Some(cluster),
                        birth: inverse,
                        stability: 0.0,
                    });
                }
                tree.sizes[node]
            };
            condensed.clusters[cluster].stability += stay * leaving as f64;
            for child in children.iter().filter(|child| tree.sizes[**child as usize] < least) {
                condensed.assign_positions(tree, *child as usize, cluster);
            }
        }
        condensed
    }

    /// Sets `cluster` as the last cluster of all positions below `node`.
    fn assign_positions(&mut self, tree: &Dendrogram, node: usize, cluster: usize) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            match node.checked_sub(tree.leaves) {
                None => self.last[node] = cluster as u32,
                Some(inner) => {
                    open.extend(tree.children[inner].iter().map(|child| *child as usize));
                }
            }
        }
    }

    /// Excess of mass: selects the non-overlapping clusters with the largest total stability;
    /// never the root.
    fn labels(&self) -> RowLabels {
        let count = self.clusters.len();
        // Best total stability within each cluster's descendants.
        let mut parts = vec![0.0; count];
        let mut is_chosen = vec![false; count];
        // In reverse order every cluster comes after its descendants.
        for (index, cluster) in self.clusters.iter().enumerate().skip(1).rev() {
            is_chosen[index] = cluster.stability >= parts[index];
            if let Some(parent) = cluster.parent {
                parts[parent] += cluster.stability.max(parts[index]);
            }
        }
        let mut label: RowLabels = vec![None; count];
        for (index, cluster) in self.clusters.iter().enumerate().skip(1) {
            let above = cluster.parent.and_then(|parent| label[parent]);
            label[index] = above.or(is_chosen[index].then_some(index as u32));
        }
        self.last.iter().map(|cluster| label[*cluster as usize]).collect()
    }
}
