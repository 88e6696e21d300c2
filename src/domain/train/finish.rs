//! From a partition to a sealed model: prototypes, limits, descriptions, reference.

use sha2::{Digest, Sha256};

use crate::domain::encode::Encoder;
use crate::domain::feature::{FeatureDef, FeatureRow, Sensitivity, Value};
use crate::domain::id::{FeatureSetId, hex};
use crate::domain::model::{
    self, Document, FeatureReference, Limits, Model, NumberBins, Prototypes, Provenance, Reference,
    Scratch, Segment, SelfTest, TwoNearest,
};
use crate::domain::stats::Rng;
use crate::domain::time::Timestamp;
use crate::domain::train::dataset::Split;
use crate::domain::train::kmeans::BestOf;
use crate::domain::train::{
    Dataset, FitError, OutlierCheck, SELF_TEST_STREAM, TrainReport, TrainSpec, Trained, profile,
};

/// About this many self-test rows, and at least one a segment.
const SELF_TEST_ROWS: usize = 16;
/// Made-up rows tried for each one kept.
const SELF_TEST_TRIES: usize = 8;
const CHECKED_ALPHAS: [f64; 3] = [0.005, 0.01, 0.05];

/// What `train` was given.
pub(super) struct Given<'a> {
    pub(super) settings: &'a TrainSpec,
    pub(super) feature_set: &'a FeatureSetId,
    pub(super) defs: &'a [FeatureDef],
    pub(super) rows: &'a [FeatureRow],
    pub(super) as_of: Timestamp,
}

pub(super) fn finish(
    given: &Given<'_>,
    encoder: Encoder,
    encoded: &Dataset,
    split: &Split,
    best: BestOf,
) -> Result<Trained, FitError> {
    let prototypes = ordered_prototypes(encoded, &best)?;
    let placed = place(encoded, &prototypes);
    let sizes = sizes(&placed, 0..placed.len(), prototypes.count());
    if let Some(segment) = sizes.iter().position(|size| *size == 0) {
        return Err(FitError::EmptySegment { segment, segments: sizes.len() });
    }
    let fitted = Fitted::measure(&placed, split, sizes.len());
    let held_out: Vec<(usize, f32)> =
        split.held_out.iter().map(|row| (placed[*row].nearest, distance(&placed[*row]))).collect();
    let limits = Limits::calibrate(
        fitted.scales.clone(),
        &fitted.expected(given.settings.holdout_share),
        &held_out,
    );
    let outliers = check_outliers(&fitted, given.settings.holdout_share, &held_out);

    let reference = Reference {
        rows: given.rows.len() as u64,
        features: FeatureReference::of_all(given.defs, given.rows),
        segments: sizes.clone(),
        distances: NumberBins::deciles(
            &held_out.iter().map(|(_, distance)| f64::from(*distance)).collect::<Vec<_>>(),
        ),
    };
    let mut document = Document {
        format: model::FORMAT,
        feature_set: given.feature_set.clone(),
        features: given.defs.to_vec(),
        segments: describe(given, &encoder, encoded, &prototypes, &placed, &sizes),
        encoder,
        prototypes,
        limits,
        reference,
        provenance: Provenance {
            code_version: env!("CARGO_PKG_VERSION").into(),
            spec: serde_json::to_value(given.settings).map_err(model::ArtifactError::from)?,
            seed: given.settings.seed,
            as_of: given.as_of,
            rows: given.rows.len() as u64,
            rows_digest: digest(given.rows).into(),
            inertia: fitted.inertia,
            silhouette: fitted.silhouette,
        },
        self_test: vec![],
    };
    document.self_test = self_test(given, &document, &placed);

    let bytes = document.seal()?;
    let model = Model::open(&bytes)?;
    let report = TrainReport {
        rows: given.rows.len() as u64,
        fitted_rows: split.fitted.len() as u64,
        held_out_rows: split.held_out.len() as u64,
        columns: encoded.columns(),
        left_out: left_out(given.defs, model.encoder()),
        sizes,
        inertia: fitted.inertia,
        iterations: best.partition.iterations,
        start: best.start,
        inertia_by_start: best.inertias,
        silhouette: fitted.silhouette,
        outliers,
    };
    Ok(Trained { bytes, model, report })
}

