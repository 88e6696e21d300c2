//! Screening: every candidate is fitted to the same small sample and judged there, so that a wide
//! search costs the same for a thousand rows and for a million.

use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::sample;
use crate::domain::train::data::outcomes::OutcomeColumns;
use crate::domain::train::evaluation::density_validation::density_validation;
use crate::domain::train::evaluation::external_indices::SegmentLabel;
use crate::domain::train::evaluation::neighbour_graph::NeighbourGraph;
use crate::domain::train::evaluation::reproducibility::RowHalves;
use crate::domain::train::evaluation::row_distances::RowDistances;
use crate::domain::train::selection::criteria::SelectionCriteria;
use crate::domain::train::{EncodedDataset, PrototypeClusters, TrainingError};

/// Maximum size of the sample.
pub(crate) const SCREENING_ROWS: usize = 3000;
/// Neighbours of a row in the graph of nearest neighbours.
const NEIGHBOURS: usize = 10;
/// Divisions into halves that reproducibility is measured on.
pub(crate) const DIVISIONS: usize = 5;
/// Random streams of the sample and of the halves.
const SAMPLE_STREAM: u64 = 5;
const HALVES_STREAM: u64 = 6;

/// The sample, with all that judging a candidate needs.
#[derive(Debug)]
pub(crate) struct ScreeningSample {
    pub(crate) data: EncodedDataset,
    outcomes: OutcomeColumns,
    distances: RowDistances,
    neighbours: NeighbourGraph,
    halves: RowHalves,
}

impl ScreeningSample {
    /// Draws at most [`SCREENING_ROWS`] rows, with their outcomes.
    pub(crate) fn draw(data: &EncodedDataset, outcomes: &OutcomeColumns, seed: u64) -> Self {
        let mut rng = RandomStream::new(seed, SAMPLE_STREAM);
        let (sample, outcomes) = if data.rows() > SCREENING_ROWS {
            let drawn = sample::draw(data.rows(), SCREENING_ROWS, &mut rng);
            (data.select(&drawn), outcomes.select(&drawn))
        } else {
            (data.clone(), outcomes.clone())
        };
        Self { outcomes, ..Self::new(sample, seed, DIVISIONS) }
    }

    /// Prepares all of `data`, without outcomes.
    pub(crate) fn new(data: EncodedDataset, seed: u64, divisions: usize) -> Self {
        let distances = RowDistances::measure(&data);
        let neighbours = NeighbourGraph::new(&distances, NEIGHBOURS);
        let mut rng = RandomStream::new(seed, HALVES_STREAM);
        let halves = RowHalves::draw(&distances, divisions, &mut rng);
        Self { data, outcomes: OutcomeColumns::default(), distances, neighbours, halves }
    }

    /// Outcomes that cannot judge in the sample.
    pub(crate) fn unusable_outcomes(&self) -> &[Box<str>] {
        &self.outcomes.unusable
    }

    /// Judges a partition of the sample; `fit` clusters half of it in the same way.
    pub(crate) fn judge(
        &self,
        labels: &[SegmentLabel],
        fit: impl Fn(&EncodedDataset) -> Result<PrototypeClusters, TrainingError> + Sync,
    ) -> Result<SelectionCriteria, TrainingError> {
        Ok(SelectionCriteria {
            reproducibility: self.halves.reproducibility(&self.data, fit)?,
            modularity: self.neighbours.modularity(labels),
            density_validation: density_validation(&self.distances, self.data.columns(), labels),
            outcomes: self.outcomes.explained_share(labels),
        })
    }
}
