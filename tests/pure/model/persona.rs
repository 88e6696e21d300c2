//! Personas: changes, faults, and detection of outdated personas.

use proptest::prelude::*;
use segmentd::domain::encode::ColumnRole;
use segmentd::domain::persona::{
    FieldChange, NamedStandout, Persona, PersonaChange, changed_standouts, named_standouts,
};

use crate::model::support::shop_model;

fn set(text: &str) -> FieldChange<String> {
    FieldChange::Set(text.to_owned())
}

fn value(feature: &str, contrast: f64) -> NamedStandout {
    NamedStandout { feature: feature.into(), aspect: ColumnRole::Value, contrast }
}

#[test]
fn a_change_sets_and_removes_what_it_names_and_leaves_the_rest() {
    let first = PersonaChange {
        name: set("  Loyal families "),
        colour: set("#1F77B4"),
        messages: FieldChange::Set(vec!["Thank you".into()]),
        ..PersonaChange::default()
    };
    let persona = Persona::default().changed(first).unwrap();
    assert_eq!(persona.name.as_deref(), Some("Loyal families"));
    assert_eq!(persona.colour.as_deref(), Some("#1f77b4"));
    assert_eq!(persona.clone().changed(PersonaChange::default()).unwrap(), persona);

    let second = PersonaChange {
        name: FieldChange::Removed,
        owner: set("crm@example.com"),
        messages: FieldChange::Removed,
        ..PersonaChange::default()
    };
    let changed = persona.clone().changed(second).unwrap();
    assert_eq!((changed.name, changed.owner.as_deref()), (None, Some("crm@example.com")));
    assert_eq!((changed.colour, changed.strategy), (persona.colour, Persona::default().strategy));
}

#[test]
fn every_fault_of_a_change_is_reported_with_its_field() {
    let change = PersonaChange {
        name: set("two\nlines"),
        summary: set(" "),
        owner: set(&"x".repeat(201)),
        colour: set("blue"),
        notes: set(&"x".repeat(2001)),
        messages: FieldChange::Set(vec!["fine".into(), String::new()]),
        offers: FieldChange::Set(vec!["offer".into(); 21]),
        ..PersonaChange::default()
    };
    let faults = Persona::default().changed(change).unwrap_err();
    let paths: Vec<&str> = faults.0.iter().map(|fault| fault.path.as_str()).collect();
    let expected =
        ["name", "summary", "owner", "colour", "notes", "strategy.messages[1]", "strategy.offers"];
    assert_eq!(paths, expected);
    assert!(faults.0[3].problem.contains("#1f77b4"), "{faults:?}");
}

#[test]
fn a_standout_that_changed_by_half_a_standard_deviation_is_reported() {
    let then = [value("spend", 1.4), value("recency", -0.6), value("visits", 0.3)];
    let now = [value("spend", 0.5), value("recency", -0.9), value("discounts", 0.8)];
    let changes = changed_standouts(&then, &now);
    let changes: Vec<_> = changes.iter().map(|one| (&*one.feature, one.then, one.now)).collect();
    assert_eq!(changes, [("spend", 1.4, 0.5), ("discounts", 0.0, 0.8)]);
    // The same feature in another aspect is another standout.
    let web = NamedStandout {
        feature: "channel".into(),
        aspect: ColumnRole::Category("web".into()),
        contrast: 0.7,
    };
    let app = NamedStandout { aspect: ColumnRole::Category("app".into()), ..web.clone() };
    assert_eq!(changed_standouts(&[web], &[app]).len(), 2);
}

#[test]
fn the_standouts_of_a_segment_are_those_of_its_model_and_unchanged_in_it() {
    let model = shop_model().model;
    for segment in model.segments() {
        let standouts = named_standouts(segment, model.features());
        assert_eq!(standouts.len(), segment.standouts.len());
        assert!(standouts.iter().all(|one| one.contrast.abs() >= 0.25), "{standouts:?}");
        assert_eq!(changed_standouts(&standouts, &standouts), []);
        let stored = serde_json::to_value(&standouts).unwrap();
        assert_eq!(serde_json::from_value::<Vec<NamedStandout>>(stored).unwrap(), standouts);
    }
}

proptest! {
    /// The changes from one description to another are those back, with both sides exchanged.
    #[test]
    fn changes_back_are_the_changes_reversed(
        then in proptest::collection::btree_map("[a-d]", -2.0..2.0_f64, 0..4),
        now in proptest::collection::btree_map("[a-d]", -2.0..2.0_f64, 0..4),
    ) {
        let list = |map: &std::collections::BTreeMap<String, f64>| -> Vec<NamedStandout> {
            map.iter().map(|(feature, contrast)| value(feature, *contrast)).collect()
        };
        let sorted = |mut changes: Vec<(String, f64, f64)>| {
            changes.sort_by(|a, b| a.0.cmp(&b.0));
            changes
        };
        let forth = changed_standouts(&list(&then), &list(&now));
        let back = changed_standouts(&list(&now), &list(&then));
        let forth = forth.iter().map(|one| (one.feature.to_string(), one.then, one.now)).collect();
        let back = back.iter().map(|one| (one.feature.to_string(), one.now, one.then)).collect();
        prop_assert_eq!(sorted(forth), sorted(back));
    }
}
