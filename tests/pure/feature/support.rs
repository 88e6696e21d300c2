//! Shared by the feature tests: hand-written and committed events, and comparison with
//! reference values.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use flate2::read::GzDecoder;
use segmentd::domain::event::{CustomerEvent, EventKind, Properties, PropertyValue};
use segmentd::domain::feature::{CustomerState, FeatureSet, FeatureValue};
use segmentd::domain::time::Timestamp;

/// Every event has a message id of its own, also in another test.
static NEXT_MESSAGE: AtomicU64 = AtomicU64::new(0);

pub(crate) const RETAIL: &str = include_str!("../../../config/features.retail.toml");
pub(crate) const FOLDS: &str = include_str!("../../data/golden/features_folds.toml");

pub(crate) fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)
}

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

pub(crate) fn event(
    customer: &str,
    kind: EventKind,
    name: &str,
    timestamp: Timestamp,
    properties: Vec<(&str, PropertyValue)>,
) -> CustomerEvent {
    let properties: Properties =
        properties.into_iter().map(|(name, value)| (name.into(), value)).collect();
    CustomerEvent {
        message_id: format!("m{}", NEXT_MESSAGE.fetch_add(1, Relaxed)).parse().unwrap(),
        customer: customer.parse().unwrap(),
        kind,
        name: name.into(),
        timestamp,
        properties,
    }
}

pub(crate) fn text(value: &str) -> PropertyValue {
    PropertyValue::Text(value.into())
}

pub(crate) fn number(value: &str) -> PropertyValue {
    PropertyValue::Number(value.parse().unwrap())
}

/// The rows of a committed CSV, gzipped or not.
pub(crate) fn rows(file: &str) -> (csv::StringRecord, Vec<csv::StringRecord>) {
    let open = File::open(data(file)).unwrap();
    let input: Box<dyn std::io::Read> = if Path::new(file).extension().is_some_and(|e| e == "gz") {
        Box::new(GzDecoder::new(open))
    } else {
        Box::new(open)
    };
    let mut reader = csv::Reader::from_reader(input);
    let header = reader.headers().unwrap().clone();
    (header, reader.records().map(Result::unwrap).collect())
}

/// The events of every household in order of time.
pub(crate) fn journey() -> BTreeMap<String, Vec<CustomerEvent>> {
    let mut households: BTreeMap<String, Vec<CustomerEvent>> = BTreeMap::new();
    let mut push =
        |household: &str, kind, name: &str, time: &str, properties: Vec<(&str, PropertyValue)>| {
            let event = event(household, kind, name, at(time), properties);
            households.entry(household.to_owned()).or_default().push(event);
        };
    let (header, baskets) = rows("../../config/demo/baskets.csv.gz");
    for row in &baskets {
        let properties = header
            .iter()
            .zip(row)
            .skip(4)
            .map(|(name, value)| (name, number(value)))
            .chain([("store_id", text(&row[2]))])
            .collect();
        push(&row[1], EventKind::Track, "Order Completed", &row[3], properties);
    }
    let (_, redemptions) = rows("../../config/demo/coupon_redemptions.csv");
    for row in &redemptions {
        let time = format!("{}T00:00:00Z", &row[3]);
        let properties = vec![("coupon_upc", text(&row[1])), ("campaign_id", text(&row[2]))];
        push(&row[0], EventKind::Track, "Coupon Redeemed", &time, properties);
    }
    let (header, demographics) = rows("../../config/demo/demographics.csv");
    for row in &demographics {
        let traits = header.iter().zip(row).skip(1).filter(|(_, value)| !value.is_empty());
        let traits = traits.map(|(name, value)| (name, text(value))).collect();
        push(&row[0], EventKind::Identify, "", "2017-01-01T00:00:00Z", traits);
    }
    for events in households.values_mut() {
        events.sort_by_key(|event| event.timestamp);
    }
    households
}

pub(crate) fn state_of<'e>(
    set: &FeatureSet,
    events: impl IntoIterator<Item = &'e CustomerEvent>,
) -> CustomerState {
    let mut state = CustomerState::new(set);
    for event in events {
        state.apply(set, event);
    }
    state
}

/// Compares one row with a golden record by column. An empty field is a missing value;
/// numbers agree to a relative 1e-9. Returns the number of compared values.
pub(crate) fn assert_row(
    set: &FeatureSet,
    values: &[FeatureValue],
    header: &csv::StringRecord,
    golden: &csv::StringRecord,
) -> usize {
    for (def, value) in set.features().iter().zip(values) {
        let column = header.iter().position(|name| *name == *def.name).unwrap();
        let expected = &golden[column];
        let equal = match value {
            FeatureValue::Missing => expected.is_empty(),
            FeatureValue::Category(text) => **text == *expected,
            FeatureValue::Number(value) => expected
                .parse::<f64>()
                .is_ok_and(|expected| (value - expected).abs() <= 1e-9 * expected.abs()),
        };
        assert!(equal, "{}: {value:?} is not {expected:?} in {golden:?}", def.name);
    }
    values.len()
}
