//! Shared by the fuzz targets: the retail feature set, limits, and an instant.

use std::sync::LazyLock;

use segmentd::domain::feature::{CustomerState, FeatureSet};
use segmentd::domain::id::MessageId;
use segmentd::domain::identity::SentinelIds;
use segmentd::domain::time::Timestamp;
use segmentd::domain::wire::{EventLimits, ParsedMessage};

pub static FEATURES: LazyLock<FeatureSet> = LazyLock::new(|| {
    FeatureSet::parse(include_str!("../../../config/features.retail.toml"))
        .expect("the committed feature set is valid")
});

/// 2017-06-01T00:00:00Z, within the committed data.
pub const NOW: Timestamp = Timestamp::from_millis(1_496_275_200_000);

pub static LIMITS: LazyLock<EventLimits> = LazyLock::new(|| EventLimits {
    max_future_millis: 300_000,
    max_property_depth: 8,
    max_event_bytes: 32_768,
    sentinel_ids: SentinelIds::new(["undefined", "null", "0"]),
});

pub fn new_id() -> Option<MessageId> {
    "generated".parse().ok()
}

/// The path of a parsed message in ingestion: admission, fold into a state, feature row,
/// serialized state.
pub fn fold(message: ParsedMessage) {
    let Ok(validated) = FEATURES.validate_event(message.event) else { return };
    let event = validated.event;
    for (_, value) in event.properties.iter() {
        if let segmentd::domain::event::PropertyValue::Text(text) = value {
            assert!(!text.contains('\0'), "NUL reaches Postgres");
        }
    }
    assert!(!event.name.contains('\0'), "NUL reaches Postgres");
    assert!(event.message_id.as_str().len() <= 800 && event.customer.as_str().len() <= 800);
    let mut state = CustomerState::new(&FEATURES);
    state.apply(&FEATURES, &event);
    let row = state.feature_row(&FEATURES, NOW);
    assert_eq!(row.0.len(), FEATURES.features().len());
    let bytes = state.to_bytes(&FEATURES);
    let read = CustomerState::from_bytes(&FEATURES, &bytes).expect("a stored state can be read");
    assert_eq!(read.to_bytes(&FEATURES), bytes);
}
