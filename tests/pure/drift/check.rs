//! The drift check reports a change to its owner, and is silent without a change.

use segmentd::domain::drift::{
    ComparedQuantity, CountedRow, DriftCheck, DriftFinding, DriftLimits, DriftWindow, Severity,
    SeverityThresholds, WindowLayout, WindowLengthError, check_window, draw_feature_chart,
};
use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::Model;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::TrainingSpec;
use segmentd::domain::train::evaluation::stability::StabilityTrials;

use crate::model::support::{
    def, normal, number, shop_features, shop_model, shoppers, spec, train,
};

const ALPHA: f64 = 0.01;

/// The expected window of these rows.
pub(crate) fn window_of(model: &Model, rows: &[FeatureRow], alpha: f64) -> DriftWindow {
    let layout = WindowLayout::of(model);
    let (mut window, mut scratch) = (layout.empty(), model.scratch());
    for row in rows {
        let score = model.score(row, &mut scratch);
        layout.count_row(&mut window, &CountedRow::new(row, &score, score.is_outlier(alpha)));
    }
    window
}

fn checked(model: &Model, rows: &[FeatureRow]) -> DriftCheck {
    check_window(model, &window_of(model, rows, ALPHA), &DriftLimits::default()).unwrap()
}

fn find<'a>(
    check: &'a DriftCheck,
    about: ComparedQuantity,
    feature: Option<&str>,
) -> Option<&'a DriftFinding> {
    check.findings.iter().find(|f| f.about == about && f.feature.as_deref() == feature)
}

fn on_features(check: &DriftCheck) -> Vec<(ComparedQuantity, &str)> {
    check.findings.iter().filter_map(|f| Some((f.about, f.feature.as_deref()?))).collect()
}

/// Changes the value of one feature in each row.
fn changed(
    rows: usize,
    place: usize,
    mut change: impl FnMut(usize, &mut FeatureValue),
) -> Vec<FeatureRow> {
    let mut rows = shoppers(rows, 77);
    for (i, row) in rows.iter_mut().enumerate() {
        change(i, &mut row.0[place]);
    }
    rows
}

#[test]
fn counts_add_up_and_the_training_rows_are_the_reference() {
    let model = shop_model().model;
    let window = window_of(&model, &shoppers(2000, 1), ALPHA);
    let layout = WindowLayout::of(&model);
    let reference = layout.reference();
    assert_eq!(window.counts.len(), layout.width());
    let (now, before) = (layout.view(&window).unwrap(), layout.view(&reference).unwrap());
    for place in 0..model.drift_baseline().features.len() {
        assert_eq!(now.feature(place), before.feature(place));
        let counts = now.feature(place);
        assert_eq!(counts.missing + counts.bins.iter().sum::<u64>(), 2000);
    }
    assert_eq!(now.segments(), before.segments());
    assert_eq!(now.unassigned(), before.unassigned());
    assert_eq!((now.scored(), before.scored()), (2000, 2000));
    assert_eq!(now.distances().iter().sum::<u64>(), 2000);
    assert_eq!(now.p_values().iter().sum::<u64>(), 2000);
    let held_out: u64 = before.distances().iter().sum();
    assert_eq!(before.p_values().iter().sum::<u64>(), held_out);
    // 400 rows without ties in 20 bins.
    let even = held_out / 20;
    assert!(before.p_values().iter().all(|count| count.abs_diff(even) <= 1));
}

#[test]
fn a_plain_number_has_no_unit_in_a_sentence() {
    let mut features = shop_features();
    features[0].unit = "1".into();
    let model = train(spec(3), &features, &shoppers(2000, 1)).unwrap().model;
    let rows = changed(2000, 0, |_, value| {
        if let FeatureValue::Number(spend) = value {
            *spend *= 3.0;
        }
    });
    let check = checked(&model, &rows);
    let finding = on_features(&check)
        .first()
        .and_then(|(about, feature)| find(&check, *about, Some(feature)))
        .unwrap();
    let texts = finding.description() + &finding.statistics;
    assert!(texts.contains("typically ") && texts.contains(" on average,"), "{texts}");
    assert!(!texts.contains(" 1 on average") && !texts.contains(" 1 at training"), "{texts}");
}

