//! The feature set: all declarations of one version of the features file.

mod inputs;
mod stored_numbers;

use crate::domain::event::{CustomerEvent, EventKind, elements};
use crate::domain::fault::ValidationFaults;
use crate::domain::feature::canonical_json;
use crate::domain::feature::define::{FeatureDefinition, TraitDefinition, ValueType};
use crate::domain::feature::history::properties::PropertyHistory;
use crate::domain::feature::orders::rules::OrderRules;
use crate::domain::feature::parse::{self, FeatureDeclarations};
use crate::domain::feature::reading::filter::{EventFilter, PropertyType};
use crate::domain::feature::reading::money::MoneyRules;
use crate::domain::feature::reading::rates::RateTable;
use crate::domain::feature::rfm::RfmRules;
use crate::domain::feature::source::{
    DerivedFeature, EventFeatureSource, FeatureSource, WeightedFilter,
};
use crate::domain::feature::validation::value_bounds::{ValueBounds, value_bounds};
use crate::domain::feature::window::TimeWindow;
use crate::domain::feature::zone::{DayZone, LocalHour};
use crate::domain::id::FeatureSetId;
use crate::domain::time::Timestamp;

pub use stored_numbers::{STORED_RATE, StoredNumber};

/// Name of the length of an array, behind the name of the array.
pub(super) const ARRAY_LENGTH: &str = ".length";

/// A checked, immutable set of features, traits and fallback rules.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSet {
    id: FeatureSetId,
    layout_tag: [u8; 8],
    normal_form: Box<str>,
    features: Vec<FeatureDefinition>,
    traits: Vec<TraitDefinition>,
    sources: Vec<FeatureSource>,
    event_sources: Vec<EventFeatureSource>,
    /// The state slot of each event source.
    slot_of: Vec<usize>,
    /// The event source of each slot with the longest window.
    slot_sources: Vec<usize>,
    routes: Vec<EventRoute>,
    derived: Vec<DerivedFeature>,
    rfm: RfmRules,
    zone: DayZone,
    money: Option<MoneyRules>,
    rates: RateTable,
    /// The slot of the order ledger.
    order_slot: Option<usize>,
    /// The event sources of the monetary feature of the fallback rules.
    monetary_sources: Vec<usize>,
    /// Since when properties are stored, as far as not always.
    stored_since: PropertyHistory,
    /// By feature.
    bounds: Vec<ValueBounds>,
}

/// Event sources with the same event filter, which is matched once per event for all.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventRoute {
    pub(super) head: EventFilter,
    /// Slots, in order of first use.
    pub(super) slots: Vec<usize>,
    /// Every property that the sources read, sorted by name.
    properties: Vec<(Box<str>, PropertyType)>,
}

impl FeatureSet {
    /// Parses a features file in the TOML format of `config/features.retail.toml`. The error
    /// has every fault, each with its line and what would be right.
    pub fn parse(toml_text: &str) -> Result<Self, ValidationFaults> {
        parse::from_toml(toml_text).map(Self::new)
    }

    fn new(declared: FeatureDeclarations) -> Self {
        let normal_form = canonical_json::canonical_json(&declared).into_boxed_str();
        let id = FeatureSetId::of(normal_form.as_bytes());
        let (slot_of, slot_sources) = slots(&declared.event_sources);
        let mut routes = routes(&declared.event_sources, &slot_of);
        if let Some(money) = &declared.money {
            for route in &mut routes {
                route.add_currency(money);
            }
        }
        let order_source = declared.event_sources.iter().position(EventFeatureSource::is_of_orders);
        let order_slot = order_source.map(|at| slot_of[at]);
        let FeatureDeclarations {
            traits,
            features,
            sources,
            event_sources,
            derived,
            rfm,
            orders: _,
            zone,
            money,
        } = declared;
        let bounds = value_bounds(&sources, &event_sources, &derived);
        let mut set = Self {
            layout_tag: layout_tag(&id),
            id,
            normal_form,
            features,
            traits,
            sources,
            event_sources,
            slot_of,
            slot_sources,
            routes,
            derived,
            rfm,
            zone,
            money,
            rates: RateTable::default(),
            order_slot,
            monetary_sources: Vec::new(),
            stored_since: PropertyHistory::default(),
            bounds,
        };
        let mut monetary_sources = Vec::new();
        set.sources_behind(set.rfm.monetary.index, &mut monetary_sources);
        set.monetary_sources = monetary_sources;
        set
    }

    /// SHA-256 of the normal form. Comments and layout of the file do not change it; every
    /// declaration does.
    pub fn id(&self) -> &FeatureSetId {
        &self.id
    }

    /// The declarations as canonical JSON, as in the store: the file's keys in a fixed order,
    /// with defaults written out and nothing else.
    pub fn normal_form(&self) -> &str {
        &self.normal_form
    }

