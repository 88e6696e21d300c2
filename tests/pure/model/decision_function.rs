//! Decision functions other than one prototype per segment, each compared with a plain
//! implementation of its rule.

use ndarray::Array2;
use proptest::prelude::*;
use segmentd::domain::encode::LinearProjection;
use segmentd::domain::feature::{
    FeatureDefinition, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::{DistanceMetric, Model};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::{
    self, ProjectedClusters, PrototypeClusters, TrainedModel, TrainingError,
};

use crate::model::support::{AS_OF, Quiet, def, feature_set, normal, number, spec};

const WIDTH: usize = 11;

/// Features that are numbers, encoded without scaling.
pub(crate) fn plain_features(width: usize) -> Vec<FeatureDefinition> {
    let encoding = || Some(number(NumberTransform::None, NumberScaling::None));
    (0..width).map(|i| def(&format!("x{i}"), &format!("X{i}"), encoding())).collect()
}

pub(crate) fn rows(count: usize, width: usize, rng: &mut RandomStream) -> Vec<Vec<f32>> {
    (0..count).map(|_| (0..width).map(|_| 3.0 * normal(rng) as f32).collect()).collect()
}

pub(crate) fn feature_rows(rows: &[Vec<f32>]) -> Vec<FeatureRow> {
    let value = |x: &f32| FeatureValue::Number(f64::from(*x));
    rows.iter().map(|row| FeatureRow(row.iter().map(value).collect())).collect()
}

pub(crate) fn trained(
    rows: &[Vec<f32>],
    found: ProjectedClusters,
) -> Result<TrainedModel, TrainingError> {
    let features = plain_features(rows[0].len());
    let spec = spec(2).check().unwrap();
    let set = feature_set();
    let rows = feature_rows(rows);
    let data =
        train::TrainingData { feature_set: &set, defs: &features, rows: &rows, as_of: AS_OF };
    train::train_with_algorithm(&spec, &data, &Quiet, |_| Ok(found))
}

/// The optional parts of a decision function.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each part is there or not, on its own")]
pub(crate) struct Parts {
    pub(crate) several: bool,
    pub(crate) weights: bool,
    pub(crate) offsets: bool,
    pub(crate) reach: bool,
    pub(crate) manhattan: bool,
    /// 0: none, 1: other axes, 2: unit length, 3: both.
    pub(crate) projection: u8,
}

pub(crate) fn parts() -> impl Strategy<Value = Parts> {
    (any::<[bool; 5]>(), 0..4_u8).prop_map(|(is, projection)| Parts {
        several: is[0],
        weights: is[1],
        offsets: is[2],
        reach: is[3],
        manhattan: is[4],
        projection,
    })
}

/// A decision function with prototypes at some of the rows.
pub(crate) fn found(parts: Parts, rows: &[Vec<f32>], rng: &mut RandomStream) -> ProjectedClusters {
    let width = rows[0].len();
    let projection = match parts.projection {
        0 => None,
        2 => Some(LinearProjection::unit()),
        kind => {
            let out = width.div_ceil(2);
            let mut draw = |count: usize| (0..count).map(|_| normal(rng) as f32).collect();
            let (centre, matrix) = (draw(width), draw(width * out));
            Some(LinearProjection::new(centre, matrix, kind == 3).unwrap())
        }
    };
    let points: Vec<Vec<f32>> = rows.iter().map(|row| image(projection.as_ref(), row)).collect();
    let segment_of: Vec<u32> = if parts.several { vec![2, 0, 1, 0, 2, 2] } else { vec![0, 1, 2] };
    let mut places: Vec<usize> = (0..points.len()).collect();
    rng.shuffle(&mut places);
    let chosen: Vec<f64> = places[..segment_of.len()]
        .iter()
        .flat_map(|place| points[*place].clone())
        .map(f64::from)
        .collect();
    let columns = points[0].len();
    let mut positive =
        |count: usize| (0..count).map(|_| 0.1 + 2.0 * rng.uniform_unit()).collect::<Vec<_>>();
    let unit = parts.projection >= 2;
    ProjectedClusters {
        clusters: PrototypeClusters {
            labels: vec![None; rows.len()],
            prototypes: Array2::from_shape_vec((segment_of.len(), columns), chosen).unwrap(),
            weights: parts
                .weights
                .then(|| Array2::from_shape_vec((3, columns), positive(3 * columns)).unwrap()),
            offsets: parts.offsets.then(|| {
                let scale = if unit { 0.3 } else { 9.0 };
                positive(segment_of.len()).into_iter().map(|x| scale * (x - 1.0)).collect()
            }),
            radius: parts.reach.then(|| {
                let scale = if unit { 0.7 } else { 5.0 } * if parts.manhattan { 2.5 } else { 1.0 };
                positive(3).into_iter().map(|x| scale * (1.0 + x / 4.0)).collect()
            }),
            segment_of,
            metric: if parts.manhattan {
                DistanceMetric::Manhattan
            } else {
                DistanceMetric::Euclidean
            },
        },
        projection,
        algorithm: None,
        tree: None,
    }
}

fn image(projection: Option<&LinearProjection>, row: &[f32]) -> Vec<f32> {
    projection.map_or_else(
        || row.to_vec(),
        |projection| {
            let mut image = vec![0.0; projection.width(row.len())];
            projection.apply(row, &mut image);
            image
        },
    )
}

/// The reference implementation: the power of every prototype, with and without offset.
fn powers(found: &ProjectedClusters, x: &[f32]) -> Vec<(u32, f64, f64)> {
    let clusters = &found.clusters;
    let least =
        clusters.offsets.as_ref().map_or(0.0, |o| o.iter().copied().fold(f64::INFINITY, f64::min));
    clusters
        .prototypes
        .rows()
        .into_iter()
        .enumerate()
        .map(|(prototype, p)| {
            let segment = clusters.segment_of[prototype];
            let own: f64 = p
                .iter()
                .zip(x)
                .enumerate()
                .map(|(column, (p, x))| {
                    let weight =
                        clusters.weights.as_ref().map_or(1.0, |w| w[[segment as usize, column]]);
                    let d = (f64::from(*x) - p).abs();
                    weight
                        * if found.clusters.metric == DistanceMetric::Manhattan { d } else { d * d }
                })
                .sum();
            let offset = clusters.offsets.as_ref().map_or(0.0, |o| o[prototype] - least);
            (segment, own + offset, own)
        })
        .collect()
}

fn distance(found: &ProjectedClusters, power: f64) -> f64 {
    if found.clusters.metric == DistanceMetric::Manhattan { power } else { power.sqrt() }
}

/// The original segment of a model segment, found by its first prototype.
fn old_segments(found: &ProjectedClusters, model: &Model) -> Vec<u32> {
    let form = model.decision_function();
    let prototypes: Vec<&[f32]> = form.prototypes().rows().collect();
    let old = |segment: usize| {
        let of_it = (0..prototypes.len()).find(|p| form.segment_of(*p) == segment).unwrap();
        let is_it = |row: &ndarray::ArrayView1<'_, f64>| {
            row.iter().zip(prototypes[of_it]).all(|(a, b)| *a as f32 == *b)
        };
        let mut rows = found.clusters.prototypes.rows().into_iter();
        found.clusters.segment_of[rows.position(|row| is_it(&row)).unwrap()]
    };
    (0..model.segments().len()).map(old).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_form_follows_its_rule(parts in parts(), seed in any::<u64>()) {
        let mut rng = RandomStream::new(seed, 1);
        let all = rows(240, WIDTH, &mut rng);
        let found = found(parts, &all, &mut rng);
        let trained = match trained(&all, found.clone()) {
            Ok(trained) => trained,
            // A segment may be left without rows, as with any algorithm.
            Err(TrainingError::EmptySegment { .. }) => return Ok(()),
            Err(error) => panic!("{error}"),
        };
        let model = &trained.model;
        let opened = Model::open(&trained.bytes).unwrap();
        prop_assert_eq!(opened.decision_function(), model.decision_function());
        let old_segments = old_segments(&found, model);
        let old = |segment: usize| old_segments[segment];
        let mut scratch = model.scratch();
        let mut assigned = 0;
        for (row, x) in feature_rows(&all).iter().zip(&all) {
            let score = model.score(row, &mut scratch);
            assigned += u64::from(score.is_within_radius);
            let powers = powers(&found, &image(found.projection.as_ref(), x));
            let nearest = powers.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            let of_others = powers.iter().filter(|p| p.0 != old(score.nearest));
            let other = of_others.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            let close = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-3 * (1.0 + b);
            prop_assert!(close(score.distance, distance(&found, nearest.1)));
            prop_assert!(close(score.runner_up_distance, distance(&found, other.1)));
            if score.margin() > 1e-2 {
                prop_assert_eq!(old(score.nearest), nearest.0);
                let thirds = powers.iter().filter(|p| p.0 != nearest.0 && p.0 != other.0);
                let third = thirds.map(|p| distance(&found, p.1)).fold(f64::INFINITY, f64::min);
                if third - distance(&found, other.1) > 1e-2 {
                    prop_assert_eq!(score.runner_up.map(old), Some(other.0));
                }
                let reach = found.clusters.radius.as_ref().map(|r| r[nearest.0 as usize]);
                let own = distance(&found, nearest.2);
                if reach.is_none_or(|reach| (own - reach).abs() > 1e-2) {
                    prop_assert_eq!(score.is_within_radius, reach.is_none_or(|reach| own <= reach));
                }
            }
            prop_assert_eq!(score.segment().is_some(), score.is_within_radius);
            prop_assert!(score.is_within_radius || score.confidence() == 0.0);
            let reasons = model.explain_score(row, &score);
            let shares: f64 = reasons.iter().map(|r| r.share).sum();
            prop_assert!(reasons.len() == WIDTH && ((shares - 1.0).abs() < 1e-9 || shares == 0.0));
        }
        let sizes = &trained.report.sizes;
        prop_assert_eq!(sizes.iter().sum::<u64>(), assigned);
        prop_assert_eq!(trained.report.unassigned, 240 - assigned);
        prop_assert!(sizes.is_sorted_by(|a, b| a >= b));
        prop_assert_eq!(model.decision_function().has_radius(), parts.reach);
        // The same clusters make the same bytes.
        prop_assert_eq!(self::trained(&all, found).unwrap().bytes, trained.bytes);
    }
}