#[test]
fn counts_of_parts_sum_to_the_whole() {
    let model = shop_model().model;
    let rows = shoppers(600, 5);
    let mut sum = window_of(&model, &rows[..250], ALPHA);
    sum.merge(&window_of(&model, &rows[250..], ALPHA)).unwrap();
    assert_eq!(sum, window_of(&model, &rows, ALPHA));
    let wrong = DriftWindow { counts: vec![0; 3] };
    let error = WindowLengthError { expected: sum.counts.len(), found: 3 };
    assert_eq!(sum.merge(&wrong), Err(error));
    assert_eq!(check_window(&model, &wrong, &DriftLimits::default()), Err(error));
}

#[test]
fn nothing_is_found_in_the_training_rows_or_similar_ones() {
    let model = shop_model().model;
    for seed in [1, 2, 3] {
        let check = checked(&model, &shoppers(2000, seed));
        assert!(check.is_enough && check.findings.is_empty(), "{:#?}", check.findings);
        // The values, unseen and missing values of each feature, the rare channel, and five
        // tests of the model.
        assert_eq!(check.tests.len(), 3 * 5 + 1 + 5);
        assert_eq!(check.features.len(), 5);
    }
}

#[test]
fn a_changed_unit_is_reported_to_its_owner_in_that_unit() {
    let model = shop_model().model;
    let rows = changed(1500, 0, |_, value| {
        if let FeatureValue::Number(spend) = value {
            *spend *= 2.0;
        }
    });
    let check = checked(&model, &rows);
    assert_eq!(on_features(&check), [(ComparedQuantity::Values, "spend")]);
    let finding = find(&check, ComparedQuantity::Values, Some("spend")).unwrap();
    assert_eq!(finding.owner.as_deref(), Some("crm@example.com"));
    assert_eq!(finding.severity, Severity::Critical);
    let description = finding.description();
    assert!(description.starts_with("Spend rose: typically "), "{description}");
    assert!(description.ends_with(" units at training."), "{description}");
    assert!(!description.contains("PSI") && finding.statistics.contains("PSI "));
    assert!(finding.statistics.contains("values moved by at least "), "{}", finding.statistics);
    assert!(finding.advice.starts_with("crm@example.com: check whether the source"));
    assert!(finding.advice.contains("retrain"));
    assert!(finding.adjusted_p_value >= finding.p_value);
}

#[test]
fn absent_values_are_found_as_missing_only() {
    let model = shop_model().model;
    let rows = changed(1500, 2, |i, value| {
        if i % 3 == 0 {
            *value = FeatureValue::Missing;
        }
    });
    let check = checked(&model, &rows);
    assert_eq!(on_features(&check), [(ComparedQuantity::Missing, "gap")]);
    let finding = find(&check, ComparedQuantity::Missing, Some("gap")).unwrap();
    let start = "Gap between orders had missing values more often: in ";
    assert!(finding.description().starts_with(start), "{}", finding.description());
    assert!(finding.size > 0.25 && finding.severity == Severity::Critical);
}

#[test]
fn categories_unknown_to_training_are_reported_as_new() {
    let model = shop_model().model;
    let rows = changed(1500, 3, |i, value| {
        if i % 5 == 0 {
            *value = FeatureValue::Category("kiosk".into());
        }
    });
    let finding = checked(&model, &rows);
    let finding = find(&finding, ComparedQuantity::Values, Some("channel")).unwrap();
    assert_eq!(
        finding.description(),
        "Channel took categories that training never had: in 20 % of the known cases, in 0 % at \
         training."
    );
    assert!(finding.advice.contains("added or renamed"));
}

#[test]
fn drift_of_a_feature_that_no_model_reads_is_reported_as_such() {
    let model = shop_model().model;
    let rows = changed(1500, 4, |_, value| {
        if let FeatureValue::Number(tenure) = value {
            *tenure = (*tenure - 150.0).max(0.0);
        }
    });
    let check = checked(&model, &rows);
    assert_eq!(check.findings.len(), 1);
    let finding = find(&check, ComparedQuantity::Values, Some("tenure")).unwrap();
    assert!(finding.description().starts_with("Tenure fell: "), "{}", finding.description());
    assert!(finding.advice.contains("so no score is affected"));
}

