//! Two real shops by week: one model is trained, and in each later week all customers of
//! the last year are scored and checked.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use segmentd::domain::drift::{
    DriftCheck, DriftFinding, DriftWindow, WindowLayout, check_window, draw_feature_chart,
};
use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::feature::{CustomerState, FeatureRow, FeatureSet};
use segmentd::domain::model::Model;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};

use crate::drift::chart::{self, Line};
use crate::drift::watch::{Key, Rules, count, key};
use crate::drift::world::ungated;
use crate::feature_support::{RETAIL, at, event, journey, text};
use crate::model_support::train;

pub(super) const SEGMENTS: usize = 5;

pub(super) type Customers = BTreeMap<String, Vec<CustomerEvent>>;

/// A shop, when its model is trained, and when the weeks end.
struct Shop<'s> {
    name: &'s str,
    slug: &'s str,
    trained: Timestamp,
    end: Timestamp,
}

struct Week {
    end: Timestamp,
    window: DriftWindow,
    check: DriftCheck,
}

pub(super) fn run(folder: Option<&Path>) {
    let groceries = Shop {
        name: "Complete Journey: 2,469 households",
        slug: "journey",
        trained: at("2017-07-01T00:00:00Z"),
        end: at("2018-01-01T00:00:00Z"),
    };
    tell(&groceries, &journey());
    let Some(folder) = folder else { return };
    let gifts = Shop {
        name: "Online Retail II: a gift shop",
        slug: "retail",
        trained: at("2010-12-01T00:00:00Z"),
        end: at("2011-12-09T00:00:00Z"),
    };
    tell(&gifts, &invoices(&folder.join("online_retail_ii/transactions.csv.gz")));
}

fn tell(shop: &Shop<'_>, customers: &Customers) {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let mut states = States::new(&set, customers);
    let training = states.rows(shop.trained);
    let model = train(ungated(SEGMENTS), set.features(), &training).unwrap().model;
    let weeks = weeks(shop, &model, &mut states);
    let mut found: BTreeMap<Key, Line> = BTreeMap::new();
    for (place, week) in weeks.iter().enumerate() {
        for finding in &week.check.findings {
            let line = found.entry(key(finding)).or_insert_with(|| Line {
                title: line_title(finding),
                marks: vec![None; weeks.len()],
            });
            line.marks[place] = Some(finding.severity);
        }
    }
    println!(
        "\n{}: trained {} on {} customers; {} weeks, {} to {} customers",
        shop.name,
        day(shop.trained),
        training.len(),
        weeks.len(),
        weeks.iter().map(|week| week.check.scored).min().unwrap_or(0),
        weeks.iter().map(|week| week.check.scored).max().unwrap_or(0),
    );
    println!("| found | weeks | first | last | worst |\n|---|---|---|---|---|");
    let mut lines: Vec<Line> = found.into_values().collect();
    lines.sort_by_key(Line::first);
    for line in &lines {
        let marked = |place: Option<usize>| place.map_or(String::new(), |p| day(weeks[p].end));
        println!(
            "| {} | {} | {} | {} | {} |",
            line.title,
            line.marks.iter().flatten().count(),
            marked(line.first()),
            marked(line.marks.iter().rposition(Option::is_some)),
            line.marks.iter().flatten().max().map_or("", |severity| severity.as_str()),
        );
    }
    let ends: Vec<String> = weeks.iter().map(|week| day(week.end)).collect();
    let reported = format!("trained {}; checked each week", day(shop.trained));
    draw(&format!("drift_{}", shop.slug), &chart::timeline((shop.name, &reported), &ends, &lines));
    draw_worst(shop, &model, &weeks);
}

fn line_title(finding: &DriftFinding) -> String {
    match finding.feature {
        Some(_) => format!("{}: {}", finding.title, finding.about.name()),
        None => format!("The model: {}", finding.about.name()),
    }
}

/// The feature of the model with the largest drift in the last week.
fn draw_worst(shop: &Shop<'_>, model: &Model, weeks: &[Week]) {
    let Some(last) = weeks.last() else { return };
    let figures = |finding: &DriftFinding| {
        last.check.features.iter().find(|one| Some(&one.feature) == finding.feature.as_ref())
    };
    let read = |finding: &&DriftFinding| figures(finding).is_some_and(|figures| figures.is_read);
    let Some(worst) =
        last.check.findings.iter().filter(read).max_by(|a, b| a.size.total_cmp(&b.size))
    else {
        return;
    };
    println!("last week: {}", worst.description());
    let feature = worst.feature.as_deref().unwrap_or_default();
    let drawn = draw_feature_chart(model, &last.window, feature).unwrap().unwrap();
    draw(&format!("drift_{}_{feature}", shop.slug), &drawn.svg);
}

