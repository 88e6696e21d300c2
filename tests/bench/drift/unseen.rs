//! The power of the check to see values that training never had: by rows of training, rows of
//! the window, and share of new values.

use rayon::prelude::*;
use segmentd::domain::drift::{CountedRow, DriftLimits, WindowLayout, check_window};
use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::Model;
use segmentd::domain::stats::RandomStream;

use crate::Figure;
use crate::drift::world;
use crate::model_support::{def, normal, number, train};

const TRAINING_ROWS: [usize; 4] = [1000, 10_000, 100_000, 1_000_000];
const WINDOW_ROWS: [usize; 4] = [50, 200, 1000, 10_000];
const SHARES: [f64; 6] = [0.01, 0.02, 0.05, 0.1, 0.5, 1.0];
/// Windows per cell of the table.
const WINDOWS: u64 = 20;
const ALPHA: f64 = 0.01;

/// What is new, and the index of its feature.
const NEW_VALUES: [(&str, usize); 4] = [
    ("a category, beside one", 2),
    ("a category, beside hundreds", 3),
    ("a number, beside a constant", 1),
    ("a number beyond the range", 0),
];

fn features() -> Vec<FeatureDefinition> {
    let plain = || Some(number(NumberTransform::None, NumberScaling::Standard));
    vec![
        def("spend", "Spend", plain()),
        def("errors", "Errors", plain()),
        def("channel", "Channel", Some(FeatureEncoding::OneHot { floor: 0.01, weight: 1.0 })),
        def("city", "City", None),
    ]
}

fn visit(rng: &mut RandomStream) -> FeatureRow {
    let kind = if rng.uniform_unit() < 0.5 { 10.0 } else { 40.0 };
    let city = (400.0_f64.ln() * rng.uniform_unit()).exp().floor();
    FeatureRow(vec![
        FeatureValue::Number(kind + 3.0 * normal(rng)),
        FeatureValue::Number(0.0),
        FeatureValue::Category("web".into()),
        FeatureValue::Category(format!("city {city}").into()),
    ])
}

fn new_value(place: usize) -> FeatureValue {
    match place {
        0 => FeatureValue::Number(400.0),
        1 => FeatureValue::Number(1.0),
        _ => FeatureValue::Category("new".into()),
    }
}

/// Whether the check of one window reports the feature with the new value.
fn is_found(model: &Model, seed: u64, rows: usize, share: f64, place: usize) -> bool {
    let (layout, mut scratch) = (WindowLayout::of(model), model.scratch());
    let (mut window, mut rng) = (layout.empty(), RandomStream::new(seed, 1));
    for _ in 0..rows {
        let mut row = visit(&mut rng);
        if rng.uniform_unit() < share {
            row.0[place] = new_value(place);
        }
        let score = model.score(&row, &mut scratch);
        layout.count_row(&mut window, &CountedRow::new(&row, &score, score.is_outlier(ALPHA)));
    }
    let limits = DriftLimits { minimum_rows: 50, ..DriftLimits::default() };
    let check = check_window(model, &window, &limits).unwrap();
    let name = &model.features()[place].name;
    check.findings.iter().any(|finding| finding.feature.as_ref() == Some(name))
}

pub(super) fn run() -> Figure {
    println!(
        "\n| new value | rows of training | rows of the window |{} |\n|---|---|---|{}|",
        SHARES.map(|share| format!(" {} %", 100.0 * share)).join(" |"),
        SHARES.map(|_| "---").join("|")
    );
    let mut value = f64::NAN;
    for training_rows in TRAINING_ROWS {
        let mut rng = RandomStream::new(7, 0);
        let rows: Vec<FeatureRow> = (0..training_rows).map(|_| visit(&mut rng)).collect();
        let model = train(world::quick(2), &features(), &rows).unwrap().model;
        for (name, place) in NEW_VALUES {
            for window_rows in WINDOW_ROWS {
                let power = SHARES.map(|share| {
                    let is_found = |seed| is_found(&model, seed, window_rows, share, place);
                    let found = (0..WINDOWS).into_par_iter().filter(|seed| is_found(*seed)).count();
                    100.0 * found as f64 / WINDOWS as f64
                });
                println!(
                    "| {name} | {training_rows} | {window_rows} |{} |",
                    power.map(|percent| format!(" {percent:.0} %")).join(" |")
                );
                if (training_rows, window_rows, place) == (1_000_000, 1000, 2) {
                    value = power[2];
                }
            }
        }
    }
    Figure {
        id: super::UNSEEN,
        description: "windows of 1,000 rows with 5 % in a category that 1,000,000 training rows \
                      never had, in which it is found; more is better",
        value,
        unit: "%",
        baseline: "all",
        baseline_value: 100.0,
        ratio: value / 100.0,
        runs: WINDOWS as usize,
    }
}
