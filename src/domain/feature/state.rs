//! Customer state: compact aggregates that are updated with each event.
//!
//! Every slot is commutative: any order of arrival gives the same state, bit for bit.
//! Duplicates are not detected here: the caller applies each message once.

use serde::{Deserialize, Serialize};

use crate::domain::event::{CustomerEvent, EventKind};
use crate::domain::feature::define::TraitDefinition;
use crate::domain::feature::fold::{LatestValueCell, is_plausible};
use crate::domain::feature::history::gaps::HistoryGaps;
use crate::domain::feature::orders::net::NetOrders;
use crate::domain::feature::reading::event::EventReading;
use crate::domain::feature::set::FeatureSet;
use crate::domain::feature::slot::StateSlot;
use crate::domain::feature::source::{EventFeatureSource, FeatureFold, FeatureSource, at_least};
use crate::domain::feature::zone::LocalInstant;
use crate::domain::feature::{FeatureRow, FeatureValue, KnownOrders};
use crate::domain::time::Timestamp;

/// First byte of every stored state, to be increased with every change of layout.
const FORMAT_VERSION: u8 = 3;
/// Bytes of the feature set's id, after the version.
const TAG_BYTES: usize = 8;
/// Initial capacity: most states are smaller, and a vector that does not grow takes half the
/// time.
const USUAL_BYTES: usize = 256;

/// Reason why stored bytes are not a state of this feature set. In all cases the state can be
/// rebuilt from the customer's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("the state belongs to another feature set")]
    OtherFeatureSet,
    #[error("the state has the format of another version of segmentd")]
    OtherFormat,
    #[error("the bytes are not a customer state")]
    Corrupt,
}

/// The state of one customer under one feature set. Every method must be called with the
/// [`FeatureSet`] that the state was created with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomerState {
    newest_millis: Option<i64>,
    /// In the order of [`FeatureSet::traits`].
    traits: Vec<LatestValueCell>,
    /// In the order of [`FeatureSet::slot_sources`].
    pub(super) slots: Vec<StateSlot>,
    pub(super) gaps: HistoryGaps,
}

impl CustomerState {
    /// The empty state.
    pub fn new(set: &FeatureSet) -> Self {
        Self {
            newest_millis: None,
            traits: vec![LatestValueCell::default(); set.traits().len()],
            slots: set.slot_sources().map(StateSlot::new).collect(),
            gaps: HistoryGaps::default(),
        }
    }