/// Two rings of one kind around another kind, which no single prototype can represent.
#[test]
fn segments_of_several_prototypes_compete_with_other_segments_only() {
    let mut rng = RandomStream::new(3, 3);
    let all: Vec<Vec<f32>> = (0..300)
        .map(|i| {
            let mut near = |x: f32| x + rng.uniform_unit() as f32 - 0.5;
            vec![near([-10.0, 0.0, 10.0][i % 3]), near(0.0)]
        })
        .collect();
    let prototypes = Array2::from_shape_vec((3, 2), vec![-10.0, 0.0, 0.0, 0.0, 10.0, 0.0]).unwrap();
    let clusters = PrototypeClusters {
        labels: vec![],
        prototypes,
        segment_of: vec![0, 1, 0],
        weights: None,
        offsets: None,
        radius: Some(vec![4.0, 3.0]),
        metric: DistanceMetric::Euclidean,
    };
    let model = trained(&all, ProjectedClusters::without_projection(clusters)).unwrap().model;
    assert_eq!(model.segments().iter().map(|s| s.size).collect::<Vec<_>>(), [200, 100]);
    let at = |x: f32, y: f32| model.score(&feature_rows(&[vec![x, y]])[0], &mut model.scratch());
    assert_eq!((at(-10.0, 0.0).segment(), at(10.0, 0.0).segment()), (Some(0), Some(0)));
    assert_eq!((at(0.0, 1.0).segment(), at(0.0, 1.0).runner_up), (Some(1), Some(0)));
    // The other prototype of the same segment is nearer than the other segment, and is no
    // runner-up.
    assert_eq!((at(-10.0, 0.0).runner_up, at(-10.0, 0.0).runner_up_distance), (Some(1), 10.0));
    // Within the radius of one segment, and outside that of the other.
    assert_eq!((at(10.0, 3.5).segment(), at(0.0, 3.5).segment()), (Some(0), None));
    assert_eq!((at(0.0, 3.5).nearest, at(0.0, 3.5).confidence()), (1, 0.0));
}

