//! Segments, scores and reasons of a model.

use proptest::prelude::*;
use segmentd::domain::encode::ColumnRole;
use segmentd::domain::feature::{FeatureRow, FeatureValue, NumberScaling, NumberTransform};
use segmentd::domain::model::{
    AnomalyKind, FeatureBins, Prototypes, ScoringScratch, SegmentScore, TypicalValue,
    ValueDirection, squared_distance,
};

use crate::model::support::{def, number, shop_features, shop_model, shoppers, spec, train};

#[test]
fn segments_are_ordered_named_and_described() {
    let model = shop_model().model;
    let segments = model.segments();
    assert!(segments.is_sorted_by(|a, b| a.size >= b.size));
    assert_eq!(segments.iter().map(|s| s.size).sum::<u64>(), 2000);
    assert!((segments.iter().map(|s| s.share).sum::<f64>() - 1.0).abs() < 1e-12);

    // Generated as 40, 30, 20 and 10 % with these properties.
    let names: Vec<&str> = segments.iter().map(|s| &*s.name).collect();
    assert_eq!(names, NAMES);

    // The profile describes the rows of the segment.
    let rows = shoppers(2000, 1);
    let mut scratch = ScoringScratch::default();
    let mut recency: Vec<f64> = rows
        .iter()
        .filter(|row| model.score(row, &mut scratch).nearest == 0)
        .map(|row| if let FeatureValue::Number(x) = row.0[1] { x } else { f64::NAN })
        .collect();
    assert_eq!(recency.len() as u64, segments[0].size);
    recency.sort_by(f64::total_cmp);
    let middle = recency.len() / 2;
    let median = if recency.len() % 2 == 1 {
        recency[middle]
    } else {
        f64::midpoint(recency[middle - 1], recency[middle])
    };
    let mean = recency.iter().sum::<f64>() / recency.len() as f64;
    let profile = segments[0].profile.iter().find(|p| p.feature == 1).unwrap();
    let TypicalValue::Number { mean: told_mean, median: told_median, missing_share } = profile.here
    else {
        panic!("{profile:?}")
    };
    assert!((told_mean - mean).abs() < 1e-9 && (told_median - median).abs() < 1e-9);
    assert!(missing_share.abs() < 1e-12);

    for segment in segments {
        // Income (feature 5) is sensitive and does not appear. Tenure is shown although no
        // model reads it.
        let shown: Vec<usize> = segment.profile.iter().map(|p| p.feature).collect();
        assert_eq!(shown, [0, 1, 2, 3, 4]);
        assert!(segment.standouts.is_sorted_by(|a, b| a.contrast.abs() >= b.contrast.abs()));
        assert!(segment.standouts.iter().all(|s| s.feature < 4));
        assert!(segment.standouts.iter().all(|s| {
            let [low, high] = s.contrast_interval();
            s.standard_error > 0.0 && low < s.contrast && s.contrast < high && high - low < 0.5
        }));
        assert!(
            segment.standouts.iter().all(|s| s.aspect == ColumnRole::Value || s.contrast > 0.0)
        );
    }
}

#[test]
fn a_typical_customer_is_the_mean_of_the_ten_nearest_to_the_centre() {
    let (model, rows) = (shop_model().model, shoppers(2000, 1));
    let mut scratch = model.scratch();
    let scored: Vec<_> = rows.iter().map(|row| model.score(row, &mut scratch)).collect();
    for (index, segment) in model.segments().iter().enumerate() {
        let mut members: Vec<usize> =
            (0..rows.len()).filter(|row| scored[*row].segment() == Some(index)).collect();
        members.sort_by(|a, b| scored[*a].distance.total_cmp(&scored[*b].distance));
        let recency = |row: &usize| match rows[*row].0[0] {
            FeatureValue::Number(days) => days,
            _ => panic!("every shopper has a recency"),
        };
        let nearest = members.iter().take(10).map(recency);
        let mean = nearest.sum::<f64>() / 10.0;
        let typical = segment.profile[0].typical_customer.as_ref().unwrap();
        assert!((typical.mean().unwrap() - mean).abs() < 1e-9, "{typical:?} is not {mean}");
        // Sensitive features do not appear.
        assert_eq!(segment.profile.len(), 5);
    }
}

