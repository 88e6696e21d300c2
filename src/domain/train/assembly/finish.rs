//! Last stage of training: from clusters to a sealed model with limits, names, descriptions and
//! reference statistics.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::domain::encode::Encoder;
use crate::domain::feature::{FeatureDef, FeatureRow, Sensitivity, Value};
use crate::domain::id::{FeatureSetId, hex};
use crate::domain::model::{
    self, Document, FeatureReference, Form, Limits, Metric, Model, Near, NumberBins, Provenance,
    Ranks, Reference, Scratch, Segment, SegmentName, SelfTest, Standout, Within,
};
use crate::domain::stats::Rng;
use crate::domain::time::Timestamp;
use crate::domain::train::assembly::decision_function::{Found, Shape};
use crate::domain::train::assembly::{
    decision_function, outlier_reference, profile, segment_moments,
};
use crate::domain::train::data::split::{Split, SplitCheck};
use crate::domain::train::selection::leaderboard::Leaderboard;
use crate::domain::train::{
    Dataset, FitError, OutlierCheck, Progress, SELF_TEST_STREAM, Search, TrainReport, TrainSpec,
    Trained,
};

/// Approximate number of self-test rows; at least one per segment.
const SELF_TEST_ROWS: usize = 16;
/// Synthetic rows generated for each self-test row.
const SELF_TEST_TRIES: usize = 8;
const CHECKED_ALPHAS: [f64; 3] = [0.005, 0.01, 0.05];

/// Inputs of the training run.
pub(crate) struct Given<'a> {
    pub(crate) settings: &'a TrainSpec,
    pub(crate) feature_set: &'a FeatureSetId,
    pub(crate) defs: &'a [FeatureDef],
    pub(crate) rows: &'a [FeatureRow],
    pub(crate) as_of: Timestamp,
    pub(crate) split_check: SplitCheck,
    pub(crate) leaderboard: Leaderboard,
}

pub(crate) fn finish(
    given: Given<'_>,
    encoder: Encoder,
    encoded: &Dataset,
    split: &Split,
    (found, search): (&Found, Option<Search>),
    progress: &dyn Progress,
) -> Result<Trained, FitError> {
    let points = match &found.projection {
        None => Cow::Borrowed(encoded),
        Some(projection) => Cow::Owned(decision_function::project(encoded, projection)),
    };
    let Shape { form, placed, sizes, joins } = Shape::of(found, &points)?;
    let rows_digest = digest(given.rows);
    let spec = serde_json::to_value(given.settings).map_err(model::ArtifactError::from)?;
    let names = first_names(&given, &rows_digest, &spec, sizes.len());

    let fitted = Fitted::measure(&form, &placed, split, sizes.len());
    // Distances are calibrated on rows that no fit has seen (split conformal calibration).
    let distance = |row: &usize| (placed[*row].segment, form.distance(placed[*row].power));
    let held_out: Vec<(usize, f32)> = split.held_out.iter().map(distance).collect();
    let limits = Limits::calibrate(
        fitted.scales.clone(),
        &fitted.expected(given.settings.holdout_share),
        &held_out,
    );
    let kept = encoded.select(&split.held_out);
    let fitted_rows = encoded.select(&split.fitted);
    let oddity = outlier_reference::fit(&fitted_rows, &kept, given.settings.seed, progress)?;
    let outliers =
        check_outliers(&outlier_reference::measured(&kept, |vector| oddity.measure(vector)));
    let rows = given.rows.len() as u64;
    let unassigned = rows - sizes.iter().sum::<u64>();
    let (mean, variance) = encoded.column_moments();
    let within = segment_moments::measure(encoded, &mean, (&form, &placed), sizes.len());
    let standouts = stand_out(&encoder, &within, (&mean, &variance));
    let segments = describe(&given, &placed, &sizes, standouts, names);
    let reference = Reference {
        rows,
        features: FeatureReference::of_all(given.defs, given.rows),
        segments: sizes.clone(),
        unassigned,
        distances: NumberBins::deciles(
            &held_out.iter().map(|(_, distance)| f64::from(*distance)).collect::<Vec<_>>(),
        ),
        within,
    };
    let mut document = Document {
        format: model::FORMAT,
        feature_set: given.feature_set.clone(),
        features: given.defs.to_vec(),
        segments,
        encoder,
        projection: found.projection.clone(),
        form,
        limits,
        oddity: Some(oddity),
        reference,
        provenance: Provenance {
            code_version: env!("CARGO_PKG_VERSION").into(),
            spec,
            algorithm: found.algorithm.clone(),
            seed: given.settings.seed,
            as_of: given.as_of,
            rows,
            rows_digest: rows_digest.into(),
            inertia: fitted.inertia,
            silhouette: fitted.silhouette,
            predecessor: None,
            keys_used: 0,
        },
        self_test: vec![],
    };
    document.self_test = self_test(&given, &document, &placed);

    let bytes = document.seal()?;
    let model = Model::open(&bytes)?;
    let report = TrainReport {
        rows,
        fitted_rows: split.fitted.len() as u64,
        held_out_rows: split.held_out.len() as u64,
        columns: encoded.columns(),
        axes: points.columns(),
        left_out: left_out(given.defs, model.encoder()),
        sizes,
        joins,
        unassigned,
        inertia: fitted.inertia,
        search,
        silhouette: fitted.silhouette,
        outliers,
        split: given.split_check,
        leaderboard: given.leaderboard,
        lineage: None,
    };
    Ok(Trained { bytes, model, report })
}

