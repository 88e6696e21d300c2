//! Sessions of a simulated shop with incidents of known dates: alarms within and outside
//! them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use segmentd::domain::drift::{DriftAlarmRules, DriftLimits, WindowLayout, check_window};
use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::Model;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};

use crate::drift::watch::{Alarms, Key, Rules, count};
use crate::drift::world::quick;
use crate::feature_support::at;
use crate::model_support::{def, number, train};

/// The first and the last day, as documented with the data.
pub(super) const INCIDENTS: [(&str, &str, &str); 3] = [
    ("viral article, organic visitors", "2024-02-29", "2024-03-03"),
    ("checkout bug, mobile", "2024-04-09", "2024-05-09"),
    ("payment incident", "2024-05-19", "2024-06-07"),
];
const TRAINED: &str = "2024-02-29";
pub(super) const END: &str = "2024-06-29";
/// The days of a window. An alarm counts for an incident until the last day of the incident
/// has left the window.
pub(super) const WINDOW_DAYS: i64 = 7;
/// The data begins with 16 sessions a day.
pub(super) const MINIMUM_ROWS: u64 = 50;

/// Pages whose visits are counted, one feature for each.
const PAGES: [&str; 8] = [
    "product_view",
    "add_to_cart",
    "shipping_details",
    "payment_details",
    "purchase",
    "error_page",
    "payment_error",
    "checkout_bug",
];
/// Columns that are categories.
const TRAITS: [(usize, &str); 3] =
    [(4, "platform"), (5, "acquisition_channel"), (7, "user_lifecycle")];

/// The start and the features of each session.
pub(super) type Sessions = [(Timestamp, FeatureRow)];

/// An alarm that began to fire.
struct Fired {
    on: Timestamp,
    key: Key,
}

pub(super) fn run(folder: &Path) {
    let sessions = sessions(&folder.join("ecom_synthetic.csv.gz"));
    let fired = watch(&sessions);
    println!("\n| alarm | fired on | in |\n|---|---|---|");
    let mut hits = [0; INCIDENTS.len()];
    let mut inside = 0;
    for Fired { on, key } in &fired {
        let place = INCIDENTS.iter().position(|(_, first, last)| {
            let last = midnight(last).plus_millis((1 + WINDOW_DAYS) * MILLIS_PER_DAY);
            (midnight(first)..=last).contains(on)
        });
        let name = place.map_or("none", |place| INCIDENTS[place].0);
        println!(
            "| {} {} | {} | {name} |",
            key.1.as_deref().unwrap_or("the model"),
            key.0,
            &on.to_string()[..10]
        );
        if let Some(place) = place {
            hits[place] += 1;
            inside += 1;
        }
    }
    let met = hits.iter().filter(|hits| **hits > 0).count();
    println!(
        "{} alarms, {inside} of them within {WINDOW_DAYS} days of an incident: precision {:.2}; \
         {met} of {} incidents met: recall {:.2}",
        fired.len(),
        f64::from(inside) / fired.len() as f64,
        INCIDENTS.len(),
        met as f64 / INCIDENTS.len() as f64
    );
}

/// Every day the sessions of the last seven are checked.
fn watch(sessions: &Sessions) -> Vec<Fired> {
    let (model, trained) = trained_model(sessions);
    let end = midnight(END);
    let rules = Rules::default();
    let limits = DriftLimits { minimum_rows: MINIMUM_ROWS, ..rules.limits };
    // With one check a day, few of them have to agree.
    let alarm = DriftAlarmRules { findings: 2, checks: 3, ..rules.alarm };
    let layout = WindowLayout::of(&model);
    let mut alarms = Alarms::default();
    let (mut fired, mut now) = (Vec::new(), trained);
    while now < end {
        now = now.plus_millis(MILLIS_PER_DAY);
        let from = now.plus_millis(-WINDOW_DAYS * MILLIS_PER_DAY).max(trained);
        let window = count(&model, &layout, &limits, &rows_between(sessions, from, now));
        let check = check_window(&model, &window, &limits).unwrap();
        let begun = alarms.check(&check, now, &alarm);
        fired.extend(begun.into_iter().map(|key| Fired { on: now, key }));
    }
    fired
}

/// The model of the first weeks, and the end of these weeks.
pub(super) fn trained_model(sessions: &Sessions) -> (Model, Timestamp) {
    let trained = midnight(TRAINED);
    let training = rows_between(sessions, midnight("2024-01-01"), trained);
    println!("\nsessions: trained {TRAINED} on {}", training.len());
    (train(quick(3), &features(), &training).unwrap().model, trained)
}

pub(super) fn rows_between(sessions: &Sessions, from: Timestamp, to: Timestamp) -> Vec<FeatureRow> {
    let within = sessions.iter().filter(|(at, _)| (from..to).contains(at));
    within.map(|(_, row)| row.clone()).collect()
}

fn features() -> Vec<FeatureDefinition> {
    let counted = number(NumberTransform::Log1p, NumberScaling::Standard);
    let category = FeatureEncoding::OneHot { floor: 0.02, weight: 1.0 };
    let traits = TRAITS.iter().map(|(_, name)| def(name, name, Some(category)));
    let pages = PAGES.iter().map(|name| def(name, name, Some(counted)));
    let length = [def("events", "Events", Some(counted))];
    traits.chain(pages).chain(length).collect()
}

/// By the time of their first event.
pub(super) fn sessions(path: &Path) -> Vec<(Timestamp, FeatureRow)> {
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(File::open(path).unwrap()));
    let mut sessions: BTreeMap<String, Vec<csv::StringRecord>> = BTreeMap::new();
    for row in reader.records().map(Result::unwrap) {
        sessions.entry(row[1].into()).or_default().push(row);
    }
    let session = |rows: Vec<csv::StringRecord>| {
        let visits = |page: &str| rows.iter().filter(|row| row[2] == *page).count() as f64;
        let traits =
            TRAITS.iter().map(|(column, _)| FeatureValue::Category(rows[0][*column].into()));
        let pages = PAGES.iter().map(|page| FeatureValue::Number(visits(page)));
        let length = [FeatureValue::Number(rows.len() as f64)];
        let started = rows.iter().map(|row| at(&format!("{}Z", row[3].replace(' ', "T")))).min();
        (started.unwrap(), FeatureRow(traits.chain(pages).chain(length).collect()))
    };
    sessions.into_values().map(session).collect()
}

pub(super) fn midnight(day: &str) -> Timestamp {
    at(&format!("{day}T00:00:00Z"))
}
