//! One training run, from rows to a sealed model.

use crate::domain::encode::Encoder;
use crate::domain::feature::{FeatureDef, FeatureRow};
use crate::domain::id::FeatureSetId;
use crate::domain::stats::Rng;
use crate::domain::time::Timestamp;
use crate::domain::train::assembly::decision_function::Found;
use crate::domain::train::assembly::finish;
use crate::domain::train::data::split::Split;
use crate::domain::train::data::{feature_selection, reservoir};
use crate::domain::train::evaluation::stability::Slices;
use crate::domain::train::projection::metric_space;
use crate::domain::train::selection::baseline::Baseline;
use crate::domain::train::selection::candidates::{Chosen, Field, compete};
use crate::domain::train::selection::leaderboard::{BaselineEntry, Leaderboard};
use crate::domain::train::{
    CheckedSpec, Dataset, FitError, Progress, SPLIT_STREAM, Search, TrainSpec, Trained,
};

/// Trains a model: samples and splits `rows`, fits the encoder, compares candidates, fits the
/// winner again on all rows except the held-out ones, calibrates, describes and seals.
///
/// `rows` are in canonical order, each with one value for each of `defs`; `as_of` is the
/// instant that they describe.
pub fn train(
    spec: &CheckedSpec,
    feature_set: &FeatureSetId,
    defs: &[FeatureDef],
    rows: &[FeatureRow],
    as_of: Timestamp,
    progress: &dyn Progress,
) -> Result<Trained, FitError> {
    let settings = spec.spec();
    let prepared = Prepared::new(settings, defs, rows, progress)?;
    let chosen = prepared.choose(settings, defs, progress)?;
    let fitted = prepared.fitted();
    let projection = metric_space::fit(settings, &fitted)?;
    let points = metric_space::through(projection.as_ref(), fitted);
    let outcome = chosen.algorithm.find(&points, chosen.segments, settings.seed, progress)?;
    let found = Found {
        clusters: outcome.clusters,
        projection,
        algorithm: Some(chosen.algorithm.name().into()),
        tree: outcome.tree,
    };
    let of = (feature_set, defs);
    prepared.finish(settings, of, as_of, (&found, outcome.search), chosen.leaderboard, progress)
}

/// [`train`] with one given algorithm and no leaderboard; the algorithm receives the encoded
/// fitted rows.
pub fn train_by(
    spec: &CheckedSpec,
    (feature_set, defs): (&FeatureSetId, &[FeatureDef]),
    rows: &[FeatureRow],
    as_of: Timestamp,
    progress: &dyn Progress,
    algorithm: impl FnOnce(&Dataset) -> Result<Found, FitError>,
) -> Result<Trained, FitError> {
    let settings = spec.spec();
    let prepared = Prepared::new(settings, defs, rows, progress)?;
    let found = algorithm(&prepared.fitted())?;
    let alone = Leaderboard::default();
    prepared.finish(settings, (feature_set, defs), as_of, (&found, None), alone, progress)
}

/// The training rows, split and encoded.
struct Prepared {
    rows: Vec<FeatureRow>,
    split: Split,
    encoder: Encoder,
    encoded: Dataset,
    /// The definitions that the encoder was fitted with.
    chosen: Vec<FeatureDef>,
}

impl Prepared {
    fn new(
        settings: &TrainSpec,
        defs: &[FeatureDef],
        rows: &[FeatureRow],
        progress: &dyn Progress,
    ) -> Result<Self, FitError> {
        settings.check_features(defs).map_err(FitError::Spec)?;
        // Checked before and after sampling: filters may leave too few rows.
        check_rows(settings, defs, rows)?;
        progress.report("encode", 0, 1);
        let rows = reservoir::rows(settings, defs, rows);
        check_rows(settings, defs, &rows)?;
        let mut rng = Rng::new(settings.seed, SPLIT_STREAM);
        let split = Split::draw(&rows, settings.holdout_share, settings.validation_share, &mut rng);
        // The encoder sees the fitted rows only: held-out rows must stay unseen for calibration.
        let fitted: Vec<&FeatureRow> = split.fitted.iter().map(|row| &rows[*row]).collect();
        let chosen = feature_selection::encoded(settings, defs);
        let encoder = Encoder::fit_some(&chosen, &fitted)?;
        let encoded = Dataset::encode(&encoder, &rows, progress.pause());
        progress.report("encode", 1, 1);
        Ok(Self { rows, split, encoder, encoded, chosen })
    }

