//! Warnings about events, or parts of them, that no feature uses: most often a misspelt name.

use crate::domain::event::{CustomerEvent, EventKind};
use crate::domain::fault::ValidationFault;
use crate::domain::feature::reading::event::EventReading;
use crate::domain::feature::set::FeatureSet;
use crate::domain::feature::source::FeatureFold;
use crate::domain::nearest::nearest_name;

/// Names that a warning lists.
const MAX_LISTED: usize = 8;

/// A warning about an event that no feature and no trait reads.
pub(super) struct UnreadEvent {
    pub(super) warning: ValidationFault,
    /// The declared name that was probably meant.
    pub(super) nearest_name: Option<Box<str>>,
}

impl FeatureSet {
    /// A warning about an event as sent that no feature and no trait reads; `None` if one does.
    pub(super) fn unused_event(&self, event: &CustomerEvent) -> Option<UnreadEvent> {
        match event.kind {
            EventKind::Alias => None,
            EventKind::Identify => {
                let warning = self.unused_traits(event)?;
                Some(UnreadEvent { warning, nearest_name: None })
            }
            _ if self.routes_of(event).next().is_some() => None,
            _ => Some(self.unread_name(event)),
        }
    }

    fn unused_traits(&self, event: &CustomerEvent) -> Option<ValidationFault> {
        let mut sent = event.properties.iter().map(|(name, _)| name).peekable();
        // An event without traits links ids.
        sent.peek()?;
        let is_declared = |name: &str| self.traits().iter().any(|declared| &*declared.name == name);
        if sent.any(is_declared) {
            return None;
        }
        let declared: Vec<&str> = self.traits().iter().map(|declared| &*declared.name).collect();
        let problem = match declared.as_slice() {
            [] => "are not used: the feature set declares no traits".to_owned(),
            names => format!("are not used: the declared traits are {}", listed(names)),
        };
        Some(ValidationFault::new("traits", problem))
    }

    fn unread_name(&self, event: &CustomerEvent) -> UnreadEvent {
        let kind = event.kind.as_str();
        let mut names: Vec<&str> = Vec::new();
        for route in self.routes() {
            let takes_kind = route.head.kind.map_or(event.kind.is_behaviour(), |k| k == event.kind);
            if let Some(name) = route.head.name.as_deref().filter(|_| takes_kind)
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        if names.is_empty() {
            let problem = format!("no feature reads events of the type `{kind}`");
            let warning = ValidationFault::new("event", problem);
            return UnreadEvent { warning, nearest_name: None };
        }
        let same = |candidate: &&&str| candidate.eq_ignore_ascii_case(&event.name);
        let meant = names.iter().find(same).copied();
        let meant = meant.or_else(|| nearest_name(&event.name, names.iter().copied()));
        let problem = match meant {
            Some(meant) => {
                format!("no feature reads `{}`; did you mean `{meant}`?", event.name)
            }
            None => format!(
                "no feature reads `{}`; the names that features read are {}",
                event.name,
                listed(&names)
            ),
        };
        let warning = ValidationFault::new("event", problem);
        UnreadEvent { warning, nearest_name: meant.map(Into::into) }
    }

    /// A warning about a converted event that the monetary feature of the fallback rules reads
    /// and that has none of the amounts it adds. Orders have a warning of their own.
    pub(super) fn missing_amount(&self, event: &CustomerEvent) -> Option<ValidationFault> {
        let at = self.zone().at(event.timestamp.millis());
        let reading = EventReading { event, at, element: None };
        for index in self.monetary_sources() {
            let source = &self.event_sources()[*index];
            let FeatureFold::Sum { terms } = &source.fold else { continue };
            let is_read = source.each.is_none()
                && source.filter_of(event).is_some()
                && source.conditions.iter().all(|condition| condition.is_met_by(reading))
                && terms.iter().all(|term| term.value(reading).is_none());
            if let (true, Some(missing)) = (is_read, terms.first()?.properties().first()) {
                let feature = &self.rfm().monetary.feature;
                let problem = format!("is missing: the event adds nothing to `{feature}`");
                return Some(ValidationFault::new(format!("properties.{}", missing.name), problem));
            }
        }
        None
    }
}

/// The names in back quotes, shortened if they are many.
fn listed(names: &[&str]) -> String {
    let mut text: Vec<String> =
        names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    if names.len() > MAX_LISTED {
        text.push("…".to_owned());
    }
    text.join(", ")
}
