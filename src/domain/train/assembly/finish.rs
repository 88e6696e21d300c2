//! Last stage of training: from clusters to a sealed model with limits, names, descriptions and
//! reference statistics.

use std::borrow::Cow;
use std::mem;

use sha2::{Digest, Sha256};

use crate::domain::encode::FeatureEncoder;
use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue, Sensitivity};
use crate::domain::id::encode_hex;
use crate::domain::model::{
    self, ConformalLimits, ConformalRanks, DistanceMetric, DriftBaseline, FeatureBaseline, Model,
    ModelDocument, ModelSegment, NearestSegments, NumberBins, Provenance, ScoringScratch,
    SegmentMoments, SelfTest, StandoutFeature,
};
use crate::domain::stats::{ColumnMoments, RandomStream};
use crate::domain::train::assembly::decision_function::{
    OrderedDecisionFunction, ProjectedClusters,
};
use crate::domain::train::assembly::segment_rows::SegmentRows;
use crate::domain::train::assembly::{
    decision_function, outlier_reference, profile, revenue, segment_moments, segment_names,
};
use crate::domain::train::data::prepared_rows::{PreparedRows, TrainingData};
use crate::domain::train::data::split::RowSplit;
use crate::domain::train::selection::leaderboard::Leaderboard;
use crate::domain::train::{
    CalibrationMethod, KmeansDiagnostics, OutlierCheck, OutlierReport, SELF_TEST_STREAM,
    TrainedModel, TrainingError, TrainingProgress, TrainingReport, TrainingSpec,
};

/// Approximate number of self-test rows; at least one per segment.
const SELF_TEST_ROWS: usize = 16;
/// Synthetic rows generated for each self-test row.
const SELF_TEST_TRIES: usize = 8;
const CHECKED_ALPHAS: [f64; 3] = [0.005, 0.01, 0.05];

/// Result of the search for clusters, with its diagnostics.
pub(crate) struct ClusterSearch {
    pub(crate) found: ProjectedClusters,
    /// For k-means.
    pub(crate) kmeans: Option<KmeansDiagnostics>,
    pub(crate) leaderboard: Leaderboard,
}

