//! Properties by name.

use proptest::prelude::*;
use segmentd::domain::event::{Properties, PropertyValue};

proptest! {
    /// Events of few and of many properties are searched in different ways.
    #[test]
    fn a_property_is_found_by_its_name(
        names in prop::collection::hash_set("[a-c]{1,4}", 0..40),
        absent in "[a-c]{0,4}",
    ) {
        let mut properties = Properties::default();
        for (place, name) in names.iter().enumerate() {
            properties.set(name, PropertyValue::Number(place as f64));
        }
        for (place, name) in names.iter().enumerate() {
            prop_assert_eq!(properties.number(name), Some(place as f64));
        }
        prop_assert_eq!(properties.get(&absent).is_some(), names.contains(&absent));
    }
}
