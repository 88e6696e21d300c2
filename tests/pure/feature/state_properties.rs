//! Properties of customer state on generated events: independent of arrival order,
//! round-trips through bytes, and unchanged by pruning.

use proptest::prelude::*;
use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::feature::{CustomerState, FeatureSet, FeatureValue, StateError};
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};

use crate::feature::support::{FOLDS, RETAIL, event, state_of};

const MILLIS_PER_MINUTE: i64 = 60_000;

/// Instants at edge cases: days apart, minutes apart, equal, midnight.
fn instant() -> impl Strategy<Value = Timestamp> {
    let day = prop_oneof![0..4_i64, 0..60_i64, Just(900)];
    let within = prop_oneof![
        Just(0),
        Just(MILLIS_PER_DAY - 1),
        (0..48_i64).prop_map(|n| n * 30 * MILLIS_PER_MINUTE),
        0..MILLIS_PER_DAY,
    ];
    (day, within)
        .prop_map(|(day, within)| Timestamp::from_millis((19_700 + day) * MILLIS_PER_DAY + within))
}

fn amount() -> impl Strategy<Value = f64> {
    prop_oneof![-1e12..1e12_f64, -5.0..100.0_f64, Just(0.0), Just(-0.0), Just(0.1), Just(1e-30)]
}

fn made_up_event() -> impl Strategy<Value = CustomerEvent> {
    let kind = prop_oneof![4 => Just(EventKind::Track), 1 => Just(EventKind::Page),
        1 => Just(EventKind::Screen), 1 => Just(EventKind::Identify),
        1 => Just(EventKind::Group), 1 => Just(EventKind::Alias)];
    let optional = |name: &'static str, scalar: BoxedStrategy<PropertyValue>| {
        proptest::option::of(scalar.prop_map(move |scalar| (name, scalar)))
    };
    let number = || amount().prop_map(PropertyValue::Number).boxed();
    let text = |choices: &'static str| {
        proptest::sample::select(choices.split(' ').collect::<Vec<_>>())
            .prop_map(|choice| PropertyValue::Text(choice.into()))
            .boxed()
    };
    let item = (0..200_u32).prop_map(|n| PropertyValue::Text(format!("i{n}").into())).boxed();
    let properties = (
        optional("amount", number()),
        optional("tax", number()),
        optional("item", item),
        optional("channel", text("web app store")),
        optional("gift", any::<bool>().prop_map(PropertyValue::Bool).boxed()),
        optional("tier", text("gold silver")),
        optional("score", number()),
    );
    (kind, any::<bool>(), instant(), properties).prop_map(|(kind, buy, at, p)| {
        let name = if buy { "Buy" } else { "Look" };
        let properties = [p.0, p.1, p.2, p.3, p.4, p.5, p.6];
        event("c", kind, name, at, properties.into_iter().flatten().collect())
    })
}

/// Events and the same events in another order.
fn two_orders() -> impl Strategy<Value = (Vec<CustomerEvent>, Vec<CustomerEvent>)> {
    proptest::collection::vec(made_up_event(), 0..80)
        .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle()))
}

fn folds() -> FeatureSet {
    FeatureSet::parse(FOLDS).unwrap()
}