/// Builds the model from `search` on the `prepared` rows, seals it and writes the report.
pub(crate) fn finish(
    settings: &TrainingSpec,
    data: &TrainingData<'_>,
    prepared: PreparedRows,
    search: ClusterSearch,
    progress: &dyn TrainingProgress,
) -> Result<TrainedModel, TrainingError> {
    if progress.should_stop() {
        return Err(TrainingError::Stopped);
    }
    progress.report("finish", 0, 1);
    let PreparedRows { rows: sampled, split, encoder, encoded, selected } = prepared;
    // From here on the data are the sampled rows.
    let data = TrainingData { rows: &sampled, ..*data };
    let split_check = split.check(data.defs, data.rows);
    let ClusterSearch { found, kmeans, leaderboard } = search;
    let points = match &found.projection {
        None => Cow::Borrowed(&encoded),
        Some(projection) => Cow::Owned(decision_function::project(&encoded, projection)),
    };
    let shape = OrderedDecisionFunction::from_found(&found, &points)?;
    let rows_digest = digest_rows(data.rows);
    let spec = serde_json::to_value(settings).map_err(model::ArtifactError::from)?;
    let ids = first_ids(&data, &rows_digest, &spec, shape.sizes.len());

    let fitted = FittedStatistics::measure(&shape, &split);
    // Distances are calibrated on rows that no fit has seen (split conformal calibration).
    let held_out_distances = distances_of(&shape, &split.held_out);
    let limits = ConformalLimits::calibrate(
        fitted.scales.clone(),
        &fitted.expected_held_out(settings.holdout_share),
        &held_out_distances,
    );
    let calibrated = outlier_reference::fit(&encoded, &split, settings.seed, progress)?;
    let rows = data.rows.len() as u64;
    let unassigned = rows - shape.sizes.iter().sum::<u64>();
    let (mean, variance) = encoded.column_moments();
    let within = segment_moments::measure(&encoded, &mean, &shape);
    let all = column_moments(rows, &mean, variance.iter().map(|variance| variance.sqrt()));
    let standouts = find_standouts(&encoder, &within, &shape.sizes, &all);
    let segments = describe_segments(settings, &data, &shape, standouts, ids);
    let OrderedDecisionFunction { decision_function, placed, sizes, joins } = shape;
    let distances: Vec<f64> =
        held_out_distances.iter().map(|(_, distance)| f64::from(*distance)).collect();
    let drift_baseline = DriftBaseline {
        rows,
        features: FeatureBaseline::from_rows(data.defs, data.rows),
        segments: sizes.clone(),
        unassigned,
        distances: NumberBins::deciles(&distances),
        p_values: calibrated.p_values,
        within,
    };
    let mut document = ModelDocument {
        format: model::DOCUMENT_FORMAT,
        feature_set: data.feature_set.clone(),
        features: data.defs.to_vec(),
        segments,
        encoder,
        projection: found.projection.clone(),
        decision_function,
        limits,
        outlier_reference: calibrated.reference,
        drift_baseline,
        value: None,
        provenance: Provenance {
            code_version: env!("CARGO_PKG_VERSION").into(),
            spec,
            algorithm: found.algorithm.clone(),
            seed: settings.seed,
            as_of: data.as_of,
            rows,
            rows_digest: rows_digest.into(),
            inertia: fitted.inertia,
            silhouette: fitted.silhouette,
            predecessor: None,
        },
        self_test: vec![],
    };
    // Scored by the document itself, so it must be complete up to here.
    document.self_test = make_self_test(settings.seed, &data, &document, &placed);

    let bytes = document.seal()?;
    // Opening runs all checks and the self-test: a model that fails them is never returned.
    let model = Model::open(&bytes)?;
    let report = TrainingReport {
        rows,
        fitted_rows: split.fitted.len() as u64,
        held_out_rows: split.held_out.len() as u64,
        columns: encoded.columns(),
        axes: points.columns(),
        left_out: features_left_out(&selected, model.encoder()),
        numbers: model.encoder().fitted_numbers(&selected),
        sizes,
        joins,
        unassigned,
        inertia: fitted.inertia,
        kmeans,
        silhouette: fitted.silhouette,
        outliers: OutlierReport::of(&model, calibrated.method, &calibrated.measures),
        split: split_check,
        leaderboard,
        value_gap: None,
        lineage: None,
    };
    progress.report("finish", 1, 1);
    Ok(TrainedModel { bytes, model, report })
}

/// Segment and distance of the selected rows.
fn distances_of(shape: &OrderedDecisionFunction, rows: &[usize]) -> Vec<(usize, f32)> {
    let mut distances = Vec::with_capacity(rows.len());
    for row in rows {
        let near = &shape.placed[*row];
        distances.push((near.segment, shape.decision_function.power_to_distance(near.power)));
    }
    distances
}

/// Segment ids of a first model, derived from the training data and the spec.
fn first_ids(
    data: &TrainingData<'_>,
    rows_digest: &str,
    spec: &serde_json::Value,
    segments: usize,
) -> Vec<Box<str>> {
    let origin = format!("{}/{rows_digest}/{}/{spec}", data.feature_set, data.as_of.millis());
    (1..=segments).map(|position| model::new_segment_id(&origin, position)).collect()
}

/// Selected features without a column: they had no value in any fitted row.
fn features_left_out(selected: &[FeatureDefinition], encoder: &FeatureEncoder) -> Vec<Box<str>> {
    let mut names = Vec::new();
    for (feature, def) in selected.iter().enumerate() {
        let is_encoded = encoder.columns().iter().any(|column| column.feature == feature);
        if def.encoding.is_some() && !is_encoded {
            names.push(def.name.clone());
        }
    }
    names
}

/// Statistics of the fitted rows in each segment.
struct FittedStatistics {
    /// Number of rows nearest to each segment.
    nearest: Vec<u64>,
    /// Root mean square distance to the prototype. A segment with all rows at the prototype has
    /// the value over all rows; 1 if all rows are at their prototypes.
    scales: Vec<f32>,
    inertia: f64,
    silhouette: Option<f64>,
}