/// Names for a first model: keys s1, s2 … in descending order of size, and ids derived from the
/// training data and the spec.
fn first_names(
    given: &Given<'_>,
    rows_digest: &str,
    spec: &serde_json::Value,
    segments: usize,
) -> Vec<SegmentName> {
    let origin = format!("{}/{rows_digest}/{}/{spec}", given.feature_set, given.as_of.millis());
    (1..=segments).map(|place| SegmentName::new(&origin, &format!("s{place}"))).collect()
}

fn left_out(defs: &[FeatureDef], encoder: &Encoder) -> Vec<Box<str>> {
    let encoded = |feature: usize| encoder.columns().iter().any(|c| c.feature == feature);
    let unused = defs.iter().enumerate().filter(|(i, def)| def.encoding.is_some() && !encoded(*i));
    unused.map(|(_, def)| def.name.clone()).collect()
}

/// Statistics of the fitted rows in each segment.
struct Fitted {
    /// Number of rows nearest to each segment.
    nearest: Vec<u64>,
    /// Root mean square distance to the prototype. A segment with all rows at the prototype has
    /// the value over all rows; 1 if all rows are at their prototypes.
    scales: Vec<f32>,
    inertia: f64,
    silhouette: Option<f64>,
}

impl Fitted {
    fn measure(form: &Form, placed: &[Near], split: &Split, segments: usize) -> Self {
        let mut nearest = vec![0; segments];
        let mut squares = vec![0.0_f64; segments];
        let (mut inertia, mut silhouettes, mut assigned) = (0.0, 0.0, 0_u64);
        for row in &split.fitted {
            let near = &placed[*row];
            let power = f64::from(near.power);
            nearest[near.segment] += 1;
            squares[near.segment] += match form.metric() {
                Metric::Euclidean => power,
                Metric::Manhattan => power * power,
            };
            if near.reached {
                assigned += 1;
                inertia += power;
                if near.runner_up_power > 0.0 {
                    let distance = |power| f64::from(form.distance(power));
                    silhouettes += 1.0 - distance(near.power) / distance(near.runner_up_power);
                }
            }
        }
        let rows = split.fitted.len() as f64;
        let overall = squares.iter().sum::<f64>() / rows;
        let overall = positive(overall.sqrt() as f32).unwrap_or(1.0);
        let scales = squares
            .iter()
            .zip(&nearest)
            .map(|(sum, size)| {
                positive((sum / (*size).max(1) as f64).sqrt() as f32).unwrap_or(overall)
            })
            .collect();
        let silhouette = (segments > 1).then(|| silhouettes / assigned.max(1) as f64);
        Self { nearest, scales, inertia, silhouette }
    }

    /// Expected number of held-out rows in each segment.
    fn expected(&self, holdout_share: f64) -> Vec<f64> {
        let ratio = holdout_share / (1.0 - holdout_share);
        self.nearest.iter().map(|rows| *rows as f64 * ratio).collect()
    }
}