fn draw(name: &str, svg: &str) {
    std::fs::create_dir_all("target/bench").unwrap();
    std::fs::write(format!("target/bench/{name}.svg"), svg).unwrap();
}

fn weeks(shop: &Shop<'_>, model: &Model, states: &mut States<'_>) -> Vec<Week> {
    let (layout, limits) = (WindowLayout::of(model), Rules::default().limits);
    let mut weeks = Vec::new();
    let mut end = shop.trained.plus_millis(7 * MILLIS_PER_DAY);
    while end <= shop.end {
        let window = count(model, &layout, &limits, &states.rows(end));
        let check = check_window(model, &window, &limits).unwrap();
        weeks.push(Week { end, window, check });
        end = end.plus_millis(7 * MILLIS_PER_DAY);
    }
    weeks
}

/// Customers with the events up to some time.
pub(super) struct States<'c> {
    set: &'c FeatureSet,
    customers: Vec<Customer<'c>>,
}

struct Customer<'c> {
    state: CustomerState,
    /// Later events, in order of time.
    ahead: &'c [CustomerEvent],
    last_track: Option<Timestamp>,
}

impl<'c> States<'c> {
    pub(super) fn new(set: &'c FeatureSet, customers: &'c Customers) -> Self {
        let begin = |ahead: &'c Vec<CustomerEvent>| Customer {
            state: CustomerState::new(set),
            ahead,
            last_track: None,
        };
        Self { set, customers: customers.values().map(begin).collect() }
    }

    /// The rows of customers with events in the year before `now`.
    pub(super) fn rows(&mut self, now: Timestamp) -> Vec<FeatureRow> {
        let year_ago = now.plus_millis(-365 * MILLIS_PER_DAY);
        let set = self.set;
        let row = |customer: &mut Customer<'_>| {
            let past = customer.ahead.partition_point(|event| event.timestamp < now);
            let (known, ahead) = customer.ahead.split_at(past);
            customer.ahead = ahead;
            for event in known {
                customer.state.apply(set, event);
                if event.kind == EventKind::Track {
                    customer.last_track = Some(event.timestamp);
                }
            }
            let is_active = customer.last_track.is_some_and(|at| at >= year_ago);
            is_active.then(|| customer.state.feature_row(set, now))
        };
        self.customers.iter_mut().filter_map(row).collect()
    }
}

fn day(at: Timestamp) -> String {
    at.to_string()[..10].into()
}

/// The invoices of each customer as orders, without returns.
pub(super) fn invoices(path: &Path) -> Customers {
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(File::open(path).unwrap()));
    // By customer and invoice: instant, lines, value, country.
    let mut orders: BTreeMap<(String, String), (Timestamp, f64, f64, String)> = BTreeMap::new();
    for row in reader.records() {
        let row = row.unwrap();
        let [quantity, price]: [f64; 2] = [3, 5].map(|column| row[column].parse().unwrap());
        if row[6].is_empty() || quantity <= 0.0 || price <= 0.0 {
            continue;
        }
        let order = orders
            .entry((row[6].into(), row[0].into()))
            .or_insert_with(|| (at(&row[4]), 0.0, 0.0, row[7].into()));
        order.1 += 1.0;
        order.2 += quantity * price;
    }
    let mut customers = Customers::new();
    for ((customer, _), (time, lines, value, country)) in orders {
        let properties = vec![
            ("sales_value", PropertyValue::Number(value)),
            ("lines", PropertyValue::Number(lines)),
            ("retail_disc", PropertyValue::Number(0.0)),
            ("coupon_disc", PropertyValue::Number(0.0)),
            ("store_id", text(&country)),
        ];
        let order = event(&customer, EventKind::Track, "Order Completed", time, properties);
        customers.entry(customer).or_default().push(order);
    }
    for events in customers.values_mut() {
        events.sort_by_key(|event| event.timestamp);
    }
    customers
}