    /// The declared features, in file order.
    pub fn features(&self) -> &[FeatureDefinition] {
        &self.features
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.features.iter().position(|feature| &*feature.name == name)
    }

    /// The value type of the feature at this index.
    pub(crate) fn value_type_at(&self, index: usize) -> ValueType {
        match &self.sources[index] {
            FeatureSource::Events(at) => self.event_sources[*at].kind(),
            FeatureSource::Trait(at) => self.traits[*at].kind,
            FeatureSource::Derived(_) => ValueType::Number,
        }
    }

    /// The bounds of the feature at this index; unbounded for a text.
    pub fn bounds_at(&self, index: usize) -> ValueBounds {
        self.bounds[index]
    }

    /// Days of events that the value of the feature at this index depends on; `None` unless its
    /// window is rolling.
    pub(crate) fn rolling_days(&self, index: usize) -> Option<u32> {
        match &self.sources[index] {
            FeatureSource::Events(at) => match self.event_sources[*at].window {
                TimeWindow::RollingDays(days) => Some(days),
                TimeWindow::Lifetime | TimeWindow::HalfLifeDays(_) => None,
            },
            FeatureSource::Derived(derived) => {
                Some(self.rolling_days(derived.left)?.max(self.rolling_days(derived.right)?))
            }
            FeatureSource::Trait(_) => None,
        }
    }

    /// The declared traits, in file order.
    pub fn traits(&self) -> &[TraitDefinition] {
        &self.traits
    }

    /// The rules of the rule-based fallback.
    pub fn rfm(&self) -> &RfmRules {
        &self.rfm
    }

    pub(super) const fn money(&self) -> Option<&MoneyRules> {
        self.money.as_ref()
    }

    /// The file with exchange rates that the set names.
    pub fn rates_file(&self) -> Option<&str> {
        self.money.as_ref()?.rates_file.as_deref()
    }

    pub(super) const fn rates(&self) -> &RateTable {
        &self.rates
    }

    /// This set with exchange rates. They are not part of its id: an event is converted by the
    /// rate that is known when it is accepted, and stores that rate.
    #[must_use]
    pub fn with_rates(self, rates: RateTable) -> Self {
        Self { rates, ..self }
    }

    /// Whether a feature selects the event by its name.
    pub(crate) fn selects_by_name(&self, event: &CustomerEvent) -> bool {
        self.routes_of(event).any(|route| route.head.name.is_some())
    }

    /// The expected type of an event's property; `None` for a property that no feature or trait
    /// reads.
    pub(super) fn expected(&self, event: &CustomerEvent, property: &str) -> Option<PropertyType> {
        if event.kind == EventKind::Identify {
            let def = self.traits.iter().find(|def| &*def.name == property)?;
            return Some(def.kind.into());
        }
        let generic = elements::without_index(property);
        let name = generic.as_ref().map_or(property, |(_, name)| name);
        self.routes_of(event).filter_map(|route| route.property(name)).reduce(stricter)
    }

    pub(super) fn sources(&self) -> &[FeatureSource] {
        &self.sources
    }

    pub(super) fn event_sources(&self) -> &[EventFeatureSource] {
        &self.event_sources
    }

    /// The slot that an event source reads.
    pub(super) fn slot_of(&self, event_source: usize) -> usize {
        self.slot_of[event_source]
    }

    /// The event source that each slot takes events in for.
    pub(super) fn slot_sources(&self) -> impl ExactSizeIterator<Item = &EventFeatureSource> {
        self.slot_sources.iter().map(|index| &self.event_sources[*index])
    }

    pub(super) fn slot_source(&self, slot: usize) -> &EventFeatureSource {
        &self.event_sources[self.slot_sources[slot]]
    }

    /// The derived features in order of dependency: each after those it is computed from.
    pub(super) fn derived(&self) -> &[DerivedFeature] {
        &self.derived
    }

    /// Hour of the day and weekday in the time zone of days.
    pub(in crate::domain) fn local_hour(&self, at: Timestamp) -> LocalHour {
        self.zone.at(at.millis()).hour()
    }

    /// Names of the events that place an order; empty without `[orders]`.
    pub(crate) fn order_event_names(&self) -> Vec<String> {
        let orders = self.event_sources.iter().find_map(EventFeatureSource::order_rules);
        let placed = orders.into_iter().flat_map(OrderRules::placed_event_names);
        placed.map(str::to_owned).collect()
    }

    /// IANA name of the time zone of days.
    pub(crate) fn time_zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The time zone of days.
    pub(super) const fn zone(&self) -> DayZone {
        self.zone
    }

    /// The event sources of the monetary feature of the fallback rules.
    pub(super) fn monetary_sources(&self) -> &[usize] {
        &self.monetary_sources
    }

    /// The unit of the values of orders: that of the monetary feature of the fallback rules.
    pub fn monetary_unit(&self) -> &str {
        &self.features[self.rfm.monetary.index].unit
    }

    /// Whether the set declares `[orders]`.
    pub const fn declares_orders(&self) -> bool {
        self.order_slot.is_some()
    }