fn left_out(defs: &[FeatureDef], encoder: &Encoder) -> Vec<Box<str>> {
    let encoded = |feature: usize| encoder.columns().iter().any(|c| c.feature == feature);
    let unused = defs.iter().enumerate().filter(|(i, def)| def.encoding.is_some() && !encoded(*i));
    unused.map(|(_, def)| def.name.clone()).collect()
}

/// The centres rounded to `f32`, that of the largest segment first; of equally
/// large ones the one whose numbers are smaller, compared from the left.
fn ordered_prototypes(encoded: &Dataset, best: &BestOf) -> Result<Prototypes, FitError> {
    let mut centres: Vec<Vec<f32>> = best
        .partition
        .centres
        .rows()
        .into_iter()
        .map(|centre| centre.iter().map(|x| *x as f32).collect())
        .collect();
    let build = |centres: &[Vec<f32>]| {
        Prototypes::new(encoded.columns(), centres.concat())
            .ok_or(FitError::EmptySegment { segment: 0, segments: centres.len() })
    };
    let unordered = build(&centres)?;
    let placed = place(encoded, &unordered);
    let sizes = sizes(&placed, 0..placed.len(), centres.len());
    let mut order: Vec<usize> = (0..centres.len()).collect();
    order.sort_by(|a, b| {
        let by_numbers = || {
            let pairs = centres[*a].iter().zip(&centres[*b]);
            pairs.map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne()).unwrap_or(a.cmp(b))
        };
        sizes[*b].cmp(&sizes[*a]).then_with(by_numbers)
    });
    centres = order.iter().map(|place| centres[*place].clone()).collect();
    build(&centres)
}

/// Every row's two nearest prototypes, as serving finds them.
fn place(encoded: &Dataset, prototypes: &Prototypes) -> Vec<TwoNearest> {
    let chunks = encoded.map_chunks(|rows| {
        rows.filter_map(|row| encoded.row(row).to_slice().map(|x| prototypes.two_nearest(x)))
            .collect::<Vec<_>>()
    });
    chunks.concat()
}

fn distance(found: &TwoNearest) -> f32 {
    found.nearest_squared.sqrt()
}

fn sizes(
    placed: &[TwoNearest],
    rows: impl IntoIterator<Item = usize>,
    segments: usize,
) -> Vec<u64> {
    let mut sizes = vec![0; segments];
    for row in rows {
        sizes[placed[row].nearest] += 1;
    }
    sizes
}

/// What the fitted rows say about each segment.
struct Fitted {
    /// Rows in each segment.
    sizes: Vec<u64>,
    /// Root mean square distance to the prototype; that over all rows for a
    /// segment whose rows all sit on the prototype, 1 when all rows do.
    scales: Vec<f32>,
    inertia: f64,
    silhouette: Option<f64>,
}

impl Fitted {
    fn measure(placed: &[TwoNearest], split: &Split, segments: usize) -> Self {
        let mut squares = vec![0.0_f64; segments];
        let mut silhouettes = 0.0;
        for row in &split.fitted {
            let found = &placed[*row];
            squares[found.nearest] += f64::from(found.nearest_squared);
            if found.second_squared > 0.0 {
                silhouettes += 1.0 - f64::from(found.nearest_squared / found.second_squared).sqrt();
            }
        }
        let sizes = sizes(placed, split.fitted.iter().copied(), segments);
        let inertia: f64 = squares.iter().sum();
        let rows = split.fitted.len() as f64;
        let overall = positive((inertia / rows).sqrt() as f32).unwrap_or(1.0);
        let scales = squares
            .iter()
            .zip(&sizes)
            .map(|(sum, size)| {
                positive((sum / (*size).max(1) as f64).sqrt() as f32).unwrap_or(overall)
            })
            .collect();
        let silhouette = (segments > 1).then(|| silhouettes / rows);
        Self { sizes, scales, inertia, silhouette }
    }

