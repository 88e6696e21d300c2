//! The feature set: all declarations of one version of the features file.

use crate::domain::event::{CustomerEvent, EventKind, PropertyValue};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::canonical_json;
use crate::domain::feature::convert::{self, ConversionFault};
use crate::domain::feature::define::{FeatureDefinition, TraitDefinition, ValueType};
use crate::domain::feature::parse::{self, FeatureDeclarations};
use crate::domain::feature::rfm::RfmRules;
use crate::domain::feature::source::{
    EventFeatureSource, EventFilter, FeatureRatio, FeatureSource, PropertyType,
};
use crate::domain::id::FeatureSetId;

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
    ratios: Vec<FeatureRatio>,
    rfm: RfmRules,
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
        let routes = routes(&declared.event_sources, &slot_of);
        let FeatureDeclarations { traits, features, sources, event_sources, ratios, rfm } =
            declared;
        Self {
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
            ratios,
            rfm,
        }
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
            FeatureSource::Ratio(_) => ValueType::Number,
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

    /// Validates an event: converts its properties to the declared types, and drops the
    /// properties that no feature or trait reads.
    ///
    /// A value that cannot be converted without loss is left out with a warning: the rest of the
    /// event counts. Only a number that a feature adds, and that lies beyond the limit,
    /// refuses the event. Paths are those of the sender, such as `properties.sales_value` or
    /// `traits.age`. A null or a blank text removes a trait. An `alias` event passes unchanged:
    /// it concerns identity, which no feature set declares.
    pub fn validate_event(
        &self,
        mut event: CustomerEvent,
    ) -> Result<ValidatedEvent, ValidationFault> {
        if event.kind == EventKind::Alias {
            return Ok(ValidatedEvent { event, warnings: Vec::new() });
        }
        let mut properties = std::mem::take(&mut event.properties);
        let mut validation = PropertyValidation::new(self, &event);
        for property in properties.take_unreadable() {
            if let Some(expected) = self.expected(&event, &property.name) {
                validation.record(&property.name, convert::unreadable(expected, property.value));
            }
        }
        properties.convert(|name, value| validation.validate(name, value));
        let PropertyValidation { warnings, refused, .. } = validation;
        event.properties = properties;
        refused.map_or(Ok(ValidatedEvent { event, warnings }), Err)
    }

    /// Whether a feature selects the event by its name.
    pub(crate) fn selects_by_name(&self, event: &CustomerEvent) -> bool {
        self.routes_of(event).any(|route| route.head.name.is_some())
    }

    /// The expected type of an event's property; `None` for a property that no feature or trait
    /// reads.
    fn expected(&self, event: &CustomerEvent, property: &str) -> Option<PropertyType> {
        if event.kind == EventKind::Identify {
            let def = self.traits.iter().find(|def| &*def.name == property)?;
            return Some(def.kind.into());
        }
        self.routes_of(event).filter_map(|route| route.property(property)).reduce(stricter)
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

    /// The ratios in order of dependency: each after the ratios it is computed from.
    pub(super) fn ratios(&self) -> &[FeatureRatio] {
        &self.ratios
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
        let at = routes.iter().position(|route| route.head == source.head).unwrap_or_else(|| {
            let head = source.head.clone();
            routes.push(EventRoute { head, slots: Vec::new(), properties: Vec::new() });
            routes.len() - 1
        });
        let route = &mut routes[at];
        if !route.slots.contains(&slot_of[index]) {
            route.slots.push(slot_of[index]);
        }
        for (name, read_as) in source.properties() {
            match route.properties.binary_search_by(|(n, _)| (**n).cmp(name)) {
                Ok(at) => {
                    let required = &mut route.properties[at].1;
                    *required = stricter(*required, read_as);
                }
                Err(at) => route.properties.insert(at, (name.into(), read_as)),
            }
        }
    }
    routes
}

/// A checked file has no contradicting readers, so `unwrap_or` never applies.
fn stricter(a: PropertyType, b: PropertyType) -> PropertyType {
    a.common(b).unwrap_or(a)
}

/// A validated event, with the properties that were left out.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedEvent {
    pub event: CustomerEvent,
    pub warnings: Vec<ValidationFault>,
}

/// Validation of one event's properties.
struct PropertyValidation<'v> {
    set: &'v FeatureSet,
    event: &'v CustomerEvent,
    warnings: Vec<ValidationFault>,
    refused: Option<ValidationFault>,
}

impl<'v> PropertyValidation<'v> {
    fn new(set: &'v FeatureSet, event: &'v CustomerEvent) -> Self {
        Self { set, event, warnings: Vec::new(), refused: None }
    }

    /// The value to store; `None` for a property that is dropped.
    fn validate(&mut self, name: &str, value: PropertyValue) -> Option<PropertyValue> {
        let expected = self.set.expected(self.event, name)?;
        let is_trait = self.event.kind == EventKind::Identify;
        match &value {
            PropertyValue::Null => return is_trait.then_some(PropertyValue::Null),
            PropertyValue::Text(text) if is_trait && text.trim().is_empty() => {
                return Some(PropertyValue::Null);
            }
            _ => {}
        }
        convert::convert(expected, value).map_err(|fault| self.record(name, fault)).ok()
    }

    fn record(&mut self, name: &str, fault: ConversionFault) {
        let parent = match self.event.kind {
            EventKind::Identify | EventKind::Group => "traits",
            _ => "properties",
        };
        let path = format!("{parent}.{name}");
        match fault {
            ConversionFault::LeftOut(problem) => {
                self.warnings.push(ValidationFault::new(path, problem));
            }
            ConversionFault::Refused(problem) => {
                self.refused.get_or_insert(ValidationFault::new(path, problem));
            }
        }
    }
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