    /// Builds the state from all events of a customer.
    pub fn replay<'e>(
        set: &FeatureSet,
        events: impl IntoIterator<Item = &'e CustomerEvent>,
    ) -> Self {
        let mut state = Self::new(set);
        for event in events {
            state.apply(set, event);
        }
        state
    }

    /// Adds one event. The order of events has no effect.
    pub fn apply(&mut self, set: &FeatureSet, event: &CustomerEvent) {
        let millis = event.timestamp.millis();
        self.newest_millis = self.newest_millis.max(Some(millis));
        if event.kind == EventKind::Identify {
            for (def, latest) in set.traits().iter().zip(&mut self.traits) {
                if let Some(value) = event.properties.get(&def.name) {
                    latest.set(def.kind, millis, value);
                }
            }
        }
        let reading = EventReading { event, at: set.zone().at(millis), element: None };
        for route in set.routes_of(event) {
            for &slot in &route.slots {
                let source = set.slot_source(slot);
                if let Some(weight) = route.weight_in(source, event) {
                    apply_to_slot(&mut self.slots[slot], source, reading, weight);
                }
            }
        }
    }

    /// Adds a stored event, which arrived at `received_at`: marks the folds that read a property
    /// that was dropped then.
    pub fn apply_stored(
        &mut self,
        set: &FeatureSet,
        event: &CustomerEvent,
        received_at: Timestamp,
    ) {
        self.apply(set, event);
        for route in set.routes_of(event) {
            for &slot in &route.slots {
                let source = set.slot_source(slot);
                if route.weight_in(source, event).is_some()
                    && set.was_dropped(source, event, received_at)
                {
                    self.gaps.add(slot, event.timestamp.millis());
                }
            }
        }
    }

    /// Computes the features at `now`, in the order of [`FeatureSet::features`]. An instant
    /// before the newest event is replaced by that event's, because the state contains no
    /// earlier snapshot.
    pub fn feature_row(&self, set: &FeatureSet, now: Timestamp) -> FeatureRow {
        self.row_with_orders(set, self.reading_instant(set, now), self.net_orders(set).as_ref())
    }

    /// [`Self::feature_row`] and [`Self::known_orders`], with the orders netted once.
    pub fn row_and_orders(
        &self,
        set: &FeatureSet,
        now: Timestamp,
    ) -> (FeatureRow, Option<KnownOrders>) {
        let (now, orders) = (self.reading_instant(set, now), self.net_orders(set));
        let row = self.row_with_orders(set, now, orders.as_ref());
        (
            row,
            orders
                .filter(|_| self.knows_all_orders(set))
                .map(|orders| KnownOrders::new(orders, now)),
        )
    }

    /// The orders at `now`; `None` for a set without `[orders]`, and if properties of orders were
    /// dropped.
    pub fn known_orders(&self, set: &FeatureSet, now: Timestamp) -> Option<KnownOrders> {
        let orders = self.net_orders(set).filter(|_| self.knows_all_orders(set))?;
        Some(KnownOrders::new(orders, self.reading_instant(set, now)))
    }

    /// Whether no property of an order event was dropped.
    fn knows_all_orders(&self, set: &FeatureSet) -> bool {
        set.order_slot().is_some_and(|slot| !self.gaps.has_gap(slot))
    }

    /// The later of `now` and the newest event.
    fn reading_instant(&self, set: &FeatureSet, now: Timestamp) -> LocalInstant {
        let now = self.newest_millis.map_or(now.millis(), |newest| newest.max(now.millis()));
        set.zone().at(now)
    }

    fn row_with_orders(
        &self,
        set: &FeatureSet,
        now: LocalInstant,
        orders: Option<&NetOrders>,
    ) -> FeatureRow {
        let mut values: Vec<FeatureValue> = set
            .sources()
            .iter()
            .map(|source| match source {
                FeatureSource::Events(index) => {
                    let (slot, source) = (set.slot_of(*index), &set.event_sources()[*index]);
                    if self.gaps.hides(slot, source, &self.slots[slot], now) {
                        return FeatureValue::Missing;
                    }
                    let value = match (&source.fold, orders) {
                        (FeatureFold::Orders { fold, .. }, Some(orders)) => {
                            orders.value(*fold, source.window, now)
                        }
                        _ => self.slots[slot].value(source, now),
                    };
                    at_least(source.floor, value)
                }
                FeatureSource::Trait(index) => self.traits[*index].value(),
                FeatureSource::Derived(_) => FeatureValue::Missing,
            })
            .collect();
        for derived in set.derived() {
            values[derived.feature] = derived.value(&values);
        }
        FeatureRow(values)
    }

    /// The net orders; `None` for a set without features of orders.
    pub(super) fn net_orders(&self, set: &FeatureSet) -> Option<NetOrders> {
        let slot = set.order_slot()?;
        self.slots[slot].net_orders(set.slot_source(slot), set.zone())
    }

    /// Every declared trait with its current value, in file order.
    pub fn traits<'s>(
        &'s self,
        set: &'s FeatureSet,
    ) -> impl Iterator<Item = (&'s TraitDefinition, FeatureValue)> + 's {
        set.traits().iter().zip(self.traits.iter().map(LatestValueCell::value))
    }

    /// The instant of the newest event of any type, matched by a feature or not.
    pub fn last_event_at(&self) -> Option<Timestamp> {
        self.newest_millis.map(Timestamp::from_millis)
    }

    /// Serialises the state; equal states give equal bytes. Layout: format version (1 byte),
    /// start of the feature set's id (8 bytes), the state in postcard format.
    pub fn to_bytes(&self, set: &FeatureSet) -> Vec<u8> {
        // Serialising plain data into a growing vector cannot fail. If it did, the empty result
        // would be read back as corrupt and the state rebuilt.
        let state = (FORMAT_VERSION, set.layout_tag(), self);
        postcard::to_extend(&state, Vec::with_capacity(USUAL_BYTES)).unwrap_or_default()
    }

    /// Deserialises the result of [`Self::to_bytes`] for the same feature set.
    pub fn from_bytes(set: &FeatureSet, bytes: &[u8]) -> Result<Self, StateError> {
        let (version, rest) = bytes.split_first().ok_or(StateError::Corrupt)?;
        let (tag, body) = rest.split_at_checked(TAG_BYTES).ok_or(StateError::Corrupt)?;
        if *version != FORMAT_VERSION {
            return Err(StateError::OtherFormat);
        }
        if tag != set.layout_tag() {
            return Err(StateError::OtherFeatureSet);
        }
        let (state, left) =
            postcard::take_from_bytes::<Self>(body).map_err(|_| StateError::Corrupt)?;
        if left.is_empty() && state.is_sound(set) { Ok(state) } else { Err(StateError::Corrupt) }
    }

    /// Whether all parts have the types and sizes that this feature set produces.
    fn is_sound(&self, set: &FeatureSet) -> bool {
        let (slot_sources, traits) = (set.slot_sources(), set.traits());
        self.newest_millis.is_none_or(is_plausible)
            && self.traits.len() == traits.len()
            && self.slots.len() == slot_sources.len()
            && self.gaps.is_sound(self.slots.len())
            && self.traits.iter().zip(traits).all(|(latest, def)| latest.is_sound(def.kind))
            && self
                .slots
                .iter()
                .zip(slot_sources)
                .all(|(slot, slot_source)| slot.is_sound(slot_source))
    }
}

/// Adds an event, or each element of the array that the fold runs over.
fn apply_to_slot(
    slot: &mut StateSlot,
    source: &EventFeatureSource,
    event: EventReading<'_>,
    weight: f64,
) {
    let Some(array) = &source.each else {
        if source.conditions.iter().all(|condition| condition.is_met_by(event)) {
            slot.apply(source, event, weight);
        }
        return;
    };
    for element in event.event.properties.elements(array) {
        let event = EventReading { element: Some(element), ..event };
        if source.conditions.iter().all(|condition| condition.is_met_by(event)) {
            slot.apply(source, event, weight);
        }
    }
}
