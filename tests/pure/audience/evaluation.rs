//! Evaluation of rules: comparisons, missing values, precedence and references.

use std::fmt::Write as _;

use proptest::prelude::*;
use segmentd::domain::audience::{AudienceInputs, StoredAudiences};
use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::value::ValueSummary;

use crate::audience::{SET, define};

const VALUE: ValueSummary = ValueSummary {
    is_reliable: true,
    churn_probability: 0.6,
    predicted_orders: 4.0,
    predicted_spend: None,
    next_order_at: None,
};

/// A row with these values, by name; the other values are missing.
fn row(values: &[(&str, FeatureValue)]) -> FeatureRow {
    let mut row = FeatureRow(vec![FeatureValue::Missing; SET.features().len()]);
    for (name, value) in values {
        row.0[SET.index_of(name).unwrap()] = value.clone();
    }
    row
}

fn inputs(row: &FeatureRow) -> AudienceInputs<'_> {
    AudienceInputs {
        row,
        segment_id: "seg_1",
        confidence: Some(0.5),
        p_value: None,
        is_outlier: false,
        value: Some(&VALUE),
    }
}

fn holds(expression: &str, inputs: &AudienceInputs<'_>) -> bool {
    let set = define(&[("tested", expression)]);
    assert_eq!(set.fault_of("tested"), None, "{expression}");
    set.evaluate(inputs, StoredAudiences::default()).names().any(|name| name == "tested")
}

#[test]
fn conditions_compare_values() {
    let row = row(&[
        ("orders", FeatureValue::Number(3.0)),
        ("tier", FeatureValue::Category("gold".into())),
    ]);
    let inputs = inputs(&row);
    for (expression, expected) in [
        ("features.orders = 3", true),
        ("features.orders != 3", false),
        ("features.orders < 3", false),
        ("features.orders <= 3", true),
        ("features.orders > 2.5", true),
        ("features.orders >= 3 orders", true),
        ("features.orders in (1, 3)", true),
        ("features.orders not in (1, 3)", false),
        ("features.tier = 'gold'", true),
        ("features.tier != 'gold'", false),
        ("features.tier in ('silver', 'gold')", true),
        ("features.tier not in ('silver')", true),
        ("segment_id = 'seg_1'", true),
        ("confidence >= 0.5", true),
        ("outlier", false),
        ("value.churn_probability > 0.5 and value.reliable", true),
        ("value.predicted_number_of_orders = 4", true),
        // A comparison with a missing value is false, whatever it compares.
        ("features.spend > 0", false),
        ("features.spend <= 0", false),
        ("features.spend != 7", false),
        ("features.spend not in (7)", false),
        ("features.spend is missing", true),
        ("features.orders is not missing", true),
        ("features.tier is missing", false),
        ("value.predicted_clv >= 0", false),
        ("p_value is missing", true),
        // `and` binds before `or`, `not` before both.
        ("outlier and outlier or features.orders = 3", true),
        ("outlier and (outlier or features.orders = 3)", false),
        ("not outlier and features.orders = 4", false),
        ("not (outlier and features.orders = 3)", true),
    ] {
        assert_eq!(holds(expression, &inputs), expected, "{expression}");
    }
    let without = AudienceInputs { value: None, confidence: None, ..inputs };
    assert!(!holds("value.reliable or confidence >= 0", &without));
    assert!(holds("confidence is missing and value.churn_probability is missing", &without));
}

