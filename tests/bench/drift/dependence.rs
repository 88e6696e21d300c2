//! False alarms on dependent rows: series with memory, hours of shared weather, a weekly season,
//! and customers with many events.
//!
//! Nothing drifts: the training rows are of the same process. Every day is checked at its end.

use rayon::prelude::*;
use segmentd::domain::drift::{
    CountedRow, CustomerBucket, DEPENDENCE_HOURS, DriftCheck, DriftLimits, DriftWindow,
    WindowLayout, check_window,
};
use segmentd::domain::feature::{FeatureRow, FeatureValue, NumberScaling, NumberTransform};
use segmentd::domain::id::CustomerKey;
use segmentd::domain::model::Model;
use segmentd::domain::stats::RandomStream;

use crate::Figure;
use crate::drift::watch::{HOURS, check_day, estimate_dependence};
use crate::drift::world::quick;
use crate::model_support::{def, normal, number, train};

const FEATURES: usize = 6;
const TRAINING_ROWS: usize = 5000;
const ROWS_PER_HOUR: usize = 100;
/// The number of models, each of its own rows, and the days that each checks.
const MODELS: u64 = 100;
const DAYS: usize = 7;
/// Days that are counted before the first check.
const HISTORY_DAYS: usize = 21;
const EVENTS_PER_CUSTOMER: usize = 20;
/// Rows between two checked days, so that these are independent of one another.
const GAP_ROWS: usize = 500;

/// How the rows of a world depend on one another.
#[derive(Clone, Copy)]
enum Dependence {
    None,
    /// Each value is `memory` times the one of the row before, and noise.
    Rows {
        memory: f64,
    },
    /// Rows of one hour share a part of `share` of the variance, with `memory` from hour to hour.
    Hours {
        share: f64,
        memory: f64,
    },
    /// The mean differs by the day of the week, by `swing` standard deviations at most.
    Week {
        swing: f64,
    },
    /// Each customer has the same values in all events of the day.
    Customers,
}

const WORLDS: [(&str, Dependence); 7] = [
    ("independent rows", Dependence::None),
    ("AR(1) from row to row, 0.5", Dependence::Rows { memory: 0.5 }),
    ("AR(1) from row to row, 0.9", Dependence::Rows { memory: 0.9 }),
    ("hours share 5 % of the variance", Dependence::Hours { share: 0.05, memory: 0.0 }),
    ("the same, AR(1) from hour to hour, 0.5", Dependence::Hours { share: 0.05, memory: 0.5 }),
    ("20 events a customer", Dependence::Customers),
    ("weekly season, 0.25 standard deviations", Dependence::Week { swing: 0.25 }),
];

/// One series of rows.
struct World {
    dependence: Dependence,
    rng: RandomStream,
    state: [f64; FEATURES],
    hour: usize,
}

/// Days with a finding: with all rows taken to be independent, and as the service checks.
#[derive(Default, Clone, Copy)]
struct Found {
    independent: usize,
    dependent: usize,
    /// Sum of the design effects of the features' values.
    effects: f64,
}

impl World {
    fn new(dependence: Dependence, seed: u64) -> Self {
        let mut rng = RandomStream::new(seed, 3);
        let state = std::array::from_fn(|_| normal(&mut rng));
        Self { dependence, rng, state, hour: 0 }
    }

    /// The rows of the next hour, each with the number of its customer.
    fn hour(&mut self, rows: usize) -> Vec<(usize, FeatureRow)> {
        self.hour += 1;
        if let Dependence::Hours { memory, .. } = self.dependence {
            for shared in &mut self.state {
                *shared = memory * *shared + (1.0 - memory * memory).sqrt() * normal(&mut self.rng);
            }
        }
        (0..rows).map(|number| (number, self.row())).collect()
    }

    fn row(&mut self) -> FeatureRow {
        let day = (self.hour / HOURS) as f64;
        let mut values = Vec::with_capacity(FEATURES);
        for shared in &mut self.state {
            let noise = normal(&mut self.rng);
            values.push(FeatureValue::Number(match self.dependence {
                Dependence::None | Dependence::Customers => noise,
                Dependence::Rows { memory } => {
                    *shared = memory * *shared + (1.0 - memory * memory).sqrt() * noise;
                    *shared
                }
                Dependence::Hours { share, .. } => {
                    share.sqrt() * *shared + (1.0 - share).sqrt() * noise
                }
                Dependence::Week { swing } => {
                    swing * (std::f64::consts::TAU * day / 7.0).sin() + noise
                }
            }));
        }
        FeatureRow(values)
    }

    /// Rows for training: consecutive ones, of whole weeks where weeks matter.
    fn training(&mut self) -> Vec<FeatureRow> {
        let hours = 28 * HOURS;
        match self.dependence {
            Dependence::None | Dependence::Customers => {
                (0..TRAINING_ROWS).map(|_| self.row()).collect()
            }
            Dependence::Rows { .. } => (0..TRAINING_ROWS).map(|_| self.row()).collect(),
            Dependence::Hours { .. } | Dependence::Week { .. } => {
                let each = TRAINING_ROWS.div_ceil(hours);
                (0..hours).flat_map(|_| self.hour(each)).map(|(_, row)| row).collect()
            }
        }
    }

