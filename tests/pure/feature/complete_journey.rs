//! The retail features of all 2,469 households of the Complete Journey equal pandas on the
//! same tables, in any order of events.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use segmentd::domain::event::CustomerEvent;
use segmentd::domain::feature::{CustomerState, FeatureSet, FeatureValue};

use crate::feature::support::{RETAIL, assert_row, at, journey, rows, state_of};

#[test]
fn all_households_equal_pandas_and_shuffling_changes_no_byte() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let households = journey();
    assert_eq!(households.len(), 2469);
    let (header, golden) = rows("golden/features_complete_journey.csv.gz");
    let mut compared = 0;
    for row in &golden {
        let now = at(&row[1]);
        let known = households[&row[0]].iter().filter(|event| event.timestamp <= now);
        let state = state_of(&set, known);
        compared += assert_row(&set, &state.feature_row(&set, now).0, &header, row);
    }
    assert_eq!(golden.len(), 2 * 2469);
    assert_eq!(compared, 2 * 2469 * set.features().len());

    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for events in households.values() {
        let in_order = state_of(&set, events);
        let mut shuffled: Vec<&CustomerEvent> = events.iter().collect();
        shuffled.sort_by_cached_key(|_| rng.next_u64());
        let bytes = in_order.to_bytes(&set);
        assert_eq!(state_of(&set, shuffled).to_bytes(&set), bytes);
        assert_eq!(CustomerState::from_bytes(&set, &bytes), Ok(in_order));
    }
}

#[test]
fn every_event_is_admitted_and_keeps_only_declared_properties() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let households = journey();
    let mut traits = 0;
    for events in households.values() {
        for event in events {
            let admitted = set.validate_event(event.clone()).unwrap().event;
            for dropped in ["quantity", "coupon_match_disc", "coupon_upc", "campaign_id"] {
                assert_eq!(admitted.properties.get(dropped), None);
            }
            for kept in ["sales_value", "store_id", "age"] {
                assert_eq!(admitted.properties.get(kept), event.properties.get(kept));
            }
        }
        let state = state_of(&set, events);
        traits += state.traits(&set).filter(|(_, value)| *value != FeatureValue::Missing).count();
    }
    let (_, demographics) = rows("../../config/demo/demographics.csv");
    let known = demographics.iter().flat_map(|row| row.iter().skip(1)).filter(|v| !v.is_empty());
    assert_eq!(traits, known.count());
}
