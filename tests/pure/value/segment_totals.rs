//! Figures of customers added up: expectations, and intervals that contain the total that comes.

use segmentd::domain::segment_value::{SegmentValueTally, SnapshotCustomer};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::Timestamp;
use segmentd::domain::value::{PurchaseModelKind, fit_value_model};

use crate::value::support::{draw_customers, model, no_pause};

/// Days of the hold-out of drawn customers.
const DAYS: f64 = 90.0;
const GROUP: usize = 150;

/// Groups of customers of the model spend and order in the hold-out what their intervals say, in about
/// 95 % of the groups.
#[test]
fn the_interval_of_a_total_contains_what_comes() {
    for (kind, parameters) in [
        (PurchaseModelKind::MbgNbd, [0.9, 40.0, 0.7, 3.0]),
        (PurchaseModelKind::ParetoNbd, [0.8, 40.0, 0.4, 200.0]),
    ] {
        let mut rng = RandomStream::new(24, 5);
        let orders = draw_customers(&mut rng, &model(kind, parameters), 900, 15_000);
        let fitted = fit_value_model(&orders, no_pause).unwrap();
        let splits: Vec<_> = orders.customers.iter().filter_map(|one| one.split).collect();
        let (mut groups, mut orders_within, mut spend_within) = (0, 0, 0);
        for group in splits.chunks_exact(GROUP) {
            let mut tally = SegmentValueTally::new(0);
            for split in group {
                let outlook = Some(fitted.outlook(&split.before, DAYS));
                let segment_id = Some("seg_a");
                tally.add(&SnapshotCustomer { segment_id, outlook, revenue: 1.0 }, &[]);
            }
            let (_, totals) = tally.totals().next().unwrap();
            assert_eq!((totals.customers, totals.with_orders), (GROUP as u64, GROUP as u64));
            assert!((totals.revenue - GROUP as f64).abs() < 1e-9);
            let came: f64 = group.iter().map(|split| f64::from(split.days_after)).sum();
            let spent: f64 = group.iter().map(|split| split.value_after).sum();
            let [interval, of_spend] = [totals.orders.interval(), totals.spend.interval()];
            orders_within += u32::from(interval.low <= came && came <= interval.high);
            spend_within += u32::from(of_spend.low <= spent && spent <= of_spend.high);
            groups += 1;
        }
        for within in [orders_within, spend_within] {
            let share = f64::from(within) / f64::from(groups);
            assert!((0.87..=1.0).contains(&share), "{kind:?}: {share} of {groups} groups");
        }
        // Intervals that are much too wide would contain everything.
        assert!(orders_within + spend_within < 2 * groups, "{kind:?}");
    }
}

/// The figures that are added up are those of the forecast of a customer.
#[test]
fn the_outlook_of_a_customer_is_its_forecast() {
    let mut rng = RandomStream::new(24, 6);
    let parameters = [0.8, 40.0, 0.4, 200.0];
    let orders =
        draw_customers(&mut rng, &model(PurchaseModelKind::ParetoNbd, parameters), 900, 3_000);
    let fitted = fit_value_model(&orders, no_pause).unwrap();
    for customer in orders.customers.iter().take(300) {
        let forecast = fitted.forecast(&customer.history, Timestamp::from_millis(0));
        let outlook = fitted.outlook(&customer.history, DAYS);
        let spend = (outlook.spend.unwrap(), forecast.spend.unwrap()[1]);
        assert!((outlook.churn_probability - forecast.churn_probability).abs() < 1e-12);
        for (found, expected) in [
            (outlook.orders.expected, forecast.orders[1].expected),
            (spend.0.expected, spend.1.expected),
        ] {
            assert!((found - expected).abs() < 1e-9 * (1.0 + expected), "{found} {expected}");
        }
        assert!(outlook.orders.variance >= 0.0 && spend.0.variance >= 0.0);
    }
}