fn positive(x: f32) -> Option<f32> {
    (x > 0.0 && x.is_finite()).then_some(x)
}

fn check_outliers(oddities: &[f32]) -> Vec<OutlierCheck> {
    let (calibrating, judged) = oddities.split_at(oddities.len() / 2);
    let ranks = Ranks::of(calibrating.to_vec());
    CHECKED_ALPHAS
        .iter()
        .map(|alpha| OutlierCheck {
            alpha: *alpha,
            rows: judged.len() as u64,
            flagged: judged.iter().filter(|oddity| ranks.p_value(**oddity) <= *alpha).count()
                as u64,
        })
        .collect()
}

/// Features in which each segment differs most from all rows.
fn stand_out(
    encoder: &Encoder,
    within: &[Within],
    (mean, variance): (&[f64], &[f64]),
) -> Vec<Vec<Standout>> {
    let deviation: Vec<f64> = variance.iter().map(|variance| variance.sqrt()).collect();
    let of = |here: &Within| model::standouts(encoder.columns(), &here.means, mean, &deviation);
    within.iter().map(of).collect()
}

fn describe(
    given: &Given<'_>,
    placed: &[Near],
    sizes: &[u64],
    standouts: Vec<Vec<Standout>>,
    names: Vec<SegmentName>,
) -> Vec<Segment> {
    let labels = model::labels(given.defs, &standouts, &names);
    let segment_of: Vec<Option<usize>> =
        placed.iter().map(|near| near.reached.then_some(near.segment)).collect();
    let profiles = profile::all(given.defs, given.rows, &segment_of, sizes.len());
    names
        .into_iter()
        .zip(labels)
        .zip(standouts)
        .zip(profiles)
        .zip(sizes)
        .map(|((((name, label), standouts), profile), size)| Segment {
            id: name.id,
            key: name.key,
            label,
            size: *size,
            share: *size as f64 / given.rows.len() as f64,
            profile,
            standouts,
        })
        .collect()
}

/// Self-test rows with their expected scores.
///
/// Rows are synthetic: each value is drawn independently from the rows of one segment, so the
/// document contains no customer's row, and sensitive values are left out. Of several candidates
/// the rows farthest from a border between segments are used: another machine's rounding cannot
/// change their answer.
fn self_test(given: &Given<'_>, document: &Document, placed: &[Near]) -> Vec<SelfTest> {
    let segments = document.segments.len();
    let per_segment = (SELF_TEST_ROWS / segments).max(1);
    let mut members = vec![Vec::new(); segments];
    for (row, near) in placed.iter().enumerate() {
        members[near.segment].push(row);
    }
    let mut rng = Rng::new(given.settings.seed, SELF_TEST_STREAM);
    let mut scratch = Scratch::default();
    let mut candidates = vec![Vec::new(); segments];
    for rows in &members {
        for _ in 0..per_segment * SELF_TEST_TRIES {
            let mixed = mixed_row(given, rows, &mut rng);
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

fn mixed_row(given: &Given<'_>, rows: &[usize], rng: &mut Rng) -> FeatureRow {
    let mut value = |(feature, def): (usize, &FeatureDef)| {
        let drawn = rows.get(rng.below(rows.len())).and_then(|row| given.rows[*row].0.get(feature));
        match drawn {
            Some(value) if def.sensitivity != Sensitivity::Sensitive => value.clone(),
            _ => Value::Missing,
        }
    };
    FeatureRow(given.defs.iter().enumerate().map(&mut value).collect())
}

/// SHA-256 over all values in order. Each value starts with a byte for its kind; texts start with
/// their length, so that no two row sets share an encoding.
fn digest(rows: &[FeatureRow]) -> String {
    let mut hash = Sha256::new();
    for row in rows {
        hash.update((row.0.len() as u64).to_le_bytes());
        for value in &row.0 {
            match value {
                Value::Missing => hash.update([0]),
                Value::Number(number) => {
                    hash.update([1]);
                    hash.update(number.to_bits().to_le_bytes());
                }
                Value::Category(category) => {
                    hash.update([2]);
                    hash.update((category.len() as u64).to_le_bytes());
                    hash.update(category.as_bytes());
                }
            }
        }
    }
    hex(&hash.finalize())
}
