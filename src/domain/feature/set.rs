//! The feature set: everything one version of the features file declares.

use crate::domain::event::{Event, EventKind, Scalar};
use crate::domain::fault::{Fault, Faults};
use crate::domain::feature::define::{FeatureDef, Kind, TraitDef};
use crate::domain::feature::normal;
use crate::domain::feature::parse::{self, Declared};
use crate::domain::feature::rfm::RfmRules;
use crate::domain::feature::source::{EventSource, Head, PropertyType, Ratio, Source};
use crate::domain::id::FeatureSetId;
use crate::domain::text::{NUL_PROBLEM, is_storable};

/// Declared numbers lie within ± this: far beyond any price or quantity, and
/// small enough that sums cannot saturate (see `exact`).
pub const MAX_NUMBER: f64 = 1e12;
/// Declared texts are at most this long, so that state stays bounded.
pub const MAX_TEXT_BYTES: usize = 1024;

/// A checked, immutable set of features, traits and fallback rules.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSet {
    id: FeatureSetId,
    layout_tag: [u8; 8],
    normal_form: Box<str>,
    features: Vec<FeatureDef>,
    traits: Vec<TraitDef>,
    sources: Vec<Source>,
    event_sources: Vec<EventSource>,
    /// By event source: the slot of the state that it is read from.
    slot_of: Vec<usize>,
    /// By slot: the event source whose window reaches farthest back.
    keepers: Vec<usize>,
    routes: Vec<Route>,
    ratios: Vec<Ratio>,
    rfm: RfmRules,
}

/// Event sources with the same head: matched once per event for all of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    pub(super) head: Head,
    /// Slots, in order of first use.
    pub(super) slots: Vec<usize>,
    /// Every property they read, sorted by name.
    properties: Vec<(Box<str>, PropertyType)>,
}

impl FeatureSet {
    /// Reads a features file: TOML as `config/features.retail.toml` explains it.
    /// Refused with every fault, each with its line and what would be right.
    pub fn parse(toml_text: &str) -> Result<Self, Faults> {
        parse::from_toml(toml_text).map(Self::new)
    }

    /// Reads what [`Self::normal_form`] gave.
    pub fn from_normal_form(json_text: &str) -> Result<Self, Faults> {
        parse::from_json(json_text).map(Self::new)
    }

    fn new(declared: Declared) -> Self {
        let normal_form = normal::form(&declared).into_boxed_str();
        let id = FeatureSetId::of(normal_form.as_bytes());
        let (slot_of, keepers) = slots(&declared.event_sources);
        let routes = routes(&declared.event_sources, &slot_of);
        let Declared { traits, features, sources, event_sources, ratios, rfm } = declared;
        Self {
            layout_tag: layout_tag(&id),
            id,
            normal_form,
            features,
            traits,
            sources,
            event_sources,
            slot_of,
            keepers,
            routes,
            ratios,
            rfm,
        }
    }

    /// The SHA-256 of the normal form: comments and layout of the file do not
    /// change it, every declaration does.
    pub fn id(&self) -> &FeatureSetId {
        &self.id
    }

    /// The same declaration as canonical JSON: the file's keys in a fixed
    /// order, defaults written out, nothing else. What the store keeps.
    pub fn normal_form(&self) -> &str {
        &self.normal_form
    }

    /// In file order.
    pub fn features(&self) -> &[FeatureDef] {
        &self.features
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.features.iter().position(|feature| &*feature.name == name)
    }

    /// What the feature at this index holds when it is not missing.
    pub fn kind_of(&self, index: usize) -> Kind {
        match &self.sources[index] {
            Source::Events(at) => self.event_sources[*at].kind(),
            Source::Trait(at) => self.traits[*at].kind,
            Source::Ratio(_) => Kind::Number,
        }
    }

    /// In file order.
    pub fn traits(&self) -> &[TraitDef] {
        &self.traits
    }

    /// What the rule-based fallback reads.
    pub fn rfm(&self) -> &RfmRules {
        &self.rfm
    }

    /// Lets an event in: properties that no feature or trait reads are dropped.
    /// Refused is a declared property of the wrong type, a number beyond
    /// ±[`MAX_NUMBER`], a text longer than [`MAX_TEXT_BYTES`] or one that holds
    /// NUL, the one character that Postgres does not keep; the fault's path names
    /// the property: `properties.sales_value`. An `alias` is about identity,
    /// which no feature set declares: it stays as it is.
    pub fn admit(&self, mut event: Event) -> Result<Event, Fault> {
        if event.kind == EventKind::Alias {
            return Ok(event);
        }
        let mut properties = std::mem::take(&mut event.properties);
        for (name, value) in properties.iter() {
            if let Some(expected) = self.expected(&event, name) {
                check(expected, value)
                    .map_err(|problem| Fault::new(format!("properties.{name}"), problem))?;
            }
        }
        properties.retain(|name| self.expected(&event, name).is_some());
        event.properties = properties;
        Ok(event)
    }