proptest! {
    #[test]
    fn no_order_of_arrival_shows((one, other) in two_orders(), now in instant()) {
        let set = folds();
        let (one, other) = (state_of(&set, &one), state_of(&set, &other));
        prop_assert_eq!(one.to_bytes(&set), other.to_bytes(&set));
        prop_assert_eq!(one.feature_row(&set, now), other.feature_row(&set, now));
    }

    #[test]
    fn a_state_stored_half_way_continues_unchanged(
        (_, events) in two_orders(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let set = folds();
        let (first, second) = events.split_at(cut.index(events.len() + 1));
        let stored = state_of(&set, first).to_bytes(&set);
        let mut state = CustomerState::from_bytes(&set, &stored).unwrap();
        for event in second {
            state.apply(&set, event);
        }
        prop_assert_eq!(state, state_of(&set, &events));
    }

    #[test]
    fn a_row_has_a_missing_value_or_one_within_the_bounds_for_every_feature(
        (_, events) in two_orders(),
        now in instant(),
    ) {
        let set = folds();
        let row = state_of(&set, &events).feature_row(&set, now);
        prop_assert_eq!(row.0.len(), set.features().len());
        for (index, value) in row.0.iter().enumerate() {
            if let FeatureValue::Number(n) = value {
                prop_assert!(n.is_finite() && (*n != 0.0 || n.is_sign_positive()));
                let bounds = set.bounds_at(index);
                prop_assert!(bounds.minimum.is_none_or(|least| *n >= least), "{index}: {n}");
                prop_assert!(bounds.maximum.is_none_or(|most| *n <= most), "{index}: {n}");
            }
        }
    }

    /// A reference implementation of windows over all events, without state.
    #[test]
    fn dropping_old_days_changes_no_window((_, events) in two_orders(), later in 0..40_i64) {
        let set = folds();
        let newest = events.iter().map(|e| e.timestamp).max().unwrap_or_default();
        let now = newest.plus_millis(later * MILLIS_PER_DAY);
        let row = state_of(&set, &events).feature_row(&set, now);
        let buys = || events.iter().filter(|e| e.kind == EventKind::Track && *e.name == *"Buy");
        let within = |days: i64| buys().filter(move |e| e.timestamp.day() > now.day() - days);

        let least = within(20)
            .filter_map(|e| e.properties.number("amount"))
            .min_by(f64::total_cmp)
            .map_or(FeatureValue::Missing, FeatureValue::number);
        prop_assert_eq!(&row.0[set.index_of("least_20d").unwrap()], &least);

        let mut times: Vec<i64> = events
            .iter()
            .filter(|e| e.kind.is_behaviour())
            .map(|e| e.timestamp.millis())
            .collect();
        times.sort_unstable();
        // A session ends where the next event is more than a day away.
        let ends = times.iter().enumerate().filter(|(i, time)| {
            let next = times.get(i + 1);
            let day = Timestamp::from_millis(**time).day();
            next.is_none_or(|next| next - **time > MILLIS_PER_DAY) && day > now.day() - 30
        });
        let sessions = FeatureValue::Number(u32::try_from(ends.count()).unwrap().into());
        prop_assert_eq!(&row.0[set.index_of("sessions_30d").unwrap()], &sessions);
    }

    #[test]
    fn bytes_from_anywhere_are_read_or_refused(
        (_, events) in two_orders(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        tail in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let set = folds();
        let mut bytes = state_of(&set, &events).to_bytes(&set);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.extend(tail);
        // Every accepted state must work without a panic.
        if let Ok(mut state) = CustomerState::from_bytes(&set, &bytes) {
            for event in &events {
                state.apply(&set, event);
            }
            state.feature_row(&set, Timestamp::from_millis(1_700_000_000_000));
        }
    }
}

#[test]
fn the_state_of_another_feature_set_is_distinguished_from_a_damaged_one() {
    let (folds, retail) = (folds(), FeatureSet::parse(RETAIL).unwrap());
    let bytes = CustomerState::new(&folds).to_bytes(&folds);
    assert_eq!(CustomerState::from_bytes(&retail, &bytes), Err(StateError::OtherFeatureSet));
    let cut = &bytes[..bytes.len() - 1];
    assert_eq!(CustomerState::from_bytes(&folds, cut), Err(StateError::Corrupt));
    let newer = [&[bytes[0] + 1], &bytes[1..]].concat();
    assert_eq!(CustomerState::from_bytes(&folds, &newer), Err(StateError::OtherFormat));
    assert_eq!(CustomerState::from_bytes(&folds, &[]), Err(StateError::Corrupt));
}
