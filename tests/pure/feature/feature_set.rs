//! The feature set: identity, admission of events, fallback rules.

use segmentd::domain::event::{CustomerEvent, EventKind, Properties, PropertyValue};
use segmentd::domain::feature::{
    CustomerState, FeatureEncoding, FeatureRow, FeatureSet, FeatureValue, Sensitivity, ValueType,
};
use segmentd::domain::rfm::RfmSegment;

use crate::feature::normal_form::as_toml;
use crate::feature::support::{FOLDS, RETAIL, at, event, text};

fn retail() -> FeatureSet {
    FeatureSet::parse(RETAIL).unwrap()
}

#[test]
fn the_id_depends_on_the_declarations_not_on_their_form() {
    let set = retail();
    let declared = RETAIL.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let bare = declared.collect::<Vec<_>>().join(
        "
   ",
    );
    assert_eq!(FeatureSet::parse(&bare).unwrap(), set);
    let spelled_out =
        RETAIL.replacen("window = { rolling_days = 90 }", "window.rolling_days = 90", 1);
    assert_eq!(FeatureSet::parse(&spelled_out).unwrap().id(), set.id());
    let other = RETAIL.replacen("rolling_days = 90", "rolling_days = 91", 1);
    assert_ne!(FeatureSet::parse(&other).unwrap().id(), set.id());
}

#[test]
fn the_normal_form_reads_back_as_the_same_set() {
    for source in [RETAIL, FOLDS] {
        let set = FeatureSet::parse(source).unwrap();
        assert_eq!(FeatureSet::parse(&as_toml(set.normal_form())).unwrap(), set);
    }
}

#[test]
fn the_retail_set_is_fit_for_models_and_excludes_personal_data() {
    let set = retail();
    let encoded = set.features().iter().filter(|feature| feature.encoding.is_some());
    assert!((12..=16).contains(&encoded.count()));
    assert_eq!(set.traits().len(), 7);
    for def in set.traits() {
        assert_eq!((def.kind, def.sensitivity), (ValueType::Text, Sensitivity::Sensitive));
    }
    for feature in set.features() {
        assert!(feature.owner.contains('@'), "{}", feature.name);
        assert!(
            !matches!(feature.encoding, Some(FeatureEncoding::OneHot { .. })),
            "{}",
            feature.name
        );
    }
}

fn order(properties: Vec<(&str, PropertyValue)>) -> CustomerEvent {
    event("c", EventKind::Track, "Order Completed", at("2024-01-01T00:00:00Z"), properties)
}

/// An order with this property, and with a value.
fn order_with(property: &str, value: PropertyValue) -> CustomerEvent {
    let mut order = order(vec![("sales_value", PropertyValue::Number(3.0))]);
    order.properties.set(property, value);
    order
}

#[test]
fn ingestion_drops_properties_that_no_feature_reads() {
    let set = retail();
    let admitted = set
        .validate_event(order(vec![
            ("sales_value", PropertyValue::Number(3.0)),
            ("card_number", text("4111")),
            // Traits count in `identify` only.
            ("age", text("19-24")),
        ]))
        .unwrap()
        .event;
    assert_eq!(admitted.properties.iter().map(|p| p.0).collect::<Vec<_>>(), ["sales_value"]);

    let unread = event(
        "c",
        EventKind::Page,
        "Home",
        at("2024-01-01T00:00:00Z"),
        vec![("sales_value", PropertyValue::Number(3.0))],
    );
    assert_eq!(set.validate_event(unread).unwrap().event.properties, Properties::default());
}

#[test]
fn a_sum_refuses_the_event_and_other_properties_are_left_out() {
    let set = retail();
    let fault = set.validate_event(order(vec![("sales_value", PropertyValue::Number(2e12))]));
    let fault = fault.unwrap_err();
    assert_eq!(fault.to_string(), "properties.sales_value: must lie within ±1e12; it is 2e12");
    for (property, value, problem) in [
        (
            "sales_value",
            text("twelve"),
            "must be a number, as the feature set declares it; it is a text that is no decimal \
             number",
        ),
        (
            "sales_value",
            PropertyValue::Bool(true),
            "must be a number, as the feature set declares it; it is true or false",
        ),
        ("store_id", text(&"x".repeat(1025)), "must be at most 1024 bytes long; it is 1025"),
        ("store_id", text("a\0b"), "must not contain the character NUL"),
    ] {
        let validated = set.validate_event(order_with(property, value)).unwrap();
        assert_eq!(validated.event.properties.get(property), None);
        let [warning] = validated.warnings.try_into().unwrap();
        assert_eq!(warning.path, format!("properties.{property}"));
        assert_eq!(warning.problem, problem);
    }
}

