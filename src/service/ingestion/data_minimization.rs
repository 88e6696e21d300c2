//! Data minimisation: removes undeclared properties and names from events before storage.

use std::borrow::Cow;

use crate::config::StoredEventNames;
use crate::domain::event::CustomerEvent;
use crate::domain::event::unused::{UnusedEvent, UnusedEventName, UnusedReason};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{UnusedWarning, ValidatedEvent};
use crate::domain::wire::ParsedMessage;
use crate::service::ingestion::IngestionService;
use crate::service::ingestion::exposures::read_exposure;
use crate::service::scoring::deployment::Deployment;
use crate::telemetry::labels::ExposureOutcome;

impl IngestionService {
    /// Removes what no feature reads from a message, and refuses a message that no
    /// feature could read. An event without its name is counted all the same.
    pub(crate) fn minimize(
        &self,
        deployment: &Deployment,
        mut message: ParsedMessage,
    ) -> Result<ParsedMessage, ValidationFaults> {
        let exposure = read_exposure(deployment, &message.event);
        let ValidatedEvent { mut event, mut warnings, mut unused } = deployment
            .features
            .validate_event(message.event)
            .map_err(|fault| ValidationFaults(vec![fault]))?;
        // An exposure is useful, also if no feature reads it.
        if exposure.is_some()
            && let Some(unread) = unused.take_if(|one| one.reason == UnusedReason::Unread)
        {
            warnings.remove(unread.index);
        }
        match exposure {
            None => {}
            Some(Ok(exposure)) => message.exposure = Some(exposure),
            Some(Err(fault)) => {
                self.core.metrics.ingestion.exposures.add(ExposureOutcome::Refused, 1);
                warnings.push(fault);
            }
        }
        let hides_name = !event.name.is_empty() && !self.stores_name(deployment, &event);
        if hides_name {
            event.name = Box::default();
        }
        message.unused = unused.and_then(|unused| {
            let warning = warnings.get(unused.index)?;
            Some(Box::new(unused_event(&event, unused, warning, hides_name)))
        });
        message.warnings.extend(warnings);
        Ok(ParsedMessage { event, ..message })
    }

    fn stores_name(&self, deployment: &Deployment, event: &CustomerEvent) -> bool {
        match &self.settings.event_names {
            StoredEventNames::All => true,
            StoredEventNames::Declared { also } => {
                deployment.features.selects_by_name(event) || also.contains(&event.name)
            }
        }
    }
}

/// The event as it is counted. Its name has been removed if `hides_name`.
fn unused_event(
    event: &CustomerEvent,
    unused: UnusedWarning,
    warning: &ValidationFault,
    hides_name: bool,
) -> UnusedEvent {
    let UnusedWarning { reason, nearest_name, index: _ } = unused;
    let property = match reason {
        UnusedReason::Unread => "",
        UnusedReason::MissingProperty => {
            warning.path.split_once('.').map_or(&*warning.path, |(_, property)| property)
        }
    };
    // The warning about an unread event quotes its name; the other one does not.
    let text: Cow<'_, str> = match (reason, &nearest_name) {
        (UnusedReason::Unread, Some(nearest)) if hides_name => {
            format!("no feature reads the event; did you mean `{nearest}`?").into()
        }
        (UnusedReason::Unread, None) if hides_name => {
            "no feature reads the event, and no declared name is similar".into()
        }
        _ => Cow::Borrowed(&*warning.problem),
    };
    let name = UnusedEventName {
        kind: event.kind,
        name: event.name.clone(),
        nearest_name: nearest_name.unwrap_or_default(),
        property: property.into(),
    };
    UnusedEvent::new(reason, name, &text)
}