/// A constant feature, such as a counter of errors or a flag.
#[test]
fn a_constant_feature_that_varies_is_found() {
    let with_tenure = |mut rows: Vec<FeatureRow>, (only, other): (f64, f64)| {
        for (i, row) in rows.iter_mut().enumerate() {
            row.0[4] = FeatureValue::Number(if i % 10 == 0 { other } else { only });
        }
        rows
    };
    for (only, other) in [(0.0, 2.0), (0.0, -1.0), (1.0, 0.0), (1e9, 2e9)] {
        let rows = with_tenure(shoppers(2000, 1), (only, only));
        let model = train(spec(4), &shop_features(), &rows).unwrap().model;
        let same = checked(&model, &with_tenure(shoppers(1500, 77), (only, only)));
        assert_eq!(on_features(&same), []);
        let check = checked(&model, &with_tenure(shoppers(1500, 77), (only, other)));
        assert_eq!(on_features(&check), [(ComparedQuantity::Values, "tenure")]);
        let what = find(&check, ComparedQuantity::Values, Some("tenure")).unwrap().description();
        assert!(what.contains(" of the known cases, "), "{what}");
        assert!(what.starts_with("Tenure changed: "), "{what}");
    }
}

#[test]
fn a_changed_customer_mix_is_reported_by_segment() {
    let model = shop_model().model;
    let mut scratch = model.scratch();
    let mut rows = shoppers(3000, 8);
    // Half of the customers of the largest segment are absent.
    let mut seen = 0;
    rows.retain(|row| {
        let largest = model.score(row, &mut scratch).segment() == Some(0);
        seen += usize::from(largest);
        !largest || seen % 2 == 0
    });
    let check = checked(&model, &rows);
    let finding = find(&check, ComparedQuantity::Segments, None).unwrap();
    let start = format!("The segment “{}” shrank: ", model.segments()[0].name);
    assert!(finding.description().starts_with(&start), "{}", finding.description());
    assert!(finding.owner.is_none() && finding.size > 0.1);
}

#[test]
fn customers_unlike_the_training_rows_are_found_as_outliers() {
    let model = shop_model().model;
    let mut rows = shoppers(2000, 9);
    for row in rows.iter_mut().step_by(8) {
        row.0[0] = FeatureValue::Number(1e6);
        row.0[1] = FeatureValue::Number(-500.0);
    }
    let check = checked(&model, &rows);
    let finding = find(&check, ComparedQuantity::Outliers, None).unwrap();
    assert!(finding.size > 5.0 && finding.severity == Severity::Critical);
    let description = finding.description();
    assert!(description.ends_with("% of the rows, 1.0 % expected."), "{description}");
    let p_values = find(&check, ComparedQuantity::PValues, None).unwrap();
    assert_eq!(
        p_values.description(),
        "The unusualness of rows changed: 17 % of the rows have an outlier p-value from 0 to \
         0.05, 4.8 % at training."
    );
    // The most severe come first.
    assert!(check.findings.is_sorted_by(|a, b| a.severity >= b.severity));
}

#[test]
fn too_few_rows_give_figures_and_no_finding() {
    let model = shop_model().model;
    let rows = changed(150, 0, |_, value| *value = FeatureValue::Number(1e5));
    let check = checked(&model, &rows);
    assert!(!check.is_enough && check.findings.is_empty() && check.tests.is_empty());
    assert!(check.features[0].psi.is_some_and(|psi| psi.value > 1.0));
    assert_eq!(checked(&model, &[]).scored, 0);
}

/// Without change the false alarm rate of all tests of a window together stays below the
/// level, for any window size and any effect thresholds.
#[test]
fn without_change_false_alarms_stay_below_the_promised_rate() {
    let limits = DriftLimits { significance_level: 0.05, ..everything() };
    let (models, windows) = (30, 5);
    for size in [200, 1000, 3000] {
        let mut alarms = 0;
        let mut loud = 0;
        for seed in 0..models {
            let mut rng = RandomStream::new(seed, size as u64);
            let model = twenty_model(&mut rng);
            for _ in 0..windows {
                let window = window_of(&model, &twenty(&mut rng, size, 0.0), ALPHA);
                let all = check_window(&model, &window, &limits).unwrap();
                // Of 200 rows some lack the last feature: too few to test its values.
                // With 200 rows, one feature has too few known values for two tests.
                assert_eq!(all.tests.len(), 3 * 20 + 5 - 2 * usize::from(size == 200));
                alarms += usize::from(!all.findings.is_empty());
                let usual = check_window(&model, &window, &DriftLimits::default()).unwrap();
                loud += usize::from(!usual.findings.is_empty());
            }
        }
        // At most 7.5 of 150 windows; 3.5 standard deviations are 9.3.
        assert!(alarms <= 16, "{alarms} alarms of {size} rows each");
        // At most 1.5; 3.5 standard deviations are 4.3.
        assert!(loud <= 5, "{loud} alarms of {size} rows each");
    }
}