#[test]
fn ingestion_converts_properties_without_loss() {
    let set = retail();
    for (property, value, converted) in [
        ("sales_value", text(" 199.00 "), PropertyValue::Number(199.0)),
        ("sales_value", text("-1.5e2"), PropertyValue::Number(-150.0)),
        ("store_id", PropertyValue::Number(34.0), text("34")),
        ("store_id", PropertyValue::Number(0.25), text("0.25")),
        ("store_id", PropertyValue::Bool(true), text("true")),
        (
            "store_id",
            PropertyValue::from_decimal("100000000000000000001").unwrap(),
            text("100000000000000000001"),
        ),
    ] {
        let validated = set.validate_event(order_with(property, value)).unwrap();
        assert_eq!(validated.event.properties.get(property), Some(&converted));
        assert_eq!(validated.warnings, []);
    }
    let validated = set.validate_event(order(vec![])).unwrap();
    assert_eq!(
        validated.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["properties.sales_value: is missing: the order counts without a value, which is read \
          from sales_value or total or revenue"]
    );
    let mut identify = order(vec![("age", PropertyValue::Number(34.0)), ("plan", text("x"))]);
    identify.kind = EventKind::Identify;
    let validated = set.validate_event(identify).unwrap();
    assert_eq!(validated.event.properties.get("age"), Some(&text("34")));
}

#[test]
fn the_fallback_names_every_score_and_uses_every_name() {
    let set = retail();
    let rules = set.rfm();
    // A value for each score, worst first, from the cuts themselves.
    let values = |cuts: [f64; 4]| [cuts[0], cuts[1], cuts[2], cuts[3], cuts[3] + 1.0];
    let mut recency = values(rules.recency.cuts);
    recency.reverse();
    let (frequency, monetary) = (values(rules.frequency.cuts), values(rules.monetary.cuts));
    let mut names = std::collections::BTreeSet::new();
    for (r, recency) in (1..).zip(recency) {
        for (f, frequency) in (1..).zip(frequency) {
            for (m, monetary) in (1..).zip(monetary) {
                let mut row = FeatureRow(vec![FeatureValue::Missing; set.features().len()]);
                row.0[rules.recency.index] = FeatureValue::Number(recency);
                row.0[rules.frequency.index] = FeatureValue::Number(frequency);
                row.0[rules.monetary.index] = FeatureValue::Number(monetary);
                let segment = rules.score_row(&row);
                assert_eq!((segment.recency, segment.frequency, segment.monetary), (r, f, m));
                names.insert(segment.name);
            }
        }
    }
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        [
            "About To Sleep",
            "At Risk",
            "Can't Lose Them",
            "Champions",
            "Lost",
            "Loyal Customers",
            "Need Attention",
            "New Customers",
            "Potential Loyalist",
            "Promising",
        ]
    );
}

#[test]
fn the_fallback_scores_the_unknown_customer_lowest() {
    let set = retail();
    let row = FeatureRow(vec![FeatureValue::Missing; set.features().len()]);
    let expected =
        RfmSegment { index: 9, id: "lost", name: "Lost", recency: 1, frequency: 1, monetary: 1 };
    assert_eq!(set.rfm().score_row(&row), expected);
}

#[test]
fn the_fallback_gives_known_customers_the_expected_names() {
    let set = retail();
    let rules = set.rfm();
    for (recency, frequency, monetary, id) in [
        (1.0, 200.0, 9000.0, "champions"),
        (1.0, 1.0, 10.0, "new_customers"),
        (3.0, 1.0, 10.0, "promising"),
        (8.0, 40.0, 1000.0, "need_attention"),
        (8.0, 1.0, 10.0, "about_to_sleep"),
        (90.0, 50.0, 1500.0, "at_risk"),
        (90.0, 200.0, 9000.0, "cant_lose_them"),
        (90.0, 1.0, 10.0, "lost"),
    ] {
        let mut row = FeatureRow(vec![FeatureValue::Missing; set.features().len()]);
        row.0[rules.recency.index] = FeatureValue::Number(recency);
        row.0[rules.frequency.index] = FeatureValue::Number(frequency);
        row.0[rules.monetary.index] = FeatureValue::Number(monetary);
        assert_eq!(rules.score_row(&row).id, id);
    }
}

/// An `identify` or `group` call is no behavioural event: it counts only for features that
/// name its type.
#[test]
fn traits_count_only_for_features_that_read_them() {
    let set = FeatureSet::parse(include_str!("../../data/segment_features.toml")).unwrap();
    let mut state = CustomerState::new(&set);
    let now = at("2024-01-01T00:00:00Z");
    for kind in EventKind::ALL {
        let properties = vec![("group_id", text("g1")), ("card_number", text("4111"))];
        state.apply(
            &set,
            &set.validate_event(event("c", kind, "Home", now, properties)).unwrap().event,
        );
    }
    let row = state.feature_row(&set, now);
    let value = |name: &str| row.0[set.index_of(name).unwrap()].clone();
    assert_eq!(value("behaviour"), FeatureValue::Number(3.0));
    assert_eq!(value("groups"), FeatureValue::Number(1.0));
    assert_eq!(value("group"), FeatureValue::Category("g1".into()));
}

/// The previous id of an alias is identity data, so no feature set drops it.
#[test]
fn an_alias_keeps_the_id_it_names() {
    let alias = event(
        "c",
        EventKind::Alias,
        "",
        at("2024-01-01T00:00:00Z"),
        vec![("previous_id", text("a1"))],
    );
    assert_eq!(retail().validate_event(alias.clone()).unwrap().event, alias);
}