impl FittedStatistics {
    fn measure(shape: &OrderedDecisionFunction, split: &RowSplit) -> Self {
        let OrderedDecisionFunction { decision_function, placed, sizes, .. } = shape;
        let segments = sizes.len();
        let mut nearest = vec![0; segments];
        let mut squares = vec![0.0_f64; segments];
        let (mut inertia, mut silhouettes, mut assigned) = (0.0, 0.0, 0_u64);
        for row in &split.fitted {
            let near = &placed[*row];
            let power = f64::from(near.power);
            nearest[near.segment] += 1;
            squares[near.segment] += match decision_function.metric() {
                // A Euclidean power is a squared distance already, a Manhattan power is a distance.
                DistanceMetric::Euclidean => power,
                DistanceMetric::Manhattan => power * power,
            };
            // Rows outside the radius count for the scale, not for the quality of the segments.
            if near.is_within_radius {
                assigned += 1;
                inertia += power;
                if near.runner_up_power > 0.0 {
                    let distance = f64::from(decision_function.power_to_distance(near.power));
                    let runner_up =
                        f64::from(decision_function.power_to_distance(near.runner_up_power));
                    silhouettes += 1.0 - distance / runner_up;
                }
            }
        }
        let rows = split.fitted.len() as f64;
        let overall = squares.iter().sum::<f64>() / rows;
        let overall = positive_finite(overall.sqrt() as f32).unwrap_or(1.0);
        let scales = squares
            .iter()
            .zip(&nearest)
            .map(|(sum, size)| {
                positive_finite((sum / (*size).max(1) as f64).sqrt() as f32).unwrap_or(overall)
            })
            .collect();
        let silhouette = (segments > 1).then(|| silhouettes / assigned.max(1) as f64);
        Self { nearest, scales, inertia, silhouette }
    }

    /// Expected number of held-out rows in each segment.
    fn expected_held_out(&self, holdout_share: f64) -> Vec<f64> {
        let ratio = holdout_share / (1.0 - holdout_share);
        self.nearest.iter().map(|rows| *rows as f64 * ratio).collect()
    }
}

fn positive_finite(x: f32) -> Option<f32> {
    (x > 0.0 && x.is_finite()).then_some(x)
}

impl OutlierReport {
    fn of(model: &Model, method: CalibrationMethod, measures: &[f32]) -> Self {
        Self {
            method,
            calibrating_rows: measures.len() as u64,
            smallest_p_value: model.smallest_p_value(),
            checks: check_outliers(measures),
        }
    }
}

/// Shares of flagged rows among every second row, by p-values calibrated on the rows between them.
/// Not by halves: rows are in the order of customer ids, which often is that of the sign-ups.
fn check_outliers(measures: &[f32]) -> Vec<OutlierCheck> {
    let calibrating = measures.iter().copied().step_by(2);
    let tested: Vec<f32> = measures.iter().copied().skip(1).step_by(2).collect();
    let ranks = ConformalRanks::from_held_out(calibrating.collect());
    let mut checks = Vec::with_capacity(CHECKED_ALPHAS.len());
    for alpha in CHECKED_ALPHAS {
        let flagged = tested.iter().filter(|measure| ranks.p_value(**measure) <= alpha).count();
        checks.push(OutlierCheck { alpha, rows: tested.len() as u64, flagged: flagged as u64 });
    }
    checks
}

/// Features in which each segment differs most from `all` rows.
fn find_standouts(
    encoder: &FeatureEncoder,
    within: &[SegmentMoments],
    sizes: &[u64],
    all: &[ColumnMoments],
) -> Vec<Vec<StandoutFeature>> {
    let segments = within.iter().zip(sizes);
    segments
        .map(|(here, size)| {
            let here = column_moments(*size, &here.means, here.deviations.iter().copied());
            model::find_standouts(encoder.columns(), &here, all)
        })
        .collect()
}

fn column_moments(
    rows: u64,
    means: &[f64],
    deviations: impl Iterator<Item = f64>,
) -> Vec<ColumnMoments> {
    let columns = means.iter().zip(deviations);
    columns
        .map(|(mean, deviation)| ColumnMoments { rows: rows as f64, mean: *mean, deviation })
        .collect()
}

