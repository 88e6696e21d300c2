//! The parts of a change of value add up to it, whoever moved.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segmentd::domain::segment_value::{
    ChangeWords, PastCustomer, SegmentValueTally, SnapshotCustomer, ValueFlow, describe_change,
    explain_change,
};
use segmentd::domain::value::{CustomerOutlook, PredictedSum};

const SEGMENTS: [&str; 3] = ["seg_a", "seg_b", "seg_c"];

/// A customer at two snapshots; a place of 3 is no segment.
#[derive(Debug, Clone, Copy)]
struct Moved {
    from: usize,
    to: usize,
    before: f64,
    now: f64,
}

fn customers() -> impl Strategy<Value = Vec<Moved>> {
    let customer = (0..4_usize, 0..4_usize, 0.0..500.0_f64, 0.0..500.0_f64);
    let customer = customer.prop_map(|(from, to, before, now)| Moved { from, to, before, now });
    proptest::collection::vec(customer, 0..200)
}

fn tally(customers: &[Moved]) -> SegmentValueTally {
    let mut tally = SegmentValueTally::new(1);
    for Moved { from, to, before, now } in customers {
        let spend = Some(PredictedSum { expected: *now, variance: 1.0 });
        let orders = PredictedSum { expected: 1.0, variance: 1.0 };
        let outlook = Some(CustomerOutlook { churn_probability: 0.5, orders, spend });
        let segment_id = SEGMENTS.get(*to).copied();
        let past = PastCustomer { segment_id: SEGMENTS.get(*from).copied(), spend: *before };
        tally.add(&SnapshotCustomer { segment_id, outlook, revenue: 2.0 }, &[past]);
    }
    tally
}

fn spend_of(customers: &[Moved], is_own: impl Fn(&Moved) -> bool) -> f64 {
    customers.iter().filter(|one| is_own(one)).map(|one| one.now).sum()
}

proptest! {
    /// Sum law: with any stored value before, the parts add up to the change. A published part is that of
    /// at least five customers.
    #[test]
    fn the_parts_add_up_to_the_change(
        customers in customers(),
        stored in 0.0..20_000.0_f64,
    ) {
        let flows = tally(&customers).flows_since(0);
        for (place, segment) in SEGMENTS.iter().enumerate() {
            let Some(change) = explain_change(segment, stored, &flows) else {
                let stayed = customers.iter().filter(|one| one.from == place && one.to == place);
                let was = customers.iter().filter(|one| one.from == place);
                let is = customers.iter().filter(|one| one.to == place);
                // Small flows of fewer than five customers count with those who stayed.
                let few = [stayed.count(), was.count(), is.count()].into_iter().any(|n| n < 5);
                prop_assert!(few, "a change of many customers is explained");
                continue;
            };
            let now = spend_of(&customers, |one| one.to == place);
            prop_assert!((change.now - now).abs() < 1e-6);
            let off = change.sum_of_parts() - (change.now - stored);
            prop_assert!(off.abs() < 1e-6, "the parts are off by {off}");
            for part in change.entered.iter().chain(&change.left) {
                prop_assert!(part.customers >= 5);
            }
            prop_assert!(change.small_flows.amount == 0.0 || change.small_flows.customers >= 5);
            let stayed = customers.iter().filter(|one| one.from == place && one.to == place);
            prop_assert_eq!(change.stayed.customers, stayed.count() as u64);
        }
    }

    /// Antisymmetry: those who leave one segment for another are those who come to it from the first, with
    /// the same forecasts.
    #[test]
    fn what_leaves_one_segment_comes_to_another(customers in customers()) {
        let flows = tally(&customers).flows_since(0);
        let explained: Vec<_> =
            SEGMENTS.iter().map(|segment| explain_change(segment, 0.0, &flows)).collect();
        for (from, left) in SEGMENTS.iter().zip(&explained) {
            for (to, entered) in SEGMENTS.iter().zip(&explained) {
                let (Some(left), Some(entered)) = (left, entered) else { continue };
                let left = left.left.iter().find(|part| part.segment_id.as_deref() == Some(*to));
                let entered = entered.entered.iter().find(|part| part.segment_id.as_deref() == Some(*from));
                let figures = |part: &segmentd::domain::segment_value::FlowPart| {
                    (part.customers, part.spend_before, part.spend_now)
                };
                prop_assert_eq!(left.map(figures), entered.map(figures));
                prop_assert_eq!(left.map(|part| -part.amount), entered.map(|part| part.spend_before));
            }
        }
    }

    /// Pages that are tallied apart give the sums of one tally.
    #[test]
    fn merged_tallies_are_one_tally(customers in customers(), at in 0..200_usize) {
        let whole = tally(&customers);
        let (first, second) = customers.split_at(at.min(customers.len()));
        let mut merged = tally(first);
        merged.merge(&tally(second));
        let by_place = |flows: Vec<ValueFlow>| {
            let keyed = flows.into_iter().map(|flow| ((flow.from, flow.to), (flow.customers, flow.spend_before, flow.spend_now)));
            keyed.collect::<BTreeMap<_, _>>()
        };
        let [found, expected] = [merged.flows_since(0), whole.flows_since(0)].map(by_place);
        prop_assert_eq!(found.len(), expected.len());
        for (place, (customers, before, now)) in &expected {
            let sums = found[place];
            prop_assert_eq!(sums.0, *customers);
            prop_assert!((sums.1 - before).abs() < 1e-6 && (sums.2 - now).abs() < 1e-6);
        }
        let totals: BTreeMap<&str, _> = merged.totals().collect();
        for (segment, expected) in whole.totals() {
            prop_assert_eq!(totals[segment].customers, expected.customers);
            prop_assert!((totals[segment].spend.expected - expected.spend.expected).abs() < 1e-6);
            prop_assert!((totals[segment].revenue - expected.revenue).abs() < 1e-6);
        }
    }
}

