//! Ingestion settings: limits on events, queues and batches.

pub(crate) mod failed_events;
pub(crate) mod sources;

use std::time::Duration;

use crate::config::load::reader::SettingsReader;
use crate::domain::identity::SentinelIds;

/// Ingestion of events.
#[derive(Debug, Clone)]
pub struct IngestionLimitSettings {
    /// Concurrent commit transactions.
    pub shards: usize,
    /// Maximum events per transaction.
    pub max_batch_events: usize,
    /// Maximum events in the queue for a commit.
    pub max_waiting_events: usize,
    /// Maximum wait of an event for a customer that is locked by another session.
    pub locked_wait: Duration,
    /// Size of the cache of customers.
    pub cache_bytes: usize,
    /// Maximum time by which an event may be ahead of the clock.
    pub max_future: Duration,
    /// Maximum nesting of properties.
    pub max_property_depth: usize,
    /// Maximum size of an event as JSON.
    pub max_event_bytes: usize,
    /// Ids that name no customer.
    pub sentinel_ids: SentinelIds,
    /// Maximum number of people who log in with one anonymous id before it is reported; 0: no limit.
    pub max_people_per_device: usize,
    /// Names of events that are stored.
    pub event_names: StoredEventNames,
}

/// Event names to store; other events are stored without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredEventNames {
    All,
    /// Names by which a feature selects events, and the names in `also`.
    Declared {
        also: Vec<Box<str>>,
    },
}

impl StoredEventNames {
    fn read(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            "declared" => Self::Declared { also: Vec::new() },
            names => {
                let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                Self::Declared { also: names.map(Into::into).collect() }
            }
        }
    }
}

impl IngestionLimitSettings {
    pub(crate) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            shards: reader.integer("ingestion.shards", 1..=64),
            max_waiting_events: reader.integer("ingestion.max_waiting_events", 1..=10_000_000),
            locked_wait: reader.seconds("ingestion.max_lock_wait_seconds", 1..=300),
            cache_bytes: reader.integer("ingestion.cache_bytes", 0..=68_719_476_736),
            max_batch_events: reader.integer("ingestion.max_batch_events", 1..=100_000),
            max_future: reader.seconds("ingestion.max_future_seconds", 0..=31_536_000),
            max_property_depth: reader.integer("ingestion.max_property_depth", 1..=64),
            event_names: StoredEventNames::read(&reader.text("ingestion.stored_event_names")),
            max_people_per_device: reader.integer("ingestion.max_people_per_device", 0..=1000),
            sentinel_ids: SentinelIds::new(reader.text("ingestion.sentinel_ids").split(',')),
            max_event_bytes: reader.integer("ingestion.max_event_bytes", 256..=16_777_216),
        }
    }
}
