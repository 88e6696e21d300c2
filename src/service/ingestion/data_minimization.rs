//! Data minimisation: removes undeclared properties and names from events before storage.

use crate::config::EventNames;
use crate::domain::event::CustomerEvent;
use crate::domain::fault::Faults;
use crate::domain::wire::ParsedMessage;
use crate::service::ingestion::IngestionService;
use crate::service::scoring::deployment::Deployment;

impl IngestionService {
    /// Removes what no feature reads from a message, and refuses a message that no
    /// feature could read. An event without its name is counted all the same.
    pub(crate) fn admit(
        &self,
        deployment: &Deployment,
        ParsedMessage { event, is_anonymous, link, raw }: ParsedMessage,
    ) -> Result<ParsedMessage, Faults> {
        let mut event = deployment.features.admit(event).map_err(|fault| Faults(vec![fault]))?;
        if !event.name.is_empty() && !self.stores_name(deployment, &event) {
            event.name = Box::default();
        }
        Ok(ParsedMessage { event, is_anonymous, link, raw })
    }

    fn stores_name(&self, deployment: &Deployment, event: &CustomerEvent) -> bool {
        match &self.settings.event_names {
            EventNames::All => true,
            EventNames::Declared { also } => {
                deployment.features.reads_name(event) || also.contains(&event.name)
            }
        }
    }
}
