//! Data minimisation: removes undeclared properties and names from events before storage.

use crate::config::StoredEventNames;
use crate::domain::event::CustomerEvent;
use crate::domain::fault::ValidationFaults;
use crate::domain::feature::ValidatedEvent;
use crate::domain::wire::ParsedMessage;
use crate::service::ingestion::IngestionService;
use crate::service::scoring::deployment::Deployment;

impl IngestionService {
    /// Removes what no feature reads from a message, and refuses a message that no
    /// feature could read. An event without its name is counted all the same.
    pub(crate) fn minimize(
        &self,
        deployment: &Deployment,
        mut message: ParsedMessage,
    ) -> Result<ParsedMessage, ValidationFaults> {
        let ValidatedEvent { mut event, warnings } = deployment
            .features
            .validate_event(message.event)
            .map_err(|fault| ValidationFaults(vec![fault]))?;
        message.warnings.extend(warnings);
        if !event.name.is_empty() && !self.stores_name(deployment, &event) {
            event.name = Box::default();
        }
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
