//! The bounds of a feature follow from its declaration.

use segmentd::domain::feature::FeatureSet;

use crate::feature::support::RETAIL;

/// A set with the built-in features and these.
fn with(features: &[&str]) -> FeatureSet {
    let mut file = RETAIL.to_owned();
    for feature in features {
        file.push_str("\n[[feature]]\ntitle = \"t\"\nunit = \"1\"\nowner = \"qa@example.com\"\n");
        file.push_str("sensitivity = \"internal\"\n");
        file.push_str(feature);
        file.push('\n');
    }
    FeatureSet::parse(&file).unwrap_or_else(|faults| panic!("{faults}"))
}

fn bounds(set: &FeatureSet, name: &str) -> (Option<f64>, Option<f64>) {
    let bounds = set.bounds_at(set.index_of(name).unwrap());
    (bounds.minimum, bounds.maximum)
}

#[test]
fn counts_times_and_shares_have_bounds_and_signed_sums_have_none() {
    let order = r#"from = { name = "Order Completed" }"#;
    let signed =
        r#"from = [{ name = "Order Completed" }, { name = "Order Refunded", weight = -1 }]"#;
    let positive = r#"where = [{ property = "sales_value", at_least = 0 }]"#;
    let set = with(&[
        &format!("name = \"n\"\nfold = \"count\"\n{order}"),
        &format!("name = \"net\"\nfold = \"count\"\n{signed}"),
        &format!("name = \"net_floor\"\nfold = \"count\"\n{signed}\nfloor = -3"),
        &format!("name = \"days\"\nfold = \"recency\"\n{order}"),
        &format!("name = \"since\"\nfold = \"tenure\"\n{order}"),
        &format!("name = \"gap\"\nfold = \"mean-gap\"\n{order}"),
        &format!("name = \"stores\"\nfold = \"distinct\"\nproperty = \"store_id\"\n{order}"),
        "name = \"visits\"\nfold = \"sessions\"\ngap_minutes = 30",
        &format!("name = \"sum\"\nfold = \"sum\"\nproperty = \"sales_value\"\n{order}"),
        &format!(
            "name = \"sum_floor\"\nfold = \"sum\"\nproperty = \"sales_value\"\nfloor = 0\n{order}"
        ),
        &format!(
            "name = \"gain\"\nfold = \"sum\"\nproperty = \"sales_value\"\n{order}\n{positive}"
        ),
        &format!(
            "name = \"share\"\nfold = \"share\"\nproperty = \"store_id\"\nvalues = [\"1\"]\n{order}"
        ),
        "name = \"more\"\nfold = \"difference\"\nminuend = \"n\"\nsubtrahend = \"stores\"",
        "name = \"per\"\nfold = \"ratio\"\nnumerator = \"n\"\ndenominator = \"stores\"",
        "name = \"per_net\"\nfold = \"ratio\"\nnumerator = \"net\"\ndenominator = \"n\"",
    ]);
    let (least, unbounded) = ((Some(0.0), None), (None, None));
    for name in ["n", "days", "since", "gap", "stores", "visits", "sum_floor", "gain", "per"] {
        assert_eq!(bounds(&set, name), least, "{name}");
    }
    for name in ["net", "sum", "more", "per_net"] {
        assert_eq!(bounds(&set, name), unbounded, "{name}");
    }
    assert_eq!(bounds(&set, "net_floor"), (Some(-3.0), None));
    assert_eq!(bounds(&set, "share"), (Some(0.0), Some(1.0)));
    assert_eq!(bounds(&set, "last_store"), unbounded, "a text");
    assert_eq!(bounds(&set, "recency_days"), least);
}
