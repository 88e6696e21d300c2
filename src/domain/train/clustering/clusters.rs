//! Common result of all algorithms: prototypes that one kernel can serve.
//!
//! A row belongs to the segment of the prototype with the smallest Σ wⱼ (xⱼ − pⱼ)² + offset, or
//! Σ wⱼ |xⱼ − pⱼ| + offset (a power diagram; Aurenhammer 1987). k-means has one prototype per
//! segment, weights 1 and no offset. A diagonal Gaussian mixture has the inverse variances as
//! weights and −2 ln(share) + Σ ln(variance) as offset, which gives its most likely component
//! exactly. Density-based segments have several prototypes each.

use ndarray::{Array2, Axis};

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
            let (segment, distance) = self.nearest(data, row);
            let is_within = self.radius.as_ref().is_none_or(|reach| distance <= reach[segment]);
            is_within.then_some(segment as u32)
        })
    }

    /// Segment of the nearest prototype, whatever its radius, and the distance to it.
    fn nearest(&self, data: &EncodedDataset, row: usize) -> (usize, f64) {
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
        (segment, distance)
    }

    /// These clusters without the segments that have less than `least_share` of the rows of
    /// `data`, whose served labels are `labels`. The other segments get a radius that reaches
    /// their farthest row, unless they have one. `None`: no segment is too small, or all are.
    pub(crate) fn without_small_segments(
        &self,
        data: &EncodedDataset,
        labels: &[Option<u32>],
        least_share: f64,
    ) -> Option<Self> {
        let mut sizes = vec![0_usize; self.segments()];
        for label in labels.iter().flatten() {
            sizes[*label as usize] += 1;
        }
        let least = least_share * labels.len() as f64;
        let kept: Vec<usize> = (0..sizes.len()).filter(|s| sizes[*s] as f64 >= least).collect();
        if kept.is_empty() || kept.len() == sizes.len() {
            return None;
        }
        let mut number = vec![None; sizes.len()];
        for (new, old) in kept.iter().enumerate() {
            number[*old] = Some(new as u32);
        }
        let renumbered = |label: &Option<u32>| label.and_then(|label| number[label as usize]);
        let places: Vec<usize> = (0..self.segment_of.len())
            .filter(|place| number[self.segment_of[*place] as usize].is_some())
            .collect();
        let mut clusters = Self {
            labels: self.labels.iter().map(renumbered).collect(),
            prototypes: self.prototypes.select(Axis(0), &places),
            segment_of: places
                .iter()
                .filter_map(|place| number[self.segment_of[*place] as usize])
                .collect(),
            weights: self.weights.as_ref().map(|weights| weights.select(Axis(0), &kept)),
            offsets: self
                .offsets
                .as_ref()
                .map(|offsets| places.iter().map(|place| offsets[*place]).collect()),
            radius: self.radius.as_ref().map(|reach| kept.iter().map(|s| reach[*s]).collect()),
            metric: self.metric,
        };
        if clusters.radius.is_none() {
            let distances = data.map_rows(|row| clusters.nearest(data, row).1);
            let mut radius = vec![0.0_f64; kept.len()];
            for (label, distance) in labels.iter().map(renumbered).zip(distances) {
                if let Some(label) = label {
                    radius[label as usize] = radius[label as usize].max(distance);
                }
            }
            clusters.radius = Some(radius);
        }
        Some(clusters)
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
