//! Forecasts equal the published formulas; the distribution of orders agrees with its mean.

use proptest::prelude::*;
use segmentd::domain::feature::PurchaseHistory;
use segmentd::domain::value::PurchaseModelKind;
use segmentd::domain::value::gamma_gamma::GammaGamma;

use crate::value::support::{golden, history, model};

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 1e-8 * expected.abs() + 1e-300,
        "{what}: {found} is not {expected}"
    );
}

#[test]
fn forecasts_equal_the_published_formulas() {
    for point in golden().points {
        let (model, history) = (point.customer.model(), point.customer.history());
        let what = format!("{:?}", point.customer);
        assert_close(model.posterior(&history).probability_alive(), point.alive, &what);
        let orders = model.posterior(&history).expected_orders([30.0, 90.0, 365.0]);
        for (found, expected) in orders.into_iter().zip(point.orders) {
            assert_close(found, expected, &what);
        }
    }
}

#[test]
fn order_values_equal_the_published_formula() {
    for case in golden().spend {
        let spend = GammaGamma { p: case.p, q: case.q, v: case.v };
        let history = PurchaseHistory {
            valued_repeat_days: case.x,
            repeat_value: f64::from(case.x) * case.z,
            ..history(case.x, case.x, 100)
        };
        let found = spend.expected_order_value(&history).unwrap();
        assert_close(found, case.value, &format!("{case:?}"));
    }
}

fn kinds() -> impl Strategy<Value = PurchaseModelKind> {
    prop_oneof![
        Just(PurchaseModelKind::BgNbd),
        Just(PurchaseModelKind::MbgNbd),
        Just(PurchaseModelKind::ParetoNbd)
    ]
}

proptest! {
    /// The probabilities of all numbers of orders sum up to 1, and their mean is the expectation.
    #[test]
    fn the_distribution_of_orders_agrees_with_its_mean(
        kind in kinds(),
        r in 0.2..4.0_f64,
        alpha in 5.0..80.0_f64,
        third in 0.2..4.0_f64,
        fourth in 0.3..8.0_f64,
        x in 0..20_u32,
        gap in 0..200_u32,
    ) {
        let fourth = if kind == PurchaseModelKind::ParetoNbd { fourth * 40.0 } else { fourth };
        let model = model(kind, [r, alpha, third, fourth]);
        let history = history(x, x * 10, x * 10 + gap);
        let days = 60.0;
        let (mut sum, mut mean) = (0.0, 0.0);
        for orders in 0..400 {
            let probability = model.posterior(&history).order_probability(days, orders);
            prop_assert!(probability >= 0.0);
            sum += probability;
            mean += f64::from(orders) * probability;
        }
        let [expected] = model.posterior(&history).expected_orders([days]);
        prop_assert!((sum - 1.0).abs() < 1e-6, "sum {sum}");
        prop_assert!((mean - expected).abs() < 1e-5 * (1.0 + expected), "{mean} is not {expected}");
    }

    /// The next order has come by some day with the probability that there is an order by then.
    #[test]
    fn the_time_of_the_next_order_agrees_with_the_number_of_orders(
        kind in kinds(),
        r in 0.2..4.0_f64,
        alpha in 5.0..80.0_f64,
        third in 0.2..4.0_f64,
        fourth in 0.3..8.0_f64,
        x in 0..20_u32,
        gap in 0..200_u32,
        level in 0.01..0.9_f64,
    ) {
        let fourth = if kind == PurchaseModelKind::ParetoNbd { fourth * 40.0 } else { fourth };
        let model = model(kind, [r, alpha, third, fourth]);
        let history = history(x, x * 10, x * 10 + gap);
        let [days] = model.posterior(&history).next_order_days([level]);
        if let Some(days) = days {
            let reached = 1.0 - model.posterior(&history).order_probability(days, 0);
            prop_assert!((reached - level).abs() < 2e-3, "{reached} is not {level}");
        } else {
            let ever = 1.0 - model.posterior(&history).order_probability(3_650.0, 0);
            prop_assert!(ever < level + 2e-3, "{ever} reaches {level}");
        }
    }

    /// Time without an order never makes a customer more alive, and nothing is negative.
    #[test]
    fn silence_never_raises_a_forecast(
        kind in kinds(),
        x in 0..30_u32,
        last in 0..300_u32,
        gap in 0..800_u32,
    ) {
        let model = model(kind, [0.8, 20.0, 0.7, if kind == PurchaseModelKind::ParetoNbd { 90.0 } else { 2.5 }]);
        let last = if x == 0 { 0 } else { last.max(x) };
        let (now, later) = (history(x, last, last + gap), history(x, last, last + gap + 1));
        prop_assert!(model.posterior(&later).probability_alive() <= model.posterior(&now).probability_alive() + 1e-12);
        let [orders] = model.posterior(&later).expected_orders([365.0]);
        prop_assert!(orders >= 0.0);
        prop_assert!(orders <= model.posterior(&now).expected_orders([365.0])[0] + 1e-9);
    }
}

