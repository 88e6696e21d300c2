//! Preparation of the training rows: sampling, split, encoding.

use crate::domain::encode::Encoder;
use crate::domain::feature::{FeatureDef, FeatureRow};
use crate::domain::id::FeatureSetId;
use crate::domain::stats::Rng;
use crate::domain::time::Timestamp;
use crate::domain::train::data::split::Split;
use crate::domain::train::data::{feature_selection, reservoir};
use crate::domain::train::{Dataset, SPLIT_STREAM, TrainSpec, TrainingError, TrainingProgress};

/// Feature rows to train on, with their definitions.
#[derive(Debug, Clone, Copy)]
pub struct TrainingData<'a> {
    pub feature_set: &'a FeatureSetId,
    pub defs: &'a [FeatureDef],
    /// In canonical order, each with one value for each of `defs`.
    pub rows: &'a [FeatureRow],
    /// The instant that the rows describe.
    pub as_of: Timestamp,
}

/// The training rows, split and encoded.
pub(crate) struct PreparedRows {
    pub(crate) rows: Vec<FeatureRow>,
    pub(crate) split: Split,
    pub(crate) encoder: Encoder,
    pub(crate) encoded: Dataset,
    /// The definitions that the encoder was fitted with.
    pub(crate) selected: Vec<FeatureDef>,
}

impl PreparedRows {
    /// Samples, splits and encodes the rows; refuses too few or malformed rows.
    pub(crate) fn prepare(
        settings: &TrainSpec,
        data: &TrainingData<'_>,
        progress: &dyn TrainingProgress,
    ) -> Result<Self, TrainingError> {
        settings.check_features(data.defs).map_err(TrainingError::Spec)?;
        // Checked before and after sampling: filters may leave too few rows.
        check_rows(settings, data.defs, data.rows)?;
        progress.report("encode", 0, 1);
        let rows = reservoir::filter_and_sample(settings, data.defs, data.rows);
        check_rows(settings, data.defs, &rows)?;
        let mut rng = Rng::new(settings.seed, SPLIT_STREAM);
        let split = Split::draw(&rows, settings.holdout_share, settings.validation_share, &mut rng);
        // The encoder sees the fitted rows only: held-out rows must stay unseen for calibration.
        let fitted: Vec<&FeatureRow> = split.fitted.iter().map(|row| &rows[*row]).collect();
        let selected = feature_selection::selected(data.defs, &settings.include, &settings.exclude);
        let encoder = Encoder::fit_some(&selected, &fitted)?;
        let encoded = Dataset::encode(&encoder, &rows, progress.pause());
        progress.report("encode", 1, 1);
        Ok(Self { rows, split, encoder, encoded, selected })
    }

    /// The encoded rows for the final fit.
    pub(crate) fn fitted(&self) -> Dataset {
        self.encoded.select(&self.split.fitted)
    }

    /// References to the selected rows.
    pub(crate) fn rows_at(&self, indices: &[usize]) -> Vec<&FeatureRow> {
        indices.iter().map(|row| &self.rows[*row]).collect()
    }
}

fn check_rows(
    spec: &TrainSpec,
    defs: &[FeatureDef],
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
