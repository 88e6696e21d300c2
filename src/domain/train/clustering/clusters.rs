//! Common result of all algorithms: prototypes that one kernel can serve.
//!
//! A row belongs to the segment of the prototype with the smallest Σ wⱼ (xⱼ − pⱼ)² + offset, or
//! Σ wⱼ |xⱼ − pⱼ| + offset (a power diagram; Aurenhammer 1987). k-means has one prototype per
//! segment, weights 1 and no offset. A diagonal Gaussian mixture has the inverse variances as
//! weights and −2 ln(share) + Σ ln(variance) as offset, which gives its most likely component
//! exactly. Density-based segments have several prototypes each.

use ndarray::Array2;

use crate::domain::model::DistanceMetric;
use crate::domain::train::EncodedDataset;
use crate::domain::train::clustering::kmeans::KmeansPartition;

/// Clusters found by one algorithm, in the encoded space.
#[derive(Debug, Clone, PartialEq)]
pub struct PrototypeClusters {
    /// Segment of each row according to the algorithm; `None` is noise.
    pub labels: Vec<Option<u32>>,
    /// (`n_prototypes`, `n_columns`)
    pub prototypes: Array2<f64>,
    /// Segment of each prototype. Every segment has at least one.
    pub segment_of: Vec<u32>,
    /// (`n_segments`, `n_columns`), positive; `None`: all 1.
    pub weights: Option<Array2<f64>>,
    /// One per prototype; `None`: all 0.
    pub offsets: Option<Vec<f64>>,
    /// Radius of each segment: a row farther from its nearest prototype (by the weighted
    /// metric) is noise. `None`: no row is noise.
    pub radius: Option<Vec<f64>>,
    pub metric: DistanceMetric,
}

impl PrototypeClusters {
    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.segment_of.iter().max().map_or(0, |last| *last as usize + 1)
    }

    /// Segment of each row by the rule above, as in serving; of equally near prototypes the
    /// first. In parallel in the current rayon pool.
    pub fn assign_rows(&self, data: &EncodedDataset) -> Vec<Option<u32>> {
        data.map_rows(|row| {
            let row = data.row(row);
            let mut nearest = (f64::INFINITY, f64::INFINITY, 0);
            for (index, prototype) in self.prototypes.rows().into_iter().enumerate() {
                let segment = self.segment_of[index] as usize;
                let terms = row.iter().zip(prototype).map(|(x, p)| self.term(*x, *p));
                let sum: f64 = match &self.weights {
                    None => terms.sum(),
                    Some(weights) => {
                        terms.zip(weights.row(segment)).map(|(term, weight)| weight * term).sum()
                    }
                };
                let rank = sum + self.offsets.as_ref().map_or(0.0, |offsets| offsets[index]);
                // Strict comparison: ties go to the first prototype, as in the kernel.
                if rank < nearest.0 {
                    nearest = (rank, sum, segment);
                }
            }
            let (_, sum, segment) = nearest;
            // The radius limits the distance, not the score: offsets are left out.
            let distance = match self.metric {
                DistanceMetric::Euclidean => sum.sqrt(),
                DistanceMetric::Manhattan => sum,
            };
            let is_within = self.radius.as_ref().is_none_or(|reach| distance <= reach[segment]);
            is_within.then_some(segment as u32)
        })
    }

    /// Term of the distance sum for one column, unweighted.
    fn term(&self, x: f32, p: f64) -> f64 {
        let difference = f64::from(x) - p;
        match self.metric {
            DistanceMetric::Euclidean => difference * difference,
            DistanceMetric::Manhattan => difference.abs(),
        }
    }
}

impl From<KmeansPartition> for PrototypeClusters {
    fn from(partition: KmeansPartition) -> Self {
        Self {
            segment_of: (0..partition.centres.nrows() as u32).collect(),
            labels: partition.labels.into_iter().map(Some).collect(),
            prototypes: partition.centres,
            weights: None,
            offsets: None,
            radius: None,
            metric: DistanceMetric::Euclidean,
        }
    }
}