    /// Held-out rows to expect in each segment.
    fn expected(&self, holdout_share: f64) -> Vec<f64> {
        let ratio = holdout_share / (1.0 - holdout_share);
        self.sizes.iter().map(|size| *size as f64 * ratio).collect()
    }
}

fn positive(x: f32) -> Option<f32> {
    (x > 0.0 && x.is_finite()).then_some(x)
}

fn check_outliers(
    fitted: &Fitted,
    holdout_share: f64,
    held_out: &[(usize, f32)],
) -> Vec<OutlierCheck> {
    let (calibrating, judged) = held_out.split_at(held_out.len() / 2);
    let expected: Vec<f64> = fitted.expected(holdout_share).iter().map(|rows| rows / 2.0).collect();
    let limits = Limits::calibrate(fitted.scales.clone(), &expected, calibrating);
    CHECKED_ALPHAS
        .iter()
        .map(|alpha| {
            let beyond =
                |(segment, distance): &&(usize, f32)| limits.p_value(*segment, *distance) <= *alpha;
            OutlierCheck {
                alpha: *alpha,
                rows: judged.len() as u64,
                flagged: judged.iter().filter(beyond).count() as u64,
            }
        })
        .collect()
}

fn describe(
    given: &Given<'_>,
    encoder: &Encoder,
    encoded: &Dataset,
    prototypes: &Prototypes,
    placed: &[TwoNearest],
    sizes: &[u64],
) -> Vec<Segment> {
    let (mean, variance) = encoded.column_moments();
    let deviation: Vec<f64> = variance.iter().map(|variance| variance.sqrt()).collect();
    let standouts: Vec<_> = prototypes
        .rows()
        .map(|prototype| model::standouts(encoder.columns(), prototype, &mean, &deviation))
        .collect();
    let labels = model::labels(given.defs, &standouts);
    let segment_of: Vec<usize> = placed.iter().map(|found| found.nearest).collect();
    let profiles = profile::all(given.defs, given.rows, &segment_of, sizes.len());
    labels
        .into_iter()
        .zip(standouts)
        .zip(profiles)
        .enumerate()
        .map(|(index, ((label, standouts), profile))| Segment {
            key: format!("s{}", index + 1).into(),
            label,
            size: sizes[index],
            share: sizes[index] as f64 / given.rows.len() as f64,
            profile,
            standouts,
        })
        .collect()
}

/// Made-up rows: each value is drawn on its own from the rows of one segment,
/// so that no customer's row is in the document, and sensitive values are left
/// out. The rows kept are those farthest from a border between segments, where
/// another machine's rounding cannot change the answer.
fn self_test(given: &Given<'_>, document: &Document, placed: &[TwoNearest]) -> Vec<SelfTest> {
    let segments = document.segments.len();
    let per_segment = (SELF_TEST_ROWS / segments).max(1);
    let mut members = vec![Vec::new(); segments];
    for (row, found) in placed.iter().enumerate() {
        members[found.nearest].push(row);
    }
    let mut rng = Rng::new(given.settings.seed, SELF_TEST_STREAM);
    let mut scratch = Scratch::default();
    let mut candidates = vec![Vec::new(); segments];
    for rows in &members {
        for _ in 0..per_segment * SELF_TEST_TRIES {
            let mixed = mixed_row(given, rows, &mut rng);
            let score = document.score(&mixed, &mut scratch);
            candidates[score.segment].push((score, mixed));
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

/// SHA-256 over all values in order, each with a byte for its kind, texts with
/// their length in front.
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
