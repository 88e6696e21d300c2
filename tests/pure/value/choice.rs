//! The choice of the model by a hold-out, the intervals of its forecasts, and the lifetime value.

use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::Timestamp;
use segmentd::domain::value::{
    PurchaseModelKind, ShopOrders, ValueModel, ValueModelGap, fit_value_model, holdout_days,
};
use serde_json::json;

use crate::value::support::{draw_customers, golden, history, model, no_pause};

const NOW: Timestamp = Timestamp::from_millis(0);
const KINDS: [(PurchaseModelKind, [f64; 4]); 3] = [
    (PurchaseModelKind::BgNbd, [0.7, 40.0, 0.5, 2.5]),
    (PurchaseModelKind::MbgNbd, [0.9, 40.0, 0.7, 3.0]),
    (PurchaseModelKind::ParetoNbd, [0.8, 40.0, 0.4, 200.0]),
];

fn drawn(kind: PurchaseModelKind, parameters: [f64; 4], customers: usize) -> ShopOrders {
    let mut rng = RandomStream::new(24, 3);
    draw_customers(&mut rng, &model(kind, parameters), 900, customers)
}

#[test]
fn the_model_that_customers_follow_is_reliable_and_predicts_their_orders_and_spend() {
    for (kind, parameters) in KINDS {
        let fitted = fit_value_model(&drawn(kind, parameters, 8_000), no_pause).unwrap();
        let evaluation = &fitted.evaluation;
        assert_eq!(evaluation.shortcomings, [], "{kind:?}");
        let best = &evaluation.candidates[0];
        let own = evaluation.candidates.iter().find(|one| one.model == kind).unwrap();
        let lost = best.mean_log_likelihood - own.mean_log_likelihood;
        assert!(lost < 1e-3, "{kind:?} is {lost} behind {:?}", best.model);
        let ratio = best.expected_orders / evaluation.actual_orders as f64;
        assert!((ratio - 1.0).abs() < 0.05, "{kind:?}: {ratio} of the orders");
        let spend = evaluation.spend_ratio.unwrap();
        assert!((spend - 1.0).abs() < 0.1, "{kind:?}: {spend} of the spend");
        assert!(best.errors.mean_absolute < evaluation.same_as_before.mean_absolute);
        for row in &evaluation.calibration {
            let error = (row.expected - row.actual).abs();
            assert!(error < 0.35 * row.actual + 0.1, "{kind:?}: {row:?}");
        }
    }
}

/// Prediction intervals made at the beginning of a hold-out contain at least 80 % of what came; of
/// spend, which has no steps, not many more.
#[test]
fn prediction_intervals_contain_what_they_say() {
    for (kind, parameters) in KINDS {
        let orders = drawn(kind, parameters, 12_000);
        let fitted = fit_value_model(&orders, no_pause).unwrap();
        let splits: Vec<_> = orders.customers.iter().filter_map(|one| one.split).collect();
        let (mut orders_within, mut spend_within, mut buyers, mut buyers_within) = (0, 0, 0, 0);
        for split in &splits {
            let value = fitted.forecast(&split.before, NOW);
            let (orders, spend) = (value.orders[1], value.spend.unwrap()[1]);
            assert!(orders.low <= orders.high && spend.low <= spend.high);
            let actual = f64::from(split.days_after);
            orders_within += u32::from(orders.low <= actual && actual <= orders.high);
            let is_within = spend.low <= split.value_after && split.value_after <= spend.high;
            spend_within += u32::from(is_within);
            // Where an order is nearly certain, spend is a number without a jump at 0.
            if orders.low >= 1.0 {
                buyers += 1;
                buyers_within += u32::from(is_within);
            }
        }
        let share = |within: u32, all: usize| f64::from(within) / all as f64;
        let orders = share(orders_within, splits.len());
        assert!(orders >= 0.79, "{kind:?}: {orders} of the orders are within");
        let spend = share(spend_within, splits.len());
        assert!(spend >= 0.79, "{kind:?}: {spend} of the spend is within");
        let buyers_share = share(buyers_within, buyers);
        assert!(
            (0.75..0.87).contains(&buyers_share),
            "{kind:?}: {buyers_share} of {buyers} buyers are within"
        );
    }
}

#[test]
fn a_shop_that_loses_its_customers_at_once_has_no_reliable_value() {
    let (kind, parameters) = KINDS[1];
    let mut orders = drawn(kind, parameters, 3_000);
    for customer in &mut orders.customers {
        let Some(split) = &mut customer.split else { continue };
        (split.days_after, split.value_after) = (0, 0.0);
    }
    let fitted = fit_value_model(&orders, no_pause).unwrap();
    let evaluation = &fitted.evaluation;
    assert!(!evaluation.is_reliable());
    assert!(evaluation.shortcomings[0].contains("orders were expected"), "{evaluation:?}");
    assert_eq!(fitted.spend, None);
}

#[test]
fn too_few_orders_are_refused_with_what_is_needed() {
    let (kind, parameters) = KINDS[0];
    let orders = drawn(kind, parameters, 60);
    let none = ShopOrders { customers: Vec::new(), ..orders.clone() };
    assert_eq!(fit_value_model(&none, no_pause), Err(ValueModelGap::NoOrders));
    let short = ShopOrders { span_days: 100, ..orders.clone() };
    let refused = fit_value_model(&short, no_pause).unwrap_err();
    assert_eq!(refused.to_string(), "the orders span 100 days; 270 are needed");
    assert_eq!([270, 600, 2_000].map(holdout_days), [90, 200, 365]);
    let few = fit_value_model(&orders, no_pause).unwrap_err();
    assert!(matches!(few, ValueModelGap::FewRepeatCustomers { .. }), "{few}");
}

#[test]
fn a_customer_without_a_second_order_is_alive_for_certain_under_bg_nbd_only() {
    for (kind, parameters) in KINDS {
        let alive = model(kind, parameters).posterior(&history(0, 0, 700)).probability_alive();
        assert_eq!(alive == 1.0, kind == PurchaseModelKind::BgNbd, "{kind:?}: {alive}");
    }
}

/// Discounted orders equal the integral, where each order is worth 1.
#[test]
fn the_lifetime_value_equals_the_integral() {
    for case in golden().lifetime {
        let errors = json!({ "mean_absolute": 0.0, "rank_correlation": null });
        let fitted: ValueModel = serde_json::from_value(json!({
            "purchases": case.customer.model(),
            "covariance": null,
            "spend": { "p": 1.0, "q": 2.0, "v": 1.0 },
            "valued_share": 1.0,
            "unit": "orders",
            "customers": 1,
            "evaluation": {
                "holdout_days": 90, "customers": 0, "actual_orders": 0, "candidates": [],
                "same_as_before": errors, "calibration": [], "spend_ratio": null,
                "shortcomings": [],
            },
        }))
        .unwrap();
        let value = fitted.forecast(&case.customer.history(), NOW).lifetime_value.unwrap();
        let error = (value.expected - case.discounted).abs();
        assert!(
            error <= 1e-6 * case.discounted,
            "{:?}: {} is not {}",
            case.customer,
            value.expected,
            case.discounted
        );
    }
}
