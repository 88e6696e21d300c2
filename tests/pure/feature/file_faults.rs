//! Errors in a features file name the line, the field, and a correction.

use segmentd::domain::feature::FeatureSet;

use crate::feature::support::RETAIL;

/// Seventeen valid lines; the feature `x` continues after them.
const HEAD: &str = r#"[rfm]
recency = { feature = "days", cuts = [1, 2, 3, 4] }
frequency = { feature = "days", cuts = [1, 2, 3, 4] }
monetary = { feature = "days", cuts = [1, 2, 3, 4] }
[[feature]]
name = "days"
title = "Days"
unit = "days"
owner = "o@example.com"
sensitivity = "internal"
fold = "recency"
[[feature]]
name = "x"
title = "X"
unit = "u"
owner = "o@example.com"
sensitivity = "internal"
"#;

/// Cases separated by blank lines: the text after the head, then each expected error after
/// an exclamation mark.
const CASES: &str = include_str!("../../data/features_bad.txt");

/// The text of every error in `toml`.
fn faults(toml: &str) -> Vec<String> {
    let faults = FeatureSet::parse(toml).unwrap_err();
    faults.0.iter().map(ToString::to_string).collect()
}

#[test]
fn each_error_names_its_line_its_field_and_a_correction() {
    for case in CASES.trim().split("\n\n") {
        let (expected, rest): (Vec<&str>, Vec<&str>) =
            case.lines().partition(|line| line.starts_with("! "));
        let expected: Vec<&str> = expected.iter().map(|line| &line[2..]).collect();
        assert_eq!(faults(&format!("{HEAD}{}\n", rest.join("\n"))), expected, "in\n{case}");
    }
}

#[test]
fn faults_far_apart_are_all_reported_in_order_of_line() {
    let toml = RETAIL
        .replacen("fold = \"recency\"", "fold = \"recncy\"", 1)
        .replacen("{ rolling_days = 28 }\n", "{ rolling_days = -28 }\n", 1)
        .replacen("unit = \"USD\"", "unit = 5", 1)
        .replacen("denominator = \"orders_112d\"", "denominator = \"orders_12d\"", 1)
        .replacen("kind = \"text\"\n\n", "kind = \"string\"\n\n", 1)
        .replacen("cuts = [2, 4, 10, 26]", "cuts = [2, 4, 4, 26]", 1);
    let faults = FeatureSet::parse(&toml).unwrap_err().0;
    let places: Vec<(usize, &str)> =
        faults.iter().map(|fault| (fault.line.unwrap(), &*fault.path)).collect();
    // For each case, the line of the first difference from the valid file.
    let mut changed: Vec<usize> = toml
        .lines()
        .zip(RETAIL.lines())
        .enumerate()
        .filter(|(_, (bad, good))| bad != good)
        .map(|(i, _)| i + 1)
        .collect();
    changed.dedup();
    let paths = [
        "feature.recency_days.fold",
        "feature.orders_28d.window.rolling_days",
        "feature.spend_365d.unit",
        "feature.order_trend.denominator",
        "trait.age.kind",
        "rfm.recency.cuts",
    ];
    assert_eq!(places, changed.into_iter().zip(paths).collect::<Vec<_>>());
}

#[test]
fn a_file_with_missing_parts_is_refused_by_their_names() {
    assert_eq!(
        faults(""),
        [
            "feature: is missing: declare at least one `[[feature]]`",
            "line 1: rfm: is missing: give a table `[rfm]` with `recency`, `frequency` and `monetary`",
        ]
    );
}

#[test]
fn every_syntax_error_is_reported() {
    let lines: Vec<usize> = FeatureSet::parse("a = 1\nb = \nc = 3\nd == 4\n")
        .unwrap_err()
        .0
        .iter()
        .filter_map(|fault| fault.line)
        .collect();
    assert_eq!(lines, [2, 4, 4]);
}

#[test]
fn texts_are_storable_and_bounded() {
    let good = format!("{HEAD}fold = \"count\"\n");
    let title = good.replacen("title = \"X\"", r#"title = "X\u0000""#, 1);
    assert_eq!(faults(&title), ["line 14: feature.x.title: must not contain the character NUL"]);
    let unit = good.replacen("unit = \"u\"", &format!("unit = \"{}\"", "é".repeat(2001)), 1);
    let problem = "must be at most 2000 characters long; it has 2001";
    assert_eq!(faults(&unit), [format!("line 15: feature.x.unit: {problem}")]);
    let owner = good.replacen("o@example.com", &"é".repeat(201), 1);
    let problem = "must be at most 200 characters long; it has 201";
    assert_eq!(faults(&owner), [format!("line 9: feature.days.owner: {problem}")]);
    let longest = good.replacen("o@example.com", &"é".repeat(200), 1);
    assert!(FeatureSet::parse(&longest).is_ok());
}