#[test]
fn audiences_are_evaluated_after_those_that_they_name() {
    let set = define(&[
        ("at_risk", "audiences.loyal and features.recency_days > 60"),
        ("loyal", "features.orders >= 3"),
        ("broken", "features.gone = 1"),
        ("beside_broken", "audiences.broken"),
    ]);
    let row =
        row(&[("orders", FeatureValue::Number(3.0)), ("recency_days", FeatureValue::Number(61.0))]);
    let found = set.evaluate(&inputs(&row), StoredAudiences::default());
    assert_eq!(found.names().collect::<Vec<_>>(), ["at_risk", "loyal"]);
    assert_eq!(found.ids(), [1, 2]);
    assert_eq!(found.version(), 7);
    // Nobody enters or leaves an audience whose rule cannot be evaluated.
    let found = set.evaluate(&inputs(&row), StoredAudiences { ids: &[3], version: 7 });
    assert_eq!(found.names().collect::<Vec<_>>(), ["at_risk", "loyal", "broken", "beside_broken"]);
    // Another replica has evaluated later definitions: they remain.
    let later = StoredAudiences { ids: &[2, 9], version: 8 };
    let found = set.evaluate(&inputs(&row), later);
    assert_eq!((found.ids(), found.version()), (&[2, 9][..], 8));
    assert_eq!(found.names().collect::<Vec<_>>(), ["loyal"]);
    assert_eq!(set.named(&[2, 9]).names().collect::<Vec<_>>(), ["loyal"]);
}

/// A rule as a tree that the test evaluates itself.
#[derive(Debug, Clone)]
enum Rule {
    AtLeast(u8),
    Missing,
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Rule {
    fn holds(&self, orders: Option<u8>) -> bool {
        match self {
            Self::AtLeast(bound) => orders.is_some_and(|orders| orders >= *bound),
            Self::Missing => orders.is_none(),
            Self::Not(part) => !part.holds(orders),
            Self::All(parts) => parts.iter().all(|part| part.holds(orders)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(orders)),
        }
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::AtLeast(bound) => write!(text, "features.orders >= {bound}").unwrap(),
            Self::Missing => text.push_str("features.orders is missing"),
            Self::Not(part) => {
                text.push_str("not (");
                part.write(text);
                text.push(')');
            }
            Self::All(parts) => Self::write_all(parts, " and ", text),
            Self::Any(parts) => Self::write_all(parts, " or ", text),
        }
    }

    fn write_all(parts: &[Self], word: &str, text: &mut String) {
        for (index, part) in parts.iter().enumerate() {
            text.push_str(if index == 0 { "" } else { word });
            // Parentheses only where precedence needs them.
            let needs = matches!((word, part), (" and ", Self::Any(_)));
            text.push_str(if needs { "(" } else { "" });
            part.write(text);
            text.push_str(if needs { ")" } else { "" });
        }
    }
}

fn rules() -> impl Strategy<Value = Rule> {
    let leaf = prop_oneof![(0..6_u8).prop_map(Rule::AtLeast), Just(Rule::Missing)];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let parts = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.prop_map(|part| Rule::Not(Box::new(part))),
            parts.clone().prop_map(Rule::All),
            parts.prop_map(Rule::Any),
        ]
    })
}

proptest! {
    #[test]
    fn a_written_rule_means_what_its_tree_means(rule in rules(), orders in prop::option::of(0..7_u8)) {
        let mut text = String::new();
        rule.write(&mut text);
        let value = orders.map(|orders| FeatureValue::Number(f64::from(orders)));
        let row = row(&value.map(|value| ("orders", value)).into_iter().collect::<Vec<_>>());
        prop_assert_eq!(holds(&text, &inputs(&row)), rule.holds(orders), "{}", text);
    }

    #[test]
    fn no_text_crashes_the_parser(text in "\\PC{0,60}") {
        let _ = define(&[("tested", &text)]).fault_of("tested");
    }

    #[test]
    fn no_arrangement_of_words_crashes_the_parser(
        words in prop::collection::vec(prop::sample::select(vec![
            "and", "or", "not", "(", ")", ",", "in", "is", "missing", "=", ">=", "3", "'x'",
            "outlier", "features.orders", "features.tier", "audiences.tested", "value.reliable",
        ]), 0..12)
    ) {
        let _ = define(&[("tested", &words.join(" "))]).fault_of("tested");
    }
}