/// Five years of an order a day: probabilities begin below the smallest number.
#[test]
fn forecasts_of_the_most_frequent_customers_are_numbers() {
    for (kind, fourth) in [
        (PurchaseModelKind::BgNbd, 60.0),
        (PurchaseModelKind::MbgNbd, 60.0),
        (PurchaseModelKind::ParetoNbd, 5_000.0),
    ] {
        let model = model(kind, [0.8, 10.0, 0.7, fourth]);
        let daily = history(1_800, 1_824, 1_825);
        let posterior = model.posterior(&daily);
        let days = 1_095.0;
        let [expected] = posterior.expected_orders([days]);
        let (mut sum, mut mean) = (0.0, 0.0);
        for orders in 0..4_000 {
            let probability = posterior.order_probability(days, orders);
            sum += probability;
            mean += f64::from(orders) * probability;
        }
        assert!((sum - 1.0).abs() < 1e-6, "{kind:?} {days}: {sum}");
        assert!((mean - expected).abs() < 1e-4 * expected, "{kind:?}: {mean} not {expected}");
    }
}

/// Leaving probabilities that are nearly the same for all customers have large parameters. Expected
/// orders are then those of the sum over the number of orders without leaving.
#[test]
fn large_parameters_lose_no_digits() {
    let points = [
        ([0.7, 10.0, 12.0, 40.0], 0, 0, 365.0, 3.65),
        ([0.7, 30.0, 10.0, 30.0], 0, 0, 1_095.0, 3.465),
        ([0.7, 30.0, 20.0, 60.0], 2, 100, 1_095.0, 4.06),
        ([0.7, 30.0, 50.0, 150.0], 3, 200, 365.0, 2.88),
        ([0.7, 30.0, 200.0, 800.0], 3, 200, 365.0, 3.2),
    ];
    for (parameters, x, age, days, expected) in points {
        let history = history(x, age, age);
        let model = model(PurchaseModelKind::MbgNbd, parameters);
        let posterior = model.posterior(&history);
        let alive = posterior.probability_alive();
        let [orders] = posterior.expected_orders([days]);
        let found = orders / alive;
        assert!((found - expected).abs() < 6e-3 * expected, "{parameters:?}: {found}");
        let (mut mean, mut k) = (0.0, 0);
        while k < 3_000 {
            mean += f64::from(k) * posterior.order_probability(days, k);
            k += 1;
        }
        assert!((mean - orders).abs() < 1e-6 * orders, "{parameters:?}: {mean} not {orders}");
    }
}

/// Of customers who leave quickly, hardly any is active for the whole period.
#[test]
fn intervals_agree_with_forecasts_of_customers_who_leave_quickly() {
    for (s, beta, days) in [(5.0, 60.0, 365.0), (10.0, 300.0, 1_095.0), (100.0, 1_000.0, 365.0)] {
        let model = model(PurchaseModelKind::ParetoNbd, [2.0, 10.0, s, beta]);
        let posterior = model.posterior(&history(0, 0, 0));
        let [expected] = posterior.expected_orders([days]);
        let mean: f64 =
            (0..3_000).map(|k| f64::from(k) * posterior.order_probability(days, k)).sum();
        assert!((mean - expected).abs() < 1e-2 * expected, "{s}: {mean} not {expected}");
    }
}