    /// The windows of the hours of one day: with the customers, and without.
    fn day(&mut self, model: &Model, layout: &WindowLayout, day: usize) -> Vec<[DriftWindow; 2]> {
        let rows = HOURS * ROWS_PER_HOUR;
        let rows: Vec<(usize, FeatureRow)> = match self.dependence {
            Dependence::Customers => {
                let customers: Vec<FeatureRow> =
                    (0..rows / EVENTS_PER_CUSTOMER).map(|_| self.row()).collect();
                let events = (0..rows).map(|number| number / EVENTS_PER_CUSTOMER);
                let mut events: Vec<_> =
                    events.map(|customer| (customer, customers[customer].clone())).collect();
                self.rng.shuffle(&mut events);
                events
            }
            _ => (0..HOURS).flat_map(|_| self.hour(ROWS_PER_HOUR)).collect(),
        };
        let has_customers = matches!(self.dependence, Dependence::Customers);
        let mut scratch = model.scratch();
        let mut windows = Vec::with_capacity(HOURS);
        for hour in rows.chunks(ROWS_PER_HOUR) {
            let [mut window, mut anonymous] = [layout.empty(), layout.empty()];
            for (customer, row) in hour {
                let score = model.score(row, &mut scratch);
                let key = || format!("day {day} customer {customer}").parse::<CustomerKey>();
                let customer = has_customers.then(|| CustomerBucket::of(&key().unwrap()));
                let is_outlier = score.is_outlier(DriftLimits::default().alpha);
                let counted = CountedRow::new(row, &score, is_outlier);
                layout.count_row(&mut anonymous, &counted);
                layout.count_row(&mut window, &CountedRow { customer, ..counted });
            }
            windows.push([window, anonymous]);
        }
        if let Dependence::Rows { .. } = self.dependence {
            (0..GAP_ROWS).for_each(|_| drop(self.row()));
        }
        windows
    }
}

impl Found {
    fn of(dependence: Dependence, seed: u64) -> Self {
        let plain = number(NumberTransform::None, NumberScaling::Standard);
        let features: Vec<_> = (0..FEATURES)
            .map(|place| def(&format!("f{place}"), &format!("Feature {place}"), Some(plain)))
            .collect();
        let mut world = World::new(dependence, seed);
        let model = train(quick(3), &features, &world.training()).unwrap().model;
        let (layout, limits) = (WindowLayout::of(&model), DriftLimits::default());
        let (mut found, mut hours) = (Self::default(), Vec::new());
        for day in 0..HISTORY_DAYS + DAYS {
            hours.extend(world.day(&model, &layout, day));
            if day < HISTORY_DAYS {
                continue;
            }
            let mut sum = layout.empty();
            for [_, anonymous] in hours.iter().rev().take(HOURS) {
                sum.merge(anonymous).unwrap();
            }
            let independent = check_window(&model, &sum, &limits).unwrap();
            let known = &hours[hours.len().saturating_sub(DEPENDENCE_HOURS as usize)..];
            let known = known.iter().map(|[window, _]| window);
            let dependence = estimate_dependence(&layout, known.clone());
            let last_day = known.rev().take(HOURS);
            let dependent = check_day(&model, &layout, last_day, &dependence, &limits);
            found.independent += usize::from(!independent.findings.is_empty());
            found.dependent += usize::from(!dependent.findings.is_empty());
            found.effects += mean_effect(&dependent);
        }
        found
    }

    fn and(self, other: Self) -> Self {
        Self {
            independent: self.independent + other.independent,
            dependent: self.dependent + other.dependent,
            effects: self.effects + other.effects,
        }
    }
}

fn mean_effect(check: &DriftCheck) -> f64 {
    let effects = check.features.iter().map(|figures| figures.dependence.values.now);
    effects.sum::<f64>() / check.features.len() as f64
}

pub(super) fn run() -> Figure {
    println!(
        "\n| rows | days | mean design effect | days with a finding, rows taken to be independent \
         | days with a finding |\n|---|---|---|---|---|"
    );
    let days = MODELS as usize * DAYS;
    let percent = |found: usize| 100.0 * found as f64 / days as f64;
    let mut worst = 0.0_f64;
    for (name, dependence) in WORLDS {
        let found = (0..MODELS)
            .into_par_iter()
            .map(|seed| Found::of(dependence, seed))
            .reduce(Found::default, Found::and);
        println!(
            "| {name} | {days} | {:.1} | {:.1} % | {:.1} % |",
            found.effects / days as f64,
            percent(found.independent),
            percent(found.dependent)
        );
        // A day of the week differs from all days: that is a true difference.
        if !matches!(dependence, Dependence::Week { .. }) {
            worst = worst.max(percent(found.dependent));
        }
    }
    let level = 100.0 * DriftLimits::default().significance_level;
    Figure {
        id: super::DEPENDENCE,
        description: "days with a finding although nothing drifts, in the worst of the worlds \
                      with dependent rows; less is better",
        value: worst,
        unit: "%",
        baseline: "the level",
        baseline_value: level,
        ratio: worst / level,
        runs: days,
    }
}
