//! Preparation of the training rows: sampling, split, encoding.

use crate::domain::encode::FeatureEncoder;
use crate::domain::feature::{FeatureDefinition, FeatureRow};
use crate::domain::id::FeatureSetId;
use crate::domain::stats::RandomStream;
use crate::domain::time::Timestamp;
use crate::domain::train::data::split::RowSplit;
use crate::domain::train::data::{feature_selection, reservoir};
use crate::domain::train::{
    EncodedDataset, SPLIT_STREAM, TrainingError, TrainingProgress, TrainingSpec,
};

/// Feature rows to train on, with their definitions.
#[derive(Debug, Clone, Copy)]
pub struct TrainingData<'a> {
    pub feature_set: &'a FeatureSetId,
    pub defs: &'a [FeatureDefinition],
    /// In canonical order, each with one value for each of `defs`.
    pub rows: &'a [FeatureRow],
    /// The instant that the rows describe.
    pub as_of: Timestamp,
}

/// The training rows, split and encoded.
pub(crate) struct PreparedRows {
    pub(crate) rows: Vec<FeatureRow>,
    pub(crate) split: RowSplit,
    pub(crate) encoder: FeatureEncoder,
    pub(crate) encoded: EncodedDataset,
    /// The definitions that the encoder was fitted with.
    pub(crate) selected: Vec<FeatureDefinition>,
}

impl PreparedRows {
    /// Samples, splits and encodes the rows; refuses too few or malformed rows.
    pub(crate) fn prepare(
        settings: &TrainingSpec,
        data: &TrainingData<'_>,
        progress: &dyn TrainingProgress,
    ) -> Result<Self, TrainingError> {
        settings.check_features(data.defs).map_err(TrainingError::Spec)?;
        // Checked before and after sampling: filters may leave too few rows.
        check_rows(settings, data.defs, data.rows)?;
        progress.report("encode", 0, 1);
        let rows = reservoir::filter_and_sample(settings, data.defs, data.rows);
        check_rows(settings, data.defs, &rows)?;
        let mut rng = RandomStream::new(settings.seed, SPLIT_STREAM);
        let split =
            RowSplit::draw(&rows, settings.holdout_share, settings.validation_share, &mut rng);
        // The encoder sees the fitted rows only: held-out rows must stay unseen for calibration.
        let fitted: Vec<&FeatureRow> = split.fitted.iter().map(|row| &rows[*row]).collect();
        let selected = feature_selection::selected(data.defs, &settings.include, &settings.exclude);
        let encoder = FeatureEncoder::fit_rows(&selected, &fitted)?;
        let encoded = EncodedDataset::encode(&encoder, &rows, progress.pause());
        progress.report("encode", 1, 1);
        Ok(Self { rows, split, encoder, encoded, selected })
    }

    /// The encoded rows for the final fit.
    pub(crate) fn fitted(&self) -> EncodedDataset {
        self.encoded.select(&self.split.fitted)
    }

    /// References to the selected rows.
    pub(crate) fn rows_at(&self, indices: &[usize]) -> Vec<&FeatureRow> {
        indices.iter().map(|row| &self.rows[*row]).collect()
    }
}

fn check_rows(
    spec: &TrainingSpec,
    defs: &[FeatureDefinition],
    rows: &[FeatureRow],
) -> Result<(), TrainingError> {
    if rows.len() < spec.minimum_rows {
        return Err(TrainingError::TooFewRows { rows: rows.len(), minimum: spec.minimum_rows });
    }
    match rows.iter().position(|row| row.0.len() != defs.len()) {
        None => Ok(()),
        Some(row) => {
            Err(TrainingError::RowLength { row, found: rows[row].0.len(), expected: defs.len() })
        }
    }
}