#[test]
fn the_value_of_one_customer_is_in_no_typical_customer() {
    // A large segment in which the second feature is known of every twentieth customer, and a small
    // segment.
    let rows: Vec<FeatureRow> = (0..300_u32)
        .map(|row| {
            let position = if row < 295 { f64::from(row % 5) } else { 1000.0 };
            let rare =
                if row % 20 == 0 { FeatureValue::Number(7.0) } else { FeatureValue::Missing };
            FeatureRow(vec![FeatureValue::Number(position), rare])
        })
        .collect();
    let unscaled = Some(number(NumberTransform::None, NumberScaling::None));
    let defs = [def("x", "X", unscaled), def("rare", "Rare", None)];
    let model = train(spec(2), &defs, &rows).unwrap().model;
    let [large, small] = model.segments() else { panic!("{:?}", model.segments()) };
    assert_eq!((large.size, small.size), (295, 5));
    assert!(large.profile[0].typical_customer.as_ref().unwrap().mean().is_some());
    assert_eq!(large.profile[1].typical_customer, Some(TypicalValue::Unknown));
    assert_eq!(small.profile[0].typical_customer, None);
}

#[test]
fn a_constant_feature_is_no_standout() {
    // The mean of 300 equal numbers is off by rounding for some of these.
    let constants: Vec<f64> = (1..10).map(|n| 1.0 / f64::from(n * 7)).collect();
    let rows: Vec<FeatureRow> = (0..300)
        .map(|row| {
            let varying = if row % 3 == 0 { 5.0 } else { 1.0 + f64::from(row % 7) / 100.0 };
            let values = [varying].into_iter().chain(constants.iter().copied());
            FeatureRow(values.map(FeatureValue::Number).collect())
        })
        .collect();
    let unscaled = || Some(number(NumberTransform::None, NumberScaling::None));
    let names: Vec<String> = (0..10).map(|n| format!("number_{n}")).collect();
    let defs: Vec<_> = names.iter().map(|name| def(name, name, unscaled())).collect();
    let model = train(spec(2), &defs, &rows).unwrap().model;
    for segment in model.segments() {
        let features: Vec<usize> = segment.standouts.iter().map(|one| one.feature).collect();
        assert_eq!(features, [0], "{segment:?}");
    }
}

const NAMES: [&str; 4] = ["Low spend", "Low recency", "Channel app", "High recency"];

#[test]
fn the_reference_counts_every_row_once() {
    let model = shop_model().model;
    let reference = model.drift_baseline();
    assert_eq!(reference.rows, 2000);
    let sizes: Vec<u64> = model.segments().iter().map(|s| s.size).collect();
    assert_eq!(reference.segments, sizes);
    assert_eq!(reference.distances.counts.iter().sum::<u64>(), 400);
    let features: Vec<usize> = reference.features.iter().map(|f| f.feature).collect();
    assert_eq!(features, [0, 1, 2, 3, 4]);
    for feature in &reference.features {
        let counted = match &feature.bins {
            FeatureBins::Numbers(bins) => {
                assert_eq!(bins.cuts.len(), 9);
                let (least, most) = (bins.counts.iter().min(), bins.counts.iter().max());
                assert!(most.unwrap() - least.unwrap() <= 1, "deciles hold a tenth each");
                bins.counts.iter().sum::<u64>()
            }
            FeatureBins::Categories(categories) => {
                let names: Vec<&str> = categories.counts.iter().map(|(name, _)| &**name).collect();
                assert_eq!(names, ["app", "fax", "store", "web"]);
                assert_eq!(categories.index_of("web"), Some(3));
                assert_eq!(categories.index_of("pigeon"), None);
                categories.counts.iter().map(|(_, count)| count).sum::<u64>() + categories.other
            }
        };
        assert_eq!(counted + feature.missing, 2000);
        assert_eq!(feature.missing > 0, feature.feature == 2);
    }
}

