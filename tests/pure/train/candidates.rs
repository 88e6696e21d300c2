//! The algorithms, distances and projections of a training spec, from rows to a model.

use segmentd::domain::feature::{
    FeatureDefinition, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::DistanceMetric;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::evaluation::internal_indices::SampleEstimate;
use segmentd::domain::train::selection::criteria::CandidateGates;
use segmentd::domain::train::{
    ClusteringAlgorithm, DistanceMeasure, SegmentCount, SegmentCountRange, TrainedModel,
    TrainingError, TrainingSpec,
};

use crate::model::support::{def, normal, number, shop_features, shoppers, spec, train};
use crate::train::algorithms::named;

fn plain(columns: usize) -> Vec<FeatureDefinition> {
    let feature = |i: usize| {
        def(&format!("x{i}"), "X", Some(number(NumberTransform::None, NumberScaling::None)))
    };
    (0..columns).map(feature).collect()
}

fn rows(points: impl IntoIterator<Item = Vec<f64>>) -> Vec<FeatureRow> {
    let value = |point: Vec<f64>| FeatureRow(point.into_iter().map(FeatureValue::Number).collect());
    points.into_iter().map(value).collect()
}

/// The segment of every row in serving.
fn served(trained: &TrainedModel, rows: &[FeatureRow]) -> Vec<Option<usize>> {
    let mut scratch = trained.model.scratch();
    rows.iter().map(|row| trained.model.score(row, &mut scratch).segment()).collect()
}

/// The Rand index of two labelings.
fn same_partition(a: &[Option<usize>], b: &[Option<usize>]) -> bool {
    let pairs: std::collections::BTreeSet<_> = a.iter().zip(b).collect();
    let firsts: std::collections::BTreeSet<_> = a.iter().collect();
    let seconds: std::collections::BTreeSet<_> = b.iter().collect();
    pairs.len() == firsts.len() && pairs.len() == seconds.len()
}

#[test]
fn every_algorithm_gives_a_model_that_can_be_served() {
    let rows = shoppers(600, 3);
    for algorithm in ClusteringAlgorithm::all() {
        let spec = TrainingSpec { algorithms: vec![algorithm.clone()], ..spec(3) };
        let trained = train(spec, &shop_features(), &rows).unwrap();
        let name = algorithm.name();
        assert_eq!(trained.model.provenance().algorithm.as_deref(), Some(name));
        let entry = trained.report.leaderboard.winner().unwrap();
        assert_eq!((&*entry.algorithm, entry.listed), (name, 0));
        assert_eq!(entry.likelihood.is_some(), name == "gaussian_mixture");
        assert!(entry.fidelity > 0.9, "{name}: {}", entry.fidelity);
        assert_eq!(trained.report.kmeans.is_some(), name == "kmeans");
        let metric =
            if name == "kmedians" { DistanceMetric::Manhattan } else { DistanceMetric::Euclidean };
        assert_eq!(trained.model.decision_function().metric(), metric);
        let mut sizes = vec![0_u64; trained.report.sizes.len()];
        for segment in served(&trained, &rows).into_iter().flatten() {
            sizes[segment] += 1;
        }
        assert_eq!(sizes, trained.report.sizes, "{name}");
    }
}

#[test]
fn several_compete_on_one_leaderboard() {
    let dense_nowhere = r#"{"name": "dbscan", "eps": 1e-6, "min_samples": 9}"#;
    let few_starts = r#"{"name": "kmeans", "starts": 1}"#;
    let algorithms = ["\"ward\"", "\"gaussian_mixture\"", dense_nowhere, few_starts].map(named);
    let asked = TrainingSpec { algorithms: algorithms.to_vec(), ..spec(4) };
    let trained = train(asked.clone(), &shop_features(), &shoppers(800, 3)).unwrap();
    let board = &trained.report.leaderboard;
    let mut listed: Vec<(usize, &str)> =
        board.entries.iter().map(|entry| (entry.listed, &*entry.algorithm)).collect();
    listed.sort_unstable();
    assert_eq!(listed, [(0, "ward"), (1, "gaussian_mixture"), (3, "kmeans")]);
    let [failed] = &board.failed[..] else { panic!("{:?}", board.failed) };
    assert_eq!((&*failed.algorithm, failed.listed, failed.segments), ("dbscan", 2, None));
    assert!(failed.reason.contains("are noise"), "{}", failed.reason);
    let mixture = board.entries.iter().find(|entry| entry.listed == 1).unwrap();
    let price = mixture.likelihood.unwrap();
    assert!(price.bic > price.aic && price.parameters > 0);
    let winner = board.winner().unwrap();
    assert_eq!(trained.model.provenance().algorithm.as_deref(), Some(&*winner.algorithm));
    // Without any candidate the run fails.
    let alone = TrainingSpec { algorithms: vec![named(dense_nowhere)], ..asked };
    let refused = train(alone, &shop_features(), &shoppers(800, 3)).unwrap_err();
    assert!(matches!(refused, TrainingError::AllNoise { .. }), "{refused}");
}

/// Four groups on a line, in two pairs.
#[test]
fn a_hierarchy_reports_which_segments_merge() {
    let mut rng = RandomStream::new(6, 0);
    let at = [0.0, 4.0, 20.0, 26.0];
    let rows = rows((0..400).map(|i| vec![at[i % 4] + 0.2 * normal(&mut rng)]));
    let asked = TrainingSpec { algorithms: vec![named("\"ward\"")], ..spec(4) };
    let trained = train(asked, &plain(1), &rows).unwrap();
    let served = served(&trained, &rows[..4]);
    let place = |group: usize| served[group].unwrap() as u32;
    let sides = |join: usize| {
        let join = &trained.report.joins[join];
        std::collections::BTreeSet::from([join.a, join.b])
    };
    assert_eq!(trained.report.joins.len(), 3);
    assert_eq!(sides(0), [place(0), place(1)].into());
    assert_eq!(sides(1), [place(2), place(3)].into());
    assert_eq!(sides(2), [4, 5].into());
    assert!(trained.report.joins.is_sorted_by(|a, b| a.height < b.height));
    assert!((trained.report.joins[2].size - trained.report.fitted_rows as f64).abs() < 0.5);
}

/// Two rays from the origin: the angle separates them, the distance does not.
#[test]
fn cosine_distance_depends_on_the_angle_only() {
    let mut rng = RandomStream::new(3, 0);
    let points: Vec<Vec<f64>> = (0..400)
        .map(|i| {
            let (length, turn) = (1.0 + 99.0 * rng.uniform_unit(), 0.05 * normal(&mut rng));
            let angle: f64 = turn + if i % 2 == 0 { 0.3 } else { 1.2 };
            vec![length * angle.cos(), length * angle.sin()]
        })
        .collect();
    let truth: Vec<Option<usize>> = (0..400).map(|i| Some(i % 2)).collect();
    let rows = rows(points);
    let by = |distance| {
        let asked = TrainingSpec { distance, ..spec(2) };
        served(&train(asked, &plain(2), &rows).unwrap(), &rows)
    };
    assert!(same_partition(&by(DistanceMeasure::Cosine), &truth));
    assert!(!same_partition(&by(DistanceMeasure::Euclidean), &truth));
}

/// Two long groups side by side, and the same ones sheared: along whitened axes
/// they are the same.
#[test]
fn mahalanobis_distance_is_invariant_to_the_axes() {
    let mut rng = RandomStream::new(4, 0);
    let points: Vec<Vec<f64>> = (0..400)
        .map(|i| {
            let side = if i % 2 == 0 { 0.0 } else { 2.0 };
            vec![4.0 * normal(&mut rng), side + 0.05 * normal(&mut rng)]
        })
        .collect();
    let truth: Vec<Option<usize>> = (0..400).map(|i| Some(i % 2)).collect();
    let sheared = points.iter().map(|p| vec![p[0] + 2.0 * p[1], p[1] - p[0]]);
    for rows in [rows(points.clone()), rows(sheared)] {
        let by = |distance, components| {
            let asked = TrainingSpec { distance, components, ..spec(2) };
            let trained = train(asked, &plain(2), &rows).unwrap();
            assert_eq!((trained.report.columns, trained.report.axes), (2, 2));
            served(&trained, &rows)
        };
        assert!(same_partition(&by(DistanceMeasure::Mahalanobis, None), &truth));
        assert!(same_partition(&by(DistanceMeasure::Mahalanobis, Some(1.0)), &truth));
        assert!(!same_partition(&by(DistanceMeasure::Euclidean, None), &truth));
    }
}

/// Nearly constant columns are ignored.
#[test]
fn components_keep_the_requested_share_of_variance() {
    let mut rng = RandomStream::new(5, 0);
    let points: Vec<Vec<f64>> = (0..400)
        .map(|i| {
            let far = if i % 2 == 0 { 0.0 } else { 40.0 };
            let mut small = || 0.1 * normal(&mut rng);
            vec![far + small(), small() - far, small(), small()]
        })
        .collect();
    let truth: Vec<Option<usize>> = (0..400).map(|i| Some(i % 2)).collect();
    let rows = rows(points);
    let asked = TrainingSpec { components: Some(0.9), ..spec(2) };
    let trained = train(asked, &plain(4), &rows).unwrap();
    assert_eq!((trained.report.columns, trained.report.axes), (4, 1));
    assert!(same_partition(&served(&trained, &rows), &truth));
}

#[test]
fn settings_of_algorithms_are_checked_with_the_spec() {
    let wrong = TrainingSpec {
        algorithms: vec![named("\"ward\""), named(r#"{"name": "kmeans", "starts": 0}"#)],
        components: Some(0.0),
        gates: CandidateGates::default(),
        ..spec(4)
    };
    let said = wrong.check().unwrap_err().to_string();
    assert!(said.contains("algorithms[1].starts: must be from 1 to 1000, is 0"), "{said}");
    assert!(said.contains("components: must be above 0 and at most 1, is 0"), "{said}");
}

/// Two groups, each of two halves with a border through a dense region.
fn two_groups_of_halves(share_of_halves: f64) -> Vec<FeatureRow> {
    let mut rng = RandomStream::new(9, 1);
    let row = |i: usize| {
        let (group, half) = (i % 2, i / 2 % 2);
        let x = 12.0 * group as f64 + normal(&mut rng) * 0.5;
        let y = 3.0 * half as f64 + normal(&mut rng) * 0.8;
        // What a customer answers depends on the half, as far as it depends on anything.
        let answer = share_of_halves * half as f64 + normal(&mut rng) * 0.2;
        vec![x, y, answer]
    };
    rows((0..800).map(row).collect::<Vec<_>>())
}

#[test]
fn outcomes_decide_between_numbers_of_segments() {
    let mut features = plain(2);
    features.push(def("answer", "Answer to the survey", None));
    let chosen = |spec: TrainingSpec, share: f64| {
        let trained = train(spec, &features, &two_groups_of_halves(share)).unwrap();
        let board = trained.report.leaderboard;
        let explained: std::collections::BTreeMap<usize, Option<SampleEstimate>> = board
            .entries
            .iter()
            .map(|entry| (entry.segments, entry.criteria.unwrap().outcomes))
            .collect();
        (board.winner().unwrap().segments, explained, board.notes)
    };
    let plain_spec = TrainingSpec {
        segments: SegmentCount::Range(SegmentCountRange { from: 2, to: 4 }),
        algorithms: vec![named(r#"{"name": "kmeans"}"#)],
        ..spec(2)
    };
    let judged = TrainingSpec { outcomes: vec!["answer".into()], ..plain_spec.clone() };
    let (segments, explained, _) = chosen(plain_spec, 2.0);
    assert_eq!((segments, explained[&4]), (2, None));
    let (segments, explained, _) = chosen(judged.clone(), 2.0);
    assert_eq!(segments, 4);
    assert!(
        explained[&2].unwrap().value < 0.05 && explained[&4].unwrap().value > 0.8,
        "{explained:?}"
    );
    // An answer that depends on nothing decides nothing.
    assert_eq!(chosen(judged.clone(), 0.0).0, 2);
    let mut constant = two_groups_of_halves(0.0);
    for row in &mut constant {
        row.0[2] = FeatureValue::Number(1.0);
    }
    let trained = train(judged.clone(), &features, &constant).unwrap();
    assert!(
        trained
            .report
            .leaderboard
            .notes
            .iter()
            .any(|note| note.starts_with("`answer` has no part"))
    );

    // Only features that no model reads can judge.
    let of = |outcomes: &[&str]| TrainingSpec {
        outcomes: outcomes.iter().copied().map(Into::into).collect(),
        ..judged.clone()
    };
    let fault = |spec: TrainingSpec| spec.check_features(&features).unwrap_err().to_string();
    assert!(fault(of(&["x0"])).contains("outcomes[0]: `x0` has an encoding"));
    assert!(fault(of(&["answer", "x9"])).contains("outcomes[1]: `x9` is not a feature"));
    assert!(of(&["answer", "answer"]).check().unwrap_err().to_string().contains("listed twice"));
}