/// One of twenty features moves by half a standard deviation: it is found in almost every
/// window, and rarely with another feature.
#[test]
fn half_a_standard_deviation_is_found() {
    let mut rng = RandomStream::new(41, 0);
    let model = twenty_model(&mut rng);
    let (mut found, mut others) = (0, 0);
    for _ in 0..20 {
        let window = window_of(&model, &twenty(&mut rng, 1000, 0.5), ALPHA);
        let check = check_window(&model, &window, &DriftLimits::default()).unwrap();
        let features = on_features(&check);
        found += usize::from(features.contains(&(ComparedQuantity::Values, "f7")));
        others += features.iter().filter(|(_, name)| *name != "f7").count();
    }
    assert!(found >= 19, "{found} of 20");
    // The level allows one false finding in a hundred.
    assert!(others <= 3, "{others} false ones");
}

/// Thresholds at which every difference counts.
fn everything() -> DriftLimits {
    let any = SeverityThresholds { notice: 0.0, warning: 10.0, critical: 100.0 };
    DriftLimits { psi: any, share: any, unseen: any, outliers: any, ..DriftLimits::default() }
}

/// Three kinds of customers, separated by the first five of twenty features. The feature f7
/// moves by `shift` standard deviations.
fn twenty(rng: &mut RandomStream, rows: usize, shift: f64) -> Vec<FeatureRow> {
    let mut row = || {
        let kind = [0.5, 0.8].iter().filter(|bound| rng.uniform_unit() >= **bound).count() as f64;
        let value = |feature: usize| {
            if feature == 19 && rng.uniform_below(10) == 0 {
                return FeatureValue::Missing;
            }
            let apart = if feature < 5 { 2.0 * kind } else { 0.0 };
            let moved = if feature == 7 { shift } else { 0.0 };
            FeatureValue::Number(apart + moved + normal(rng))
        };
        FeatureRow((0..20).map(value).collect())
    };
    (0..rows).map(|_| row()).collect()
}

fn twenty_features() -> Vec<FeatureDefinition> {
    let encoding: FeatureEncoding = number(NumberTransform::None, NumberScaling::Standard);
    (0..20).map(|i| def(&format!("f{i}"), &format!("Feature {i}"), Some(encoding))).collect()
}

fn twenty_model(rng: &mut RandomStream) -> Model {
    let stability = StabilityTrials { bootstraps: 0, seeds: 0, ..StabilityTrials::default() };
    let spec = TrainingSpec { starts: 1, stability, ..spec(3) };
    train(spec, &twenty_features(), &twenty(rng, 2500, 0.0)).unwrap().model
}

#[test]
fn the_picture_shows_both_distributions_and_escapes_text() {
    let mut features = shop_features();
    features[0].title = "Spend <b> & \"co\"\u{7}".into();
    let trained = train(spec(2), &features, &shoppers(500, 1)).unwrap();
    let window = window_of(
        &trained.model,
        &changed(400, 3, |i, value| {
            if i % 2 == 0 {
                *value = FeatureValue::Category("<script>".into());
            }
        }),
        ALPHA,
    );
    let svg = draw_feature_chart(&trained.model, &window, "spend").unwrap().unwrap().svg;
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("Spend &lt;b&gt; &amp; &quot;co&quot;\u{fffd} (units)"));
    assert!(svg.contains("at training: 500 rows") && svg.contains("now: 400 rows"));
    // The background, two in the legend, and two for each decile.
    assert_eq!(svg.matches("<rect").count(), 1 + 2 + 2 * 10);
    assert_eq!(svg.matches('<').count(), svg.matches('>').count());

    let gap = draw_feature_chart(&trained.model, &window, "gap").unwrap().unwrap().svg;
    assert!(gap.contains(">missing</text>"));
    let channel = draw_feature_chart(&trained.model, &window, "channel").unwrap().unwrap().svg;
    assert!(channel.contains(">all other</text>") && channel.contains(">store</text>"));
    assert!(!channel.contains("<script"));

    for unknown in ["income", "nothing"] {
        assert_eq!(draw_feature_chart(&trained.model, &window, unknown), Ok(None));
    }
    let wrong = DriftWindow { counts: vec![] };
    assert!(draw_feature_chart(&trained.model, &wrong, "spend").is_err());
}
