//! One training run, from rows to a sealed model.

use crate::domain::feature::FeatureDefinition;
use crate::domain::stats::RandomStream;
use crate::domain::train::assembly::decision_function::ProjectedClusters;
use crate::domain::train::assembly::finish;
use crate::domain::train::assembly::finish::ClusterSearch;
use crate::domain::train::clustering::sample;
use crate::domain::train::data::outcomes::OutcomeColumns;
use crate::domain::train::data::prepared_rows::{PreparedRows, TrainingData};
use crate::domain::train::evaluation::stability::RowSlices;
use crate::domain::train::projection::metric_space;
use crate::domain::train::selection::baseline::RfmBaseline;
use crate::domain::train::selection::candidates::{
    CandidateRanking, ComparisonData, LabelledRows, compare_candidates, partition_figures,
};
use crate::domain::train::selection::leaderboard::{
    BaselineEntry, GateOutcome, Leaderboard, PartitionShares,
};
use crate::domain::train::selection::notes;
use crate::domain::train::selection::served_fit::fit_as_served;
use crate::domain::train::{
    COMPARISON_STREAM, CheckedTrainingSpec, EncodedDataset, TrainedModel, TrainingError,
    TrainingProgress, TrainingSpec,
};

/// Trains a model: samples and splits the rows, fits the encoder, compares candidates, fits the
/// winner again on all rows except the held-out ones, calibrates, describes and seals.
pub fn train_model(
    spec: &CheckedTrainingSpec,
    data: &TrainingData<'_>,
    progress: &dyn TrainingProgress,
) -> Result<TrainedModel, TrainingError> {
    let settings = spec.spec();
    let prepared = PreparedRows::prepare(settings, data, progress)?;
    let ranking = rank_candidates(&prepared, settings, data.defs, progress)?;
    let search = refit_best(&prepared, settings, ranking, progress)?;
    finish::finish(settings, data, prepared, search, progress)
}

/// Fits the best candidate again, to all rows except the held-out ones.
///
/// The gates of sizes are checked again, on the partition of all rows, which is the one that would
/// serve: a candidate close to a gate can pass it on the rows for training and fail it on all
/// rows. Then the next one is fitted.
fn refit_best(
    prepared: &PreparedRows,
    settings: &TrainingSpec,
    ranking: CandidateRanking,
    progress: &dyn TrainingProgress,
) -> Result<ClusterSearch, TrainingError> {
    let CandidateRanking { mut leaderboard, algorithms, unusable_outcomes } = ranking;
    let fitted = prepared.fitted();
    let projection = metric_space::fit(settings, &fitted)?;
    let points = metric_space::apply_projection(projection.as_ref(), fitted);
    let all = metric_space::apply_projection(projection.as_ref(), prepared.encoded.clone());
    while let Some(best) = leaderboard.winner() {
        let algorithm = &algorithms[best.listed];
        let fit = match fit_as_served(algorithm, best.segments, &points, &all, settings, progress) {
            Ok(fit) => fit,
            Err(error) if error.concerns_one_candidate() => {
                leaderboard.refuse_winner(vec![GateOutcome::failed_fit()], &error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        let failed = PartitionShares::of(&fit.labels).failed_gates(&settings.gates);
        if !failed.is_empty() {
            let reasons: Vec<String> = failed.iter().map(GateOutcome::describe).collect();
            leaderboard.refuse_winner(failed, &reasons.join(", "));
            continue;
        }
        leaderboard.notes = notes::notes_on_choice(
            &leaderboard,
            fit.dissolved,
            settings,
            prepared.split.train.len(),
        );
        leaderboard
            .notes
            .extend(unusable_outcomes.iter().map(|name| notes::unusable_outcome(name)));
        let found = ProjectedClusters {
            clusters: fit.outcome.clusters,
            projection,
            algorithm: Some(algorithm.name().into()),
            tree: fit.outcome.tree,
        };
        return Ok(ClusterSearch { found, kmeans: fit.outcome.search, leaderboard });
    }
    Err(TrainingError::NoQualifiedCandidate { refusals: leaderboard.refusals() })
}

/// [`train_model`] with one given algorithm and no leaderboard; the algorithm receives the encoded
/// fitted rows.
pub fn train_with_algorithm(
    spec: &CheckedTrainingSpec,
    data: &TrainingData<'_>,
    progress: &dyn TrainingProgress,
    algorithm: impl FnOnce(&EncodedDataset) -> Result<ProjectedClusters, TrainingError>,
) -> Result<TrainedModel, TrainingError> {
    let settings = spec.spec();
    let prepared = PreparedRows::prepare(settings, data, progress)?;
    let found = algorithm(&prepared.fitted())?;
    let search = ClusterSearch { found, kmeans: None, leaderboard: Leaderboard::default() };
    finish::finish(settings, data, prepared, search, progress)
}

/// Maximum number of rows on which candidates are compared. The standard error of a share is then
/// below 0.004.
const COMPARISON_ROWS: usize = 20_000;

/// At most [`COMPARISON_ROWS`] of `rows`, in the same order.
fn draw_for_comparison(rows: &[usize], seed: u64) -> Vec<usize> {
    if rows.len() <= COMPARISON_ROWS {
        return rows.to_vec();
    }
    let mut rng = RandomStream::new(seed, COMPARISON_STREAM);
    let drawn = sample::draw(rows.len(), COMPARISON_ROWS, &mut rng);
    drawn.into_iter().map(|place| rows[place]).collect()
}

/// Fits and ranks the candidates, on the rows for training only.
fn rank_candidates(
    prepared: &PreparedRows,
    settings: &TrainingSpec,
    defs: &[FeatureDefinition],
    progress: &dyn TrainingProgress,
) -> Result<CandidateRanking, TrainingError> {
    let seed = settings.seed;
    let training_rows = draw_for_comparison(&prepared.split.train, seed);
    let validation_rows = draw_for_comparison(&prepared.split.validation, seed);
    let raw = prepared.rows_at(&training_rows);
    let slices: Vec<RowSlices> = settings
        .slices
        .iter()
        .filter_map(|name| {
            let index = defs.iter().position(|def| def.name == *name)?;
            Some(RowSlices::by_feature(name, index, &raw))
        })
        .collect();
    let train = prepared.encoded.select(&training_rows);
    let validation = prepared.encoded.select(&validation_rows);
    // Candidates are compared in a projection fitted to the rows for training only, so the
    // validation rows do not influence it.
    let projection = metric_space::fit(settings, &train)?;
    let train = metric_space::apply_projection(projection.as_ref(), train);
    let validation = metric_space::apply_projection(projection.as_ref(), validation);
    let mut field = ComparisonData {
        train: &train,
        validation: &validation,
        slices: &slices,
        outcomes: OutcomeColumns::read(&settings.outcomes, defs, &raw),
        baseline: None,
    };

    progress.report("baseline", 0, 1);
    let baseline = settings.baseline.as_ref().and_then(|rfm| RfmBaseline::fit(rfm, defs, &raw));
    field.baseline = baseline.map(|baseline| {
        let labels = baseline.labels(&raw);
        let validation_labels = baseline.labels(&prepared.rows_at(&validation_rows));
        BaselineEntry {
            segments: RfmBaseline::sizes(&labels),
            figures: partition_figures(
                seed,
                LabelledRows { data: &train, labels: &labels },
                LabelledRows { data: &validation, labels: &validation_labels },
            ),
        }
    });
    progress.report("baseline", 1, 1);
    compare_candidates(&field, settings, progress)
}