    /// Whether a feature selects such events by their name.
    pub fn reads_name(&self, event: &Event) -> bool {
        self.routes_of(event).any(|route| route.head.name.is_some())
    }

    /// What a property of such an event must hold; `None` when nobody reads it.
    fn expected(&self, event: &Event, property: &str) -> Option<PropertyType> {
        if event.kind == EventKind::Identify {
            let def = self.traits.iter().find(|def| &*def.name == property)?;
            return Some(def.kind.into());
        }
        self.routes_of(event).filter_map(|route| route.property(property)).reduce(stricter)
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(super) fn event_sources(&self) -> &[EventSource] {
        &self.event_sources
    }

    /// The slot that an event source is read from.
    pub(super) fn slot_of(&self, event_source: usize) -> usize {
        self.slot_of[event_source]
    }

    /// By slot: the event source that it takes events in for.
    pub(super) fn keepers(&self) -> impl ExactSizeIterator<Item = &EventSource> {
        self.keepers.iter().map(|index| &self.event_sources[*index])
    }

    pub(super) fn keeper(&self, slot: usize) -> &EventSource {
        &self.event_sources[self.keepers[slot]]
    }

    /// Each ratio after those it is made of.
    pub(super) fn ratios(&self) -> &[Ratio] {
        &self.ratios
    }

    /// The routes this event takes.
    pub(super) fn routes_of<'s>(&'s self, event: &'s Event) -> impl Iterator<Item = &'s Route> {
        self.routes.iter().filter(|route| route.head.matches(event))
    }

    /// The first bytes of the id: what stored states are marked with.
    pub(super) const fn layout_tag(&self) -> [u8; 8] {
        self.layout_tag
    }
}

impl Route {
    fn property(&self, name: &str) -> Option<PropertyType> {
        let at = self.properties.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(self.properties[at].1)
    }
}

/// Sources that differ in how far back they look share the days of the one that
/// looks farthest: each reads its own part of them.
fn slots(event_sources: &[EventSource]) -> (Vec<usize>, Vec<usize>) {
    let (mut slot_of, mut keepers) = (Vec::new(), Vec::<usize>::new());
    for (index, source) in event_sources.iter().enumerate() {
        let slot = keepers.iter().position(|keeper| event_sources[*keeper].shares_with(source));
        let slot = slot.unwrap_or_else(|| {
            keepers.push(index);
            keepers.len() - 1
        });
        if event_sources[keepers[slot]].window.reach_days() < source.window.reach_days() {
            keepers[slot] = index;
        }
        slot_of.push(slot);
    }
    (slot_of, keepers)
}

/// Sources grouped by head, in order of first use.
fn routes(event_sources: &[EventSource], slot_of: &[usize]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for (index, source) in event_sources.iter().enumerate() {
        let at = routes.iter().position(|route| route.head == source.head).unwrap_or_else(|| {
            let head = source.head.clone();
            routes.push(Route { head, slots: Vec::new(), properties: Vec::new() });
            routes.len() - 1
        });
        let route = &mut routes[at];
        if !route.slots.contains(&slot_of[index]) {
            route.slots.push(slot_of[index]);
        }
        for (name, read_as) in source.properties() {
            match route.properties.binary_search_by(|(n, _)| (**n).cmp(name)) {
                Ok(at) => {
                    let held = &mut route.properties[at].1;
                    *held = stricter(*held, read_as);
                }
                Err(at) => route.properties.insert(at, (name.into(), read_as)),
            }
        }
    }
    routes
}

/// The checked file has no readers that contradict each other.
fn stricter(a: PropertyType, b: PropertyType) -> PropertyType {
    a.meet(b).unwrap_or(a)
}

/// What would be right, where `value` is not.
fn check(expected: PropertyType, value: &Scalar) -> Result<(), String> {
    if expected.meet(PropertyType::of(value)).is_none() {
        return Err(format!(
            "must be {}, as the feature set declares it; it is {}",
            expected.noun(),
            PropertyType::of(value).noun()
        ));
    }
    match value {
        Scalar::Number(n) if n.abs() > MAX_NUMBER => {
            Err(format!("must lie within ±{MAX_NUMBER:e}; it is {n:e}"))
        }
        Scalar::Text(text) if text.len() > MAX_TEXT_BYTES => {
            Err(format!("must be at most {MAX_TEXT_BYTES} bytes long; it is {}", text.len()))
        }
        Scalar::Text(text) if !is_storable(text) => Err(NUL_PROBLEM.to_owned()),
        _ => Ok(()),
    }
}

fn layout_tag(id: &FeatureSetId) -> [u8; 8] {
    let mut tag = [0; 8];
    for (byte, digits) in tag.iter_mut().zip(id.as_str().as_bytes().chunks_exact(2)) {
        let digit = |d: u8| (d as char).to_digit(16).unwrap_or_default() as u8;
        *byte = digit(digits[0]) << 4 | digit(digits[1]);
    }
    tag
}
