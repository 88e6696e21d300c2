//! Alert stories: real streams with known incidents, and the messages that owners receive.
//!
//! Four streams are replayed: two shops by day, sessions of a shop with planted incidents, and an
//! electricity market of which a neighbour joins. The table of each story compares the alarms,
//! which would each be an alert, with the alerts that group them.

mod replay;

use std::fs::File;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use segmentd::domain::drift::{
    DriftCheck, DriftLimits, FeatureInputs, ScoreSource, WindowLayout, check_window,
};
use segmentd::domain::feature::{
    FeatureDefinition, FeatureRow, FeatureSet, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::Model;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};

use crate::drift::incidents;
use crate::drift::watch::{Rules, count};
use crate::drift::weeks::{Customers, SEGMENTS, States, invoices};
use crate::drift::world::ungated;
use crate::feature_support::{RETAIL, at, journey};
use crate::model_support::{def, number, train};

use replay::{Incident, Replay};

/// Half-hours of the electricity market at training, and in a window of a week.
const MARKET_TRAINING: usize = 48 * 90;
const MARKET_WINDOW: usize = 48 * 7;
/// The row in which the neighbouring market joins.
const MARKET_BREAK: i64 = 17_424;

pub(super) fn run(folder: &Path) {
    let year = ("2017-07-01T00:00:00Z", "2018-01-01T00:00:00Z");
    shop("Complete Journey: 2,469 households", &journey(), year);
    let gifts = invoices(&folder.join("online_retail_ii/transactions.csv.gz"));
    shop("Online Retail II: a gift shop", &gifts, ("2010-12-01T00:00:00Z", "2011-12-09T00:00:00Z"));
    sessions(&folder.join("clickstream_retentioneering/ecom_synthetic.csv.gz"));
    market(&folder.join("elec2/elec.csv.gz"));
}

/// Each day all customers of the last year are checked.
fn shop(name: &'static str, customers: &Customers, (trained, end): (&str, &str)) {
    let (trained, end) = (at(trained), at(end));
    let set = FeatureSet::parse(RETAIL).unwrap();
    let mut states = States::new(&set, customers);
    let model = train(ungated(SEGMENTS), set.features(), &states.rows(trained)).unwrap().model;
    let limits = Rules::default().limits;
    let days = (1..).map(|day| trained.plus_millis(day * MILLIS_PER_DAY));
    let checks = days
        .take_while(|now| *now <= end)
        .map(|now| (now, checked(&model, &limits, &states.rows(now))));
    let replay = Replay {
        name,
        source: ScoreSource::Customers,
        window_days: 1,
        inputs: set.inputs(),
        incidents: Vec::new(),
    };
    replay.run(checks);
}

/// Each day the sessions of the last seven are checked.
fn sessions(path: &Path) {
    let sessions = incidents::sessions(path);
    let (model, trained) = incidents::trained_model(&sessions);
    let limits = DriftLimits { minimum_rows: incidents::MINIMUM_ROWS, ..Rules::default().limits };
    let incidents = incidents::INCIDENTS.map(|(name, first, last)| Incident {
        name,
        first: incidents::midnight(first),
        last: incidents::midnight(last),
    });
    let days = (1..).map(|day| trained.plus_millis(day * MILLIS_PER_DAY));
    let checks = days.take_while(|now| *now <= incidents::midnight(incidents::END)).map(|now| {
        let from = now.plus_millis(-incidents::WINDOW_DAYS * MILLIS_PER_DAY).max(trained);
        (now, checked(&model, &limits, &incidents::rows_between(&sessions, from, now)))
    });
    let replay = Replay {
        name: "Clickstream with planted incidents",
        source: ScoreSource::Rows,
        window_days: incidents::WINDOW_DAYS,
        // Each page is an event of its own.
        inputs: own_inputs(&model),
        incidents: incidents.into(),
    };
    replay.run(checks);
}

/// Each day the half-hours of the last week are checked.
fn market(path: &Path) {
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(File::open(path).unwrap()));
    let numbers = |row: csv::StringRecord| {
        let value = |column: usize| FeatureValue::Number(row[column].parse().unwrap());
        FeatureRow((1..6).map(value).collect())
    };
    let rows: Vec<FeatureRow> = reader.records().map(|row| numbers(row.unwrap())).collect();
    let model = train(ungated(3), &market_features(), &rows[..MARKET_TRAINING]).unwrap().model;
    let start = at("1996-05-07T00:00:00Z");
    let limits = Rules::default().limits;
    let ends = (MARKET_TRAINING + MARKET_WINDOW..=rows.len()).step_by(48);
    let checks = ends.map(|end| {
        let now = half_hour(start, i64::try_from(end).unwrap());
        (now, checked(&model, &limits, &rows[end - MARKET_WINDOW..end]))
    });
    let begun = half_hour(start, MARKET_BREAK);
    let incident = Incident {
        name: "the neighbour joins",
        first: begun,
        last: begun.plus_millis(7 * MILLIS_PER_DAY),
    };
    let replay = Replay {
        name: "Elec2: an electricity market",
        source: ScoreSource::Rows,
        window_days: 7,
        inputs: FeatureInputs::new(),
        incidents: vec![incident],
    };
    replay.run(checks);
}

fn market_features() -> Vec<FeatureDefinition> {
    let encoding = number(NumberTransform::None, NumberScaling::Standard);
    let feature = |(name, title, owner): (&str, &str, &str)| FeatureDefinition {
        owner: owner.into(),
        ..def(name, title, Some(encoding))
    };
    [
        ("nswprice", "Price in New South Wales", "sydney@example.com"),
        ("nswdemand", "Demand in New South Wales", "sydney@example.com"),
        ("vicprice", "Price in Victoria", "melbourne@example.com"),
        ("vicdemand", "Demand in Victoria", "melbourne@example.com"),
        ("transfer", "Transfer between the markets", "melbourne@example.com"),
    ]
    .map(feature)
    .into()
}

fn half_hour(start: Timestamp, row: i64) -> Timestamp {
    start.plus_millis(row * MILLIS_PER_DAY / 48)
}

/// Every feature is an input of its own.
fn own_inputs(model: &Model) -> FeatureInputs {
    model.features().iter().map(|one| (one.name.clone(), one.name.clone())).collect()
}

fn checked(model: &Model, limits: &DriftLimits, rows: &[FeatureRow]) -> DriftCheck {
    let window = count(model, &WindowLayout::of(model), limits, rows);
    check_window(model, &window, limits).unwrap()
}