    fn fitted(&self) -> Dataset {
        self.encoded.select(&self.split.fitted)
    }

    /// Fits and ranks the candidates, on the rows for training only.
    fn choose(
        &self,
        settings: &TrainSpec,
        defs: &[FeatureDef],
        progress: &dyn Progress,
    ) -> Result<Chosen, FitError> {
        let of = |places: &[usize]| places.iter().map(|row| &self.rows[*row]).collect::<Vec<_>>();
        let (raw, raw_validation) = (of(&self.split.train), of(&self.split.validation));
        let slices: Vec<Slices> = settings
            .slices
            .iter()
            .filter_map(|name| {
                let index = defs.iter().position(|def| def.name == *name)?;
                Some(Slices::by(name, index, &raw))
            })
            .collect();
        // Candidates are compared in a projection fitted to the rows for training only, so the
        // validation rows do not influence it.
        let train = self.encoded.select(&self.split.train);
        let validation = self.encoded.select(&self.split.validation);
        let projection = metric_space::fit(settings, &train)?;
        let train = metric_space::through(projection.as_ref(), train);
        let validation = metric_space::through(projection.as_ref(), validation);
        let mut field =
            Field { train: &train, validation: &validation, slices: &slices, baseline: None };

        progress.report("baseline", 0, 1);
        let baseline = settings.baseline.as_ref().and_then(|rfm| Baseline::fit(rfm, defs, &raw));
        field.baseline = baseline.map(|baseline| {
            let labels = baseline.labels(&raw);
            let beside = baseline.labels(&raw_validation);
            BaselineEntry {
                segments: Baseline::sizes(&labels),
                figures: field.figures(settings.seed, &labels, &beside),
            }
        });
        progress.report("baseline", 1, 1);
        compete(field, settings, progress)
    }

    fn finish(
        self,
        settings: &TrainSpec,
        (feature_set, defs): (&FeatureSetId, &[FeatureDef]),
        as_of: Timestamp,
        found: (&Found, Option<Search>),
        leaderboard: Leaderboard,
        progress: &dyn Progress,
    ) -> Result<Trained, FitError> {
        if progress.should_stop() {
            return Err(FitError::Stopped);
        }
        progress.report("finish", 0, 1);
        let Self { rows, split, encoder, encoded, chosen } = self;
        let split_check = split.check(defs, &rows);
        let given = finish::Given {
            settings,
            feature_set,
            defs,
            rows: &rows,
            as_of,
            split_check,
            leaderboard,
        };
        let mut trained = finish::finish(given, encoder, &encoded, &split, found, progress)?;
        // Deselected features have no encoding on purpose: they are not reported as left out.
        let excluded = |name: &str| chosen.iter().any(|d| &*d.name == name && d.encoding.is_none());
        trained.report.left_out.retain(|name| !excluded(name));
        progress.report("finish", 1, 1);
        Ok(trained)
    }
}

fn check_rows(spec: &TrainSpec, defs: &[FeatureDef], rows: &[FeatureRow]) -> Result<(), FitError> {
    if rows.len() < spec.minimum_rows {
        return Err(FitError::TooFewRows { rows: rows.len(), minimum: spec.minimum_rows });
    }
    match rows.iter().position(|row| row.0.len() != defs.len()) {
        None => Ok(()),
        Some(row) => {
            Err(FitError::RowLength { row, found: rows[row].0.len(), expected: defs.len() })
        }
    }
}