fn describe_segments(
    settings: &TrainingSpec,
    data: &TrainingData<'_>,
    shape: &OrderedDecisionFunction,
    mut standouts: Vec<Vec<StandoutFeature>>,
    ids: Vec<Box<str>>,
) -> Vec<ModelSegment> {
    let segment_of: Vec<Option<usize>> =
        shape.placed.iter().map(|near| near.is_within_radius.then_some(near.segment)).collect();
    let segments = shape.sizes.len();
    let described =
        SegmentRows { features: data.defs, rows: data.rows, segment_of: &segment_of, segments };
    let rfm = settings.baseline.as_ref();
    // Forecasts come later, and may change the names (`value`).
    let evidence = segment_names::rfm_evidence(rfm, described, &[]);
    let standout_lists: Vec<&[StandoutFeature]> = standouts.iter().map(Vec::as_slice).collect();
    let mut names =
        segment_names::name_segments(data.defs, &standout_lists, evidence.as_deref(), 0.0);
    let mut revenues = revenue::segment_revenues(rfm, described);
    let central = profile::central_rows(&shape.placed, segments);
    let mut profiles = profile::segment_profiles(described, &central);
    let describe = |(segment, id): (usize, Box<str>)| ModelSegment {
        id,
        name: mem::take(&mut names[segment]),
        size: shape.sizes[segment],
        share: shape.sizes[segment] as f64 / data.rows.len() as f64,
        profile: mem::take(&mut profiles[segment]),
        standouts: mem::take(&mut standouts[segment]),
        revenue: revenues[segment].take(),
        value: None,
    };
    ids.into_iter().enumerate().map(describe).collect()
}

/// Self-test rows with their expected scores.
///
/// Rows are synthetic: each value is drawn independently from the rows of one segment, so the
/// document contains no customer's row, and sensitive values are left out. Of several candidates
/// the rows farthest from a border between segments are used: another machine's rounding cannot
/// change their answer.
fn make_self_test(
    seed: u64,
    data: &TrainingData<'_>,
    document: &ModelDocument,
    placed: &[NearestSegments],
) -> Vec<SelfTest> {
    let segments = document.segments.len();
    let per_segment = (SELF_TEST_ROWS / segments).max(1);
    let mut members = vec![Vec::new(); segments];
    for (row, near) in placed.iter().enumerate() {
        members[near.segment].push(row);
    }
    let mut rng = RandomStream::new(seed, SELF_TEST_STREAM);
    let mut scratch = ScoringScratch::default();
    let mut candidates = vec![Vec::new(); segments];
    for rows in &members {
        for _ in 0..per_segment * SELF_TEST_TRIES {
            let mixed = mixed_row(data, rows, &mut rng);
            let score = document.score(&mixed, &mut scratch);
            candidates[score.nearest].push((score, mixed));
        }
    }
    candidates
        .into_iter()
        .flat_map(|mut scored| {
            scored.sort_by(|(a, _), (b, _)| b.confidence().total_cmp(&a.confidence()));
            scored.truncate(per_segment);
            scored
        })
        .map(|(score, row)| SelfTest::new(&row, &score))
        .collect()
}

fn mixed_row(data: &TrainingData<'_>, rows: &[usize], rng: &mut RandomStream) -> FeatureRow {
    let mut values = Vec::with_capacity(data.defs.len());
    for (feature, def) in data.defs.iter().enumerate() {
        // Drawn for sensitive features too, so that all others do not depend on them.
        let drawn =
            rows.get(rng.uniform_below(rows.len())).and_then(|row| data.rows[*row].0.get(feature));
        values.push(match drawn {
            Some(value) if def.sensitivity != Sensitivity::Sensitive => value.clone(),
            _ => FeatureValue::Missing,
        });
    }
    FeatureRow(values)
}

/// SHA-256 over all values in order. Each value starts with a byte for its kind; texts start with
/// their length, so that no two row sets share an encoding.
fn digest_rows(rows: &[FeatureRow]) -> String {
    let mut hash = Sha256::new();
    for row in rows {
        hash.update((row.0.len() as u64).to_le_bytes());
        for value in &row.0 {
            match value {
                FeatureValue::Missing => hash.update([0]),
                FeatureValue::Number(number) => {
                    hash.update([1]);
                    hash.update(number.to_bits().to_le_bytes());
                }
                FeatureValue::Category(category) => {
                    hash.update([2]);
                    hash.update((category.len() as u64).to_le_bytes());
                    hash.update(category.as_bytes());
                }
            }
        }
    }
    encode_hex(&hash.finalize())
}