#[test]
fn confidence_is_high_at_a_prototype_and_low_at_a_border() {
    let score = |distance: f32, runner_up_distance: f32| SegmentScore {
        nearest: 0,
        prototype: 0,
        is_within_radius: true,
        distance,
        runner_up: Some(1),
        runner_up_distance,
        p_value: 0.01,
        edge_p_value: 0.5,
    };
    assert_eq!((score(0.0, 2.0).confidence(), score(0.0, 2.0).margin()), (1.0, 2.0));
    assert_eq!((score(2.0, 2.0).confidence(), score(2.0, 2.0).margin()), (0.0, 0.0));
    assert_eq!(score(1.0, 4.0).confidence(), 0.75);
    assert_eq!(score(0.0, 0.0).confidence(), 0.0);
    assert_eq!(score(3.0, f32::INFINITY).confidence(), 1.0);
    assert!(score(1.0, 2.0).is_outlier(0.01) && !score(1.0, 2.0).is_outlier(0.0099));
}

#[test]
fn the_mean_confidence_is_the_silhouette() {
    let rows = shoppers(2000, 1);
    let trained = train(spec(4), &shop_features(), &rows).unwrap();
    let mut scratch = ScoringScratch::default();
    let mean = rows
        .iter()
        .map(|row| f64::from(trained.model.score(row, &mut scratch).confidence()))
        .sum::<f64>()
        / 2000.0;
    // The silhouette is that of the fitted four fifths.
    assert!((mean - trained.report.silhouette.unwrap()).abs() < 0.01);
    assert_eq!(trained.model.provenance().silhouette, trained.report.silhouette);
}

