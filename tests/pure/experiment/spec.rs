//! Definitions in the service: who takes part, and which exposures count.

use proptest::prelude::*;
use segmentd::domain::event::{CustomerEvent, EventKind, Properties, PropertyValue};
use segmentd::domain::experiment::spec::running::TargetAudience;
use segmentd::domain::experiment::spec::{
    CustomerContext, ExperimentPeriod, ExperimentSet, ExperimentSpec, ExperimentTarget,
    ExposureReport, MetricKind, MetricSource, OutcomeMetric, Participation, ParticipationRole,
    SeenVariation, StartedExperiment, Variation,
};
use segmentd::domain::experiment::{HashVersion, Holdout};
use segmentd::domain::time::Timestamp;

fn spec() -> ExperimentSpec {
    let variation = |key: &str, weight| Variation { key: key.into(), weight };
    ExperimentSpec {
        variations: vec![variation("control", 0.5), variation("a", 0.3), variation("b", 0.2)],
        coverage: 0.8,
        hash_seed: None,
        hash_version: HashVersion::V2,
        namespace: None,
        holdout: Some(Holdout { hash_seed: "holdout".into(), share: 0.1 }),
        target: ExperimentTarget { audience: None, segments: vec!["seg_1".into()] },
        metrics: vec![OutcomeMetric {
            name: "orders".into(),
            kind: MetricKind::Proportion,
            source: MetricSource { event: "Order Completed".into(), property: None },
            denominator: None,
            minus: None,
            cap_quantile: None,
        }],
        outcome_days: 14,
        pre_exposure_days: 30,
        planned_customers: None,
    }
}

fn set(spec: &ExperimentSpec) -> ExperimentSet {
    let period = ExperimentPeriod { started_at: Timestamp::from_millis(5), stopped_at: None };
    let audience = TargetAudience::Audience(3);
    let started = StartedExperiment::new(7, "test", spec, audience, period).expect("sound");
    ExperimentSet { version: 1, started: vec![started] }
}

#[test]
fn only_exposures_of_the_running_time_count() {
    let at = Timestamp::from_millis;
    for (stopped_at, right) in [(None, [false, true, true]), (Some(at(7)), [false, true, false])] {
        let period = ExperimentPeriod { started_at: at(5), stopped_at };
        let audience = TargetAudience::All;
        let experiment = StartedExperiment::new(7, "test", &spec(), audience, period).unwrap();
        assert_eq!([4, 7, 8].map(|millis| experiment.ran_at(at(millis))), right);
        let started = ExperimentSet { version: 1, started: vec![experiment] };
        assert!(started.find("test").is_some());
        assert_eq!(started.running_ids().is_empty(), stopped_at.is_some());
    }
}

fn participation(set: &ExperimentSet, context: &CustomerContext<'_>) -> Option<Participation> {
    set.participations(context).pop()
}

#[test]
fn a_definition_survives_its_storage() {
    let spec = spec();
    let stored = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ExperimentSpec>(&stored).unwrap(), spec);
    assert!(spec.find_faults("test").is_empty());
}

proptest! {
    /// Only customers of the target take part; an exposed one keeps its variation wherever it is.
    #[test]
    fn the_target_decides_until_the_exposure(
        customer_id in "[a-z]{1,12}", is_in_audience: bool, is_in_segment: bool, seen in 0..4_usize,
    ) {
        let spec = spec();
        let set = set(&spec);
        let keys = ["control", "a", "b", "gone"];
        let seen_before = [SeenVariation { experiment_id: 7, variation: keys[seen].into() }];
        let context = CustomerContext {
            customer_id: &customer_id,
            segment_id: if is_in_segment { "seg_1" } else { "seg_2" },
            audiences: if is_in_audience { &[1, 3] } else { &[1] },
            seen: &[],
        };
        let fresh = participation(&set, &context);
        if !(is_in_audience && is_in_segment) {
            prop_assert_eq!(&fresh, &None);
        }
        if let Some(fresh) = &fresh {
            let is_held_out = spec.holdout.as_ref().unwrap().contains(&customer_id);
            prop_assert_eq!(fresh.role == ParticipationRole::Holdout, is_held_out);
            prop_assert_eq!(fresh.variation.is_none(), is_held_out);
            prop_assert!(!fresh.is_exposed);
        }
        let exposed = participation(&set, &CustomerContext { seen: &seen_before, ..context });
        if seen < 3 {
            let exposed = exposed.unwrap();
            prop_assert_eq!(exposed.variation.as_deref(), Some(keys[seen]));
            prop_assert!(exposed.is_exposed);
            prop_assert_eq!(exposed.role == ParticipationRole::Control, seen == 0);
        } else {
            // The definition has no such variation.
            prop_assert_eq!(exposed, fresh);
        }
    }

    /// More coverage adds customers, and moves none.
    #[test]
    fn a_running_experiment_only_grows(customer_id in "[a-z0-9]{1,12}") {
        let small = spec();
        let large = ExperimentSpec { coverage: 1.0, ..small.clone() };
        prop_assert_eq!(large.changed_assignment(&small), None);
        prop_assert_eq!(small.changed_assignment(&large), Some("coverage"));
        let context = CustomerContext {
            customer_id: &customer_id, segment_id: "seg_1", audiences: &[3], seen: &[],
        };
        let before = participation(&set(&small), &context);
        let after = participation(&set(&large), &context);
        if before.is_some() {
            prop_assert_eq!(before, after);
        }
    }
}

#[test]
fn an_exposure_needs_both_keys() {
    let event = |name: &str, properties: &[(&str, PropertyValue)]| CustomerEvent {
        message_id: "m1".parse().unwrap(),
        customer: "c1".parse().unwrap(),
        kind: EventKind::Track,
        name: name.into(),
        timestamp: Timestamp::from_millis(5),
        properties: properties
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()))
            .collect::<Properties>(),
    };
    assert_eq!(ExposureReport::from_event(&event("Order Completed", &[])), None);
    let experiment = ("experiment_id", PropertyValue::Text(" test ".into()));
    let missing =
        ExposureReport::from_event(&event("Experiment Viewed", std::slice::from_ref(&experiment)));
    assert_eq!(missing.unwrap().unwrap_err().path, "properties.variation_id");
    // Applications number variations, and name properties as in the examples of GrowthBook.
    let camel = [
        ("experimentId", PropertyValue::Text("test".into())),
        ("variationId", PropertyValue::Number(1.0)),
    ];
    let found = ExposureReport::from_event(&event("Experiment Viewed", &camel)).unwrap().unwrap();
    assert_eq!(&*found.variation, "1");
    let variation = ("variation_id", PropertyValue::Number(2.0));
    let found = ExposureReport::from_event(&event("Experiment Viewed", &[experiment, variation]));
    let found = found.unwrap().unwrap();
    assert_eq!((&*found.experiment, &*found.variation), ("test", "2"));
    assert_eq!(found.exposed_at, Timestamp::from_millis(5));
}