#[test]
fn reasons_behind_a_projection_are_in_the_users_units() {
    let mut rng = RandomStream::new(5, 3);
    let all = rows(240, 4, &mut rng);
    let axes = vec![0.5, 0.5, 0.5, 0.5, 0.5, -0.5, 0.5, -0.5];
    let prototypes = Array2::from_shape_vec((1, 2), vec![0.0, 0.0]).unwrap();
    let clusters = PrototypeClusters {
        labels: vec![],
        prototypes,
        segment_of: vec![0],
        weights: None,
        offsets: None,
        radius: None,
        metric: DistanceMetric::Euclidean,
    };
    let projection = LinearProjection::new(vec![0.0; 4], axes, false);
    let found = ProjectedClusters { projection, ..ProjectedClusters::without_projection(clusters) };
    let model = trained(&all, found).unwrap().model;
    let row = &feature_rows(&[vec![0.1, -0.2, 60.0, 0.1]])[0];
    let score = model.score(row, &mut model.scratch());
    let reasons = model.explain_score(row, &score);
    assert_eq!((reasons[0].feature, &reasons[0].value), (2, &FeatureValue::Number(60.0)));
    assert!(reasons[0].share > 0.95);
    assert!(
        matches!(reasons[0].typical_value, FeatureValue::Number(typical) if typical.abs() < 1.0)
    );
}