#[test]
fn reasons_name_the_deviating_feature() {
    let model = shop_model().model;
    let mut scratch = model.scratch();
    let mut row = shoppers(1, 5).remove(0);
    row.0[1] = FeatureValue::Number(900.0);
    let score = model.score(&row, &mut scratch);
    assert!(score.is_outlier(0.05));
    assert!(score.distance > model.edge_distance_limit(score.nearest, 0.05));
    let reasons = model.explain_score(&row, &score);
    assert_eq!(reasons.iter().map(|r| r.feature).max(), Some(3), "only what the model reads");
    assert!((reasons.iter().map(|r| r.share).sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(reasons.is_sorted_by(|a, b| a.share >= b.share));
    let first = &reasons[0];
    assert_eq!((first.feature, first.direction), (1, ValueDirection::Higher));
    assert_eq!(first.value, FeatureValue::Number(900.0));
    assert!(first.share > 0.9);
    assert!(matches!(first.typical_value, FeatureValue::Number(days) if days < 100.0));

    row.0[3] = FeatureValue::Missing;
    let reasons = model.explain_score(&row, &model.score(&row, &mut scratch));
    let channel = reasons.iter().find(|r| r.feature == 3).unwrap();
    assert_eq!(channel.direction, ValueDirection::Different);
    assert!(matches!(channel.typical_value, FeatureValue::Category(_)));
}

/// Outliers form a segment. Its rows must still be outliers.
#[test]
fn a_segment_of_outliers_is_an_outlier() {
    let mut rows = shoppers(2000, 1);
    for (row, days) in shoppers(15, 8).into_iter().zip(0..) {
        let mut odd = row;
        odd.0[1] = FeatureValue::Number(900.0 + f64::from(days));
        rows.push(odd);
    }
    let model = train(spec(5), &shop_features(), &rows).unwrap().model;
    let mut scratch = model.scratch();
    let score = model.score(&rows[2005], &mut scratch);
    assert!(model.segments()[score.nearest].size <= 20);
    assert!(score.edge_p_value > 0.02 && score.is_outlier(0.005), "{score:?}");
    assert_eq!(model.anomaly_kind(&score, 0.02), Some(AnomalyKind::GlobalOutlier));

    // A row at the edge of a segment is distinguished, and most rows are neither.
    let kinds: Vec<Option<AnomalyKind>> = rows[..2000]
        .iter()
        .map(|row| model.anomaly_kind(&model.score(row, &mut scratch), 0.02))
        .collect();
    assert!(kinds.contains(&Some(AnomalyKind::EdgeOfSegment)));
    assert!(kinds.iter().filter(|kind| kind.is_none()).count() > 1850);
}

#[test]
fn one_scratch_serves_models_of_any_width() {
    let wide = shop_model().model;
    let rows: Vec<FeatureRow> =
        shoppers(300, 2).into_iter().map(|row| FeatureRow(row.0[..2].to_vec())).collect();
    let narrow = train(spec(2), &shop_features()[..2], &rows).unwrap().model;
    let full = shoppers(1, 9).remove(0);
    let mut shared = ScoringScratch::default();
    for _ in 0..2 {
        let first = wide.score(&full, &mut shared);
        assert_eq!(first, wide.score(&full, &mut wide.scratch()));
        let second = narrow.score(&rows[0], &mut shared);
        assert_eq!(second, narrow.score(&rows[0], &mut narrow.scratch()));
    }
}

#[test]
fn a_limit_of_no_segment_is_infinite() {
    assert_eq!(shop_model().model.edge_distance_limit(4, 0.05), f32::INFINITY);
}

#[test]
fn prototypes_must_fill_their_rows() {
    assert_eq!(Prototypes::new(3, vec![0.0; 4]), None);
    assert_eq!(Prototypes::new(0, vec![]), None);
    assert_eq!(Prototypes::new(2, vec![]), None);
    assert_eq!(Prototypes::new(2, vec![0.0; 6]).unwrap().count(), 3);
}

proptest! {
    #[test]
    fn the_kernel_finds_the_two_nearest(
        width in 1..30_usize,
        count in 1..12_usize,
        numbers in prop::collection::vec(-100.0..100.0_f32, 30 * 13),
    ) {
        let vector = &numbers[..width];
        let values = numbers[width..width * (count + 1)].to_vec();
        let exact: Vec<f64> = values
            .chunks(width)
            .map(|p| p.iter().zip(vector).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum())
            .collect();
        let prototypes = Prototypes::new(width, values.clone()).unwrap();
        let found = prototypes.two_nearest(vector);
        prop_assert_eq!(prototypes.nearest_squared(vector), found.nearest_squared);

        let close = |found: f32, exact: f64| (f64::from(found) - exact).abs() <= 1e-5 * exact;
        for (prototype, exact) in values.chunks(width).zip(&exact) {
            prop_assert!(close(squared_distance(vector, prototype), *exact));
        }
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| exact[*a].total_cmp(&exact[*b]));
        prop_assert!(close(found.nearest_squared, exact[order[0]]));
        prop_assert!(close(found.nearest_squared, exact[found.nearest]));
        prop_assert_eq!(found.second.is_some(), count > 1);
        if let Some(second) = found.second {
            prop_assert!(second != found.nearest);
            prop_assert!(close(found.second_squared, exact[order[1]]));
            prop_assert!(close(found.second_squared, exact[second]));
        }
    }
}

#[test]
fn of_equally_near_prototypes_the_first_wins() {
    let found = Prototypes::new(1, vec![5.0, 1.0, -1.0, 1.0]).unwrap().two_nearest(&[0.0]);
    assert_eq!((found.nearest, found.second), (1, Some(2)));
    let one = Prototypes::new(1, vec![5.0]).unwrap().two_nearest(&[2.0]);
    assert_eq!((one.nearest, one.second, one.nearest_squared), (0, None, 9.0));
}