    pub(super) const fn order_slot(&self) -> Option<usize> {
        self.order_slot
    }

    pub(super) fn routes(&self) -> &[EventRoute] {
        &self.routes
    }

    pub(super) const fn property_history(&self) -> &PropertyHistory {
        &self.stored_since
    }

    pub(super) fn with_property_history(self, stored_since: PropertyHistory) -> Self {
        Self { stored_since, ..self }
    }

    /// The routes that an event matches.
    pub(super) fn routes_of<'s>(
        &'s self,
        event: &'s CustomerEvent,
    ) -> impl Iterator<Item = &'s EventRoute> {
        self.routes.iter().filter(|route| route.head.matches(event))
    }

    /// The first bytes of the id, which mark stored states.
    pub(super) const fn layout_tag(&self) -> [u8; 8] {
        self.layout_tag
    }
}

impl EventRoute {
    /// The names of all properties that are read.
    pub(super) fn property_names(&self) -> impl Iterator<Item = &str> {
        self.properties.iter().map(|(name, _)| &**name)
    }

    fn add(&mut self, slot: usize, source: &EventFeatureSource) {
        if !self.slots.contains(&slot) {
            self.slots.push(slot);
        }
        for (name, read_as) in source.properties() {
            self.add_property(name, read_as);
        }
    }

    fn add_property(&mut self, name: &str, read_as: PropertyType) {
        match self.properties.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(at) => {
                let required = &mut self.properties[at].1;
                *required = stricter(*required, read_as);
            }
            Err(at) => self.properties.insert(at, (name.into(), read_as)),
        }
    }

    /// The weight of an event of this route in a fold; `None` if the event has taken another
    /// filter of the fold.
    pub(super) fn weight_in(
        &self,
        source: &EventFeatureSource,
        event: &CustomerEvent,
    ) -> Option<f64> {
        match source.filters.as_slice() {
            [only] => Some(only.weight),
            _ => {
                source.filter_of(event).filter(|own| own.filter == self.head).map(|own| own.weight)
            }
        }
    }

    /// Whether a source reads the elements of an array.
    pub(super) fn reads_elements(&self, array: &str) -> bool {
        self.property_names().any(|name| {
            let tail = name.strip_prefix(array);
            tail.is_some_and(|tail| {
                tail.is_empty() || tail.starts_with('.') && tail != ARRAY_LENGTH
            })
        })
    }

    /// Adds the property with the currency to a route that reads money.
    fn add_currency(&mut self, money: &MoneyRules) {
        let Some(property) = &money.property else { return };
        if self.property_names().any(|name| money.is_money(name)) {
            self.add_property(property, PropertyType::Text);
        }
    }

    fn property(&self, name: &str) -> Option<PropertyType> {
        let at = self.properties.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(self.properties[at].1)
    }
}

/// Assigns event sources to slots. Sources that differ only in the length of their window share
/// the days of the longest; each reads its own part.
fn slots(event_sources: &[EventFeatureSource]) -> (Vec<usize>, Vec<usize>) {
    let (mut slot_of, mut slot_sources) = (Vec::new(), Vec::<usize>::new());
    for (index, source) in event_sources.iter().enumerate() {
        let slot = slot_sources
            .iter()
            .position(|slot_source| event_sources[*slot_source].shares_with(source));
        let slot = slot.unwrap_or_else(|| {
            slot_sources.push(index);
            slot_sources.len() - 1
        });
        if event_sources[slot_sources[slot]].window.length_days() < source.window.length_days() {
            slot_sources[slot] = index;
        }
        slot_of.push(slot);
    }
    (slot_of, slot_sources)
}

/// Groups sources by event filter, in order of first use.
fn routes(event_sources: &[EventFeatureSource], slot_of: &[usize]) -> Vec<EventRoute> {
    let mut routes: Vec<EventRoute> = Vec::new();
    for (index, source) in event_sources.iter().enumerate() {
        for WeightedFilter { filter, .. } in &source.filters {
            let at = routes.iter().position(|route| route.head == *filter).unwrap_or_else(|| {
                let head = filter.clone();
                routes.push(EventRoute { head, slots: Vec::new(), properties: Vec::new() });
                routes.len() - 1
            });
            routes[at].add(slot_of[index], source);
        }
    }
    routes
}

/// A checked file has no contradicting readers, so `unwrap_or` never applies.
fn stricter(a: PropertyType, b: PropertyType) -> PropertyType {
    a.common(b).unwrap_or(a)
}

fn layout_tag(id: &FeatureSetId) -> [u8; 8] {
    let mut tag = [0; 8];
    for (byte, digits) in tag.iter_mut().zip(id.as_str().as_bytes().chunks_exact(2)) {
        *byte = hex_digit(digits[0]) << 4 | hex_digit(digits[1]);
    }
    tag
}

fn hex_digit(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or_default() as u8
}
