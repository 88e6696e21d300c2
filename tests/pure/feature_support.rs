//! What the feature tests share: events by hand and from the committed data,
//! and comparison with values computed elsewhere.

use std::fs::File;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use segmentd::domain::event::{Event, EventKind, Properties, Scalar};
use segmentd::domain::feature::{CustomerState, FeatureSet, Value};
use segmentd::domain::time::Timestamp;

pub(crate) const RETAIL: &str = include_str!("../../config/features.retail.toml");
pub(crate) const FOLDS: &str = include_str!("../data/golden/features_folds.toml");

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
    properties: Vec<(&str, Scalar)>,
) -> Event {
    let properties: Properties =
        properties.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Event {
        message_id: "m".parse().unwrap(),
        customer: customer.parse().unwrap(),
        kind,
        name: name.into(),
        timestamp,
        properties,
    }
}

pub(crate) fn text(value: &str) -> Scalar {
    Scalar::Text(value.into())
}

pub(crate) fn number(value: &str) -> Scalar {
    Scalar::Number(value.parse().unwrap())
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

pub(crate) fn state_of<'e>(
    set: &FeatureSet,
    events: impl IntoIterator<Item = &'e Event>,
) -> CustomerState {
    let mut state = CustomerState::new(set);
    for event in events {
        state.apply(set, event);
    }
    state
}

/// Compares one row with a golden record, column by column; an empty field is
/// a missing value, numbers agree to 1e-9 relative. Returns the number compared.
pub(crate) fn assert_row(
    set: &FeatureSet,
    values: &[Value],
    header: &csv::StringRecord,
    golden: &csv::StringRecord,
) -> usize {
    for (def, value) in set.features().iter().zip(values) {
        let column = header.iter().position(|name| *name == *def.name).unwrap();
        let expected = &golden[column];
        let equal = match value {
            Value::Missing => expected.is_empty(),
            Value::Category(text) => **text == *expected,
            Value::Number(value) => expected
                .parse::<f64>()
                .is_ok_and(|expected| (value - expected).abs() <= 1e-9 * expected.abs()),
        };
        assert!(equal, "{}: {value:?} is not {expected:?} in {golden:?}", def.name);
    }
    values.len()
}
