//! Accepted events that no feature uses say so.

use segmentd::domain::event::{CustomerEvent, EventKind};
use segmentd::domain::feature::FeatureSet;

use crate::feature::support::{FOLDS, RETAIL, at, event, number, text};

const AT: &str = "2026-03-01T12:00:00Z";

/// The warnings of an event, each as path and problem.
fn warnings(set: &FeatureSet, event: CustomerEvent) -> Vec<String> {
    let validated = set.validate_event(event).unwrap();
    validated.warnings.iter().map(ToString::to_string).collect()
}

fn track(name: &str) -> CustomerEvent {
    let properties = vec![("sales_value", number("20")), ("lines", number("2"))];
    event("c", EventKind::Track, name, at(AT), properties)
}

#[test]
fn a_name_that_no_feature_reads_is_reported_with_the_name_that_was_meant() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    assert_eq!(warnings(&set, track("Order Completed")), [""; 0]);
    for meant in ["order completed", "Order Complete", "Order  Completed"] {
        assert_eq!(
            warnings(&set, track(meant)),
            [format!("event: no feature reads `{meant}`; did you mean `Order Completed`?")]
        );
    }
    let [other] = &warnings(&set, track("Video Played"))[..] else { panic!("one warning") };
    assert!(other.starts_with("event: no feature reads `Video Played`; the names"), "{other}");
    assert!(other.contains("`Order Completed`"), "{other}");
}

#[test]
fn traits_of_which_none_is_declared_are_reported() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let identify = |traits| event("c", EventKind::Identify, "", at(AT), traits);
    assert_eq!(warnings(&set, identify(vec![])), [""; 0], "it links ids");
    let [unused] = &warnings(&set, identify(vec![("shoe_size", number("43"))]))[..] else {
        panic!("one warning")
    };
    assert!(unused.starts_with("traits: are not used: the declared traits are `"), "{unused}");
    let declared = set.traits()[0].name.to_string();
    let some = identify(vec![("shoe_size", number("43")), (&declared, text("40-49"))]);
    assert!(warnings(&set, some).iter().all(|warning| !warning.contains("not used")));
}

/// The amount of an order, or of another event that spend adds up.
#[test]
fn a_missing_amount_is_reported() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let without = event("c", EventKind::Track, "Order Completed", at(AT), vec![]);
    let [missing] = &warnings(&set, without)[..] else { panic!("one warning") };
    assert!(missing.starts_with("properties.sales_value: is missing"), "{missing}");

    let sums = FeatureSet::parse(FOLDS).unwrap();
    let monetary = sums.rfm().monetary.feature.to_string();
    let found = warnings(&sums, event("c", EventKind::Track, "Buy", at(AT), vec![]));
    assert!(found.iter().any(|warning| warning.contains(&monetary)), "{found:?}");
}