fn flow(from: Option<&str>, to: Option<&str>, customers: u64, sums: [f64; 2]) -> ValueFlow {
    let [spend_before, spend_now] = sums;
    let (from, to) = (from.map(Into::into), to.map(Into::into));
    ValueFlow { from, to, customers, spend_before, spend_now }
}

fn words(names: &BTreeMap<Box<str>, Box<str>>, days: i64) -> ChangeWords<'_> {
    ChangeWords { segment_name: "Loyal families", unit: "USD", days, names }
}

#[test]
fn a_change_is_one_sentence_of_its_parts() {
    let names =
        BTreeMap::from([("seg_b".into(), "Fading".into()), ("seg_c".into(), "Regulars".into())]);
    let flows = [
        flow(Some("seg_a"), Some("seg_a"), 1_020, [39_700.0, 39_300.0]),
        flow(Some("seg_a"), Some("seg_b"), 210, [3_100.0, 900.0]),
        flow(Some("seg_a"), None, 2, [300.0, 0.0]),
        flow(Some("seg_b"), Some("seg_b"), 700, [5_000.0, 4_000.0]),
        flow(Some("seg_c"), Some("seg_a"), 58, [500.0, 900.0]),
        flow(None, Some("seg_a"), 31, [0.0, 1_000.0]),
        flow(Some("seg_d"), Some("seg_a"), 4, [10.0, 80.0]),
    ];
    let change = explain_change("seg_a", 43_000.0, &flows).unwrap();
    assert_eq!((change.small_flows.flows, change.small_flows.customers), (2, 6));
    assert!((change.recalculated - 100.0).abs() < 1e-9);
    assert_eq!(
        describe_change(&change, &words(&names, 28)),
        "Loyal families: predicted 90-day spend 41,300 USD, 4.0 % less than 28 days before: \
         −3,100 by 210 customers who left for Fading, +900 by 58 customers who entered from Regulars, \
         +1,000 by 31 customers who entered from no segment of a model, \
         −220 by 6 customers in flows of fewer than 5 customers, \
         −400 by 1,020 customers who stayed and are worth less, \
         +100 by a recalculation of the earlier forecasts."
    );

    // A single small flow would show the value of its two customers.
    let change = explain_change("seg_a", 43_100.0, &flows[..6]).unwrap();
    assert_eq!((change.small_flows.customers, change.small_flows.amount), (2, 0.0));
    assert!((change.stayed.amount - -700.0).abs() < 1e-9, "{:?}", change.stayed);
    assert!((change.sum_of_parts() - (change.now - 43_100.0)).abs() < 1e-9);
    let sentence = describe_change(&change, &words(&names, 28));
    let shown = "−700 by 1,022 customers who stayed or moved in flows of fewer than 5 customers";
    assert!(sentence.contains(shown), "{sentence}");

    let same = [flow(Some("seg_a"), Some("seg_a"), 20, [100.0, 100.0])];
    let change = explain_change("seg_a", 100.0, &same).unwrap();
    assert_eq!(
        describe_change(&change, &words(&names, 1)),
        "Loyal families: predicted 90-day spend 100 USD, as much as the day before."
    );
    let born = [flow(Some("seg_b"), Some("seg_a"), 20, [100.0, 120.0])];
    let change = explain_change("seg_a", 0.0, &born).unwrap();
    assert_eq!(
        describe_change(&change, &words(&names, 7)),
        "Loyal families: predicted 90-day spend 120 USD, none 7 days before: \
         +120 by 20 customers who entered from Fading."
    );
}

#[test]
fn a_change_of_few_customers_is_not_explained() {
    let four = [flow(Some("seg_a"), Some("seg_a"), 4, [400.0, 300.0])];
    assert_eq!(explain_change("seg_a", 400.0, &four), None);
    // The amount of those who stayed follows from the others.
    let flows = [
        flow(Some("seg_a"), Some("seg_b"), 90, [900.0, 800.0]),
        flow(Some("seg_b"), Some("seg_a"), 90, [900.0, 800.0]),
        flow(Some("seg_a"), Some("seg_a"), 1, [50.0, 60.0]),
    ];
    assert_eq!(explain_change("seg_a", 950.0, &flows), None);
    assert!(explain_change("seg_a", 900.0, &flows[..2]).is_some());
}
