//! What every algorithm ends in: prototypes that one kernel can serve.
//!
//! A row belongs to the segment of the prototype that is nearest by
//! Σ wⱼ (xⱼ − pⱼ)² + offset, or by Σ wⱼ |xⱼ − pⱼ| + offset. k-means has one prototype a segment, all weights 1
//! and no offset; a diagonal mixture has the inverse variances as weights and
//! −2 ln(share) + Σ ln(variance) as offset, which is its own most likely
//! component, exactly; density-based segments have several prototypes each.

use ndarray::Array2;

use crate::domain::model::Metric;
use crate::domain::train::Dataset;
use crate::domain::train::clustering::kmeans::Partition;

/// One complete outcome of one algorithm, in the encoded space.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// One a row: its segment as the algorithm has it; `None` is noise.
    pub labels: Vec<Option<u32>>,
    /// (`n_prototypes`, `n_columns`)
    pub prototypes: Array2<f64>,
    /// One a prototype: the segment it stands for. Every segment has one.
    pub segment_of: Vec<u32>,
    /// (`n_segments`, `n_columns`), positive; `None`: all 1.
    pub weights: Option<Array2<f64>>,
    /// One a prototype; `None`: all 0.
    pub offsets: Option<Vec<f64>>,
    /// One a segment: rows farther from its nearest prototype than this
    /// (by the metric, weighted) are noise. `None`: nobody is.
    pub reach: Option<Vec<f64>>,
    pub metric: Metric,
}

impl Clusters {
    pub fn segments(&self) -> usize {
        self.segment_of.iter().max().map_or(0, |last| *last as usize + 1)
    }

    /// Each row's segment by the rule above, as serving has it; of equally near
    /// prototypes the first. In parallel in the current rayon pool.
    pub fn place(&self, data: &Dataset) -> Vec<Option<u32>> {
        data.map_rows(|row| {
            let row = data.row(row);
            let mut nearest = (f64::INFINITY, f64::INFINITY, 0);
            for (index, prototype) in self.prototypes.rows().into_iter().enumerate() {
                let segment = self.segment_of[index] as usize;
                let power = |(x, p): (&f32, &f64)| match self.metric {
                    Metric::Euclidean => (f64::from(*x) - p) * (f64::from(*x) - p),
                    Metric::Manhattan => (f64::from(*x) - p).abs(),
                };
                let pairs = row.iter().zip(prototype);
                let sum: f64 = match &self.weights {
                    None => pairs.map(power).sum(),
                    Some(weights) => {
                        pairs.zip(weights.row(segment)).map(|(pair, w)| w * power(pair)).sum()
                    }
                };
                let rank = sum + self.offsets.as_ref().map_or(0.0, |offsets| offsets[index]);
                if rank < nearest.0 {
                    nearest = (rank, sum, segment);
                }
            }
            let (_, sum, segment) = nearest;
            let distance = match self.metric {
                Metric::Euclidean => sum.sqrt(),
                Metric::Manhattan => sum,
            };
            let within = |reach: &Vec<f64>| distance <= reach[segment];
            self.reach.as_ref().is_none_or(within).then_some(segment as u32)
        })
    }
}

impl From<Partition> for Clusters {
    fn from(partition: Partition) -> Self {
        Self {
            segment_of: (0..partition.centres.nrows() as u32).collect(),
            labels: partition.labels.into_iter().map(Some).collect(),
            prototypes: partition.centres,
            weights: None,
            offsets: None,
            reach: None,
            metric: Metric::Euclidean,
        }
    }
}
