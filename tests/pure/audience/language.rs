//! The language of rules: faults with their positions, and references.

use crate::audience::define;

/// The fault of a rule beside an audience `vip`.
fn fault(expression: &str) -> Option<String> {
    let set = define(&[("tested", expression), ("vip", "features.spend > 100")]);
    set.fault_of("tested").map(ToString::to_string)
}

#[test]
fn rules_that_name_known_things_are_accepted() {
    for expression in [
        "outlier",
        "not outlier and audiences.vip",
        "NOT (outlier OR audiences.vip)",
        "features.orders >= 3",
        "features.orders >= 3 orders and features.spend < 1e3 USD",
        "features.recency_days > -1.5 days",
        "features.orders in (1, 2, 3) or features.orders not in (7)",
        "features.tier = 'gold'",
        "features.tier != \"it's\"",
        "features.tier in ('gold', 'silver')",
        "features.tier is missing or features.spend is not missing",
        "segment_id = 'seg_1' and confidence >= 0.5 and p_value < .05",
        "value.churn_probability > 0.5 and value.predicted_clv >= 500 and value.reliable",
        "value.predicted_number_of_orders < 1",
    ] {
        assert_eq!(fault(expression), None, "{expression}");
    }
}

#[test]
fn a_fault_says_where_it_is_and_what_is_right() {
    for (expression, expected) in [
        ("", "at character 1: expected a condition, such as `features.orders >= 3`, found the end"),
        (
            "features.orders",
            "at character 1: `features.orders` is neither true nor false: compare it, such as `features.orders >= 3`",
        ),
        (
            "segment_id",
            "at character 1: `segment_id` is neither true nor false: compare it, such as `segment_id = 'seg_…'`",
        ),
        (
            "features.orders >",
            "at character 18: expected a number or a text in quotes, found the end",
        ),
        ("features.orders == 3", "at character 17: write `=` instead of `==`"),
        ("features.orders <> 3", "at character 17: write `!=` instead of `<>`"),
        ("outlier && outlier", "at character 9: write `and`, `or` and `not` as words"),
        ("outlier outlier", "at character 9: expected `and`, `or` or the end, found `outlier`"),
        ("(outlier", "at character 9: expected `)` to close the parenthesis, found the end"),
        ("outlier)", "at character 8: expected `and`, `or` or the end, found `)`"),
        ("features.tier = 'gold", "at character 17: the text has no closing '"),
        (
            "features.orders >= 1.2.3",
            "at character 20: `1.2.3` is not a number: write it like 1250 or 0.5",
        ),
        ("features.orders ; 3", "at character 17: `;` is not part of the language"),
        (
            "features.spent > 3",
            "at character 1: there is no feature `spent`: did you mean `spend`?",
        ),
        ("orders > 3", "at character 1: write `features.orders` for the feature"),
        ("vip", "at character 1: write `audiences.vip` for the audience"),
        ("audiences.vp", "at character 1: there is no audience `vp`: did you mean `vip`?"),
        (
            "features.age > 18",
            "at character 1: the feature `age` is declared sensitive: audiences cannot read it",
        ),
        (
            "features.tier > 'a'",
            "at character 1: `features.tier` is a text: compare it with `=`, `!=` or `in`",
        ),
        (
            "features.tier = 3",
            "at character 17: `features.tier` is a text: write the value in quotes",
        ),
        (
            "features.orders = '3'",
            "at character 19: `features.orders` is a number: compare it with a number without quotes",
        ),
        (
            "features.spend > 3 EUR",
            "at character 20: `EUR` is not the unit of `features.spend`: write `USD` or no unit",
        ),
        (
            "confidence > 0.5 days",
            "at character 18: `days` is not the unit of `confidence`: write no unit",
        ),
        (
            "value.churn_probability > 50",
            "at character 27: `value.churn_probability` is from 0 to 1: 50 is not",
        ),
        (
            "outlier = 3",
            "at character 1: `outlier` is true or false: write `outlier` or `not outlier`",
        ),
        (
            "outlier is missing",
            "at character 1: `outlier` is true or false: write `outlier` or `not outlier`",
        ),
        ("features.orders not 3", "at character 21: expected `in` after `not`, found a number"),
        ("features.orders in 3", "at character 20: expected `(` after `in`, found a number"),
        ("features.orders in (3", "at character 22: expected `)` to close the list, found the end"),
        ("features.orders is 3", "at character 20: expected `missing` after `is`, found a number"),
        ("é > 3 and features.orders", "at character 1: there is no `é`: expected `segment_id`"),
    ] {
        let found = fault(expression).unwrap_or_else(|| panic!("{expression} has no fault"));
        assert!(found.starts_with(expected), "{expression}\n   found {found}\nexpected {expected}");
    }
}

#[test]
fn limits_of_size_are_faults_and_no_crash() {
    let deep = format!("{}outlier", "not ".repeat(33));
    assert_eq!(fault(&deep).unwrap(), "at character 129: more than 32 nested `not` and `(`");
    assert!(fault(&format!("{}outlier", "not ".repeat(31))).is_none());
    let wide = format!("features.orders in ({}1)", "1, ".repeat(200));
    assert!(fault(&wide).unwrap().ends_with("more than 200 values after `in`"));
    let long = format!("outlier{}", " ".repeat(4_000));
    assert!(fault(&long).unwrap().ends_with("longer than 4000 characters"));
}

#[test]
fn a_rule_may_not_depend_on_itself() {
    let set = define(&[
        ("a", "audiences.b"),
        ("b", "audiences.c or outlier"),
        ("c", "not audiences.a"),
        ("d", "audiences.a and outlier"),
        ("e", "audiences.e"),
    ]);
    for name in ["a", "b", "c"] {
        let found = set.fault_of(name).unwrap().to_string();
        assert_eq!(found, "the audience depends on itself: a → b → c → a");
    }
    assert_eq!(set.fault_of("e").unwrap().to_string(), "the audience depends on itself: e → e");
    // It names a faulty audience, but has no fault of its own.
    assert_eq!(set.fault_of("d"), None);
}
