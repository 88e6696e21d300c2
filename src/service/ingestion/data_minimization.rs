//! Data minimisation: removes undeclared properties and names from events before storage.

use crate::config::EventNames;
use crate::domain::event::Event;
use crate::domain::fault::Faults;
use crate::domain::wire::Message;
use crate::service::ingestion::Intake;
use crate::service::scoring::deployment::Lineup;

impl Intake {
    /// Removes what no feature reads from a message, and refuses a message that no
    /// feature could read. An event without its name is counted all the same.
    pub(crate) fn admit(
        &self,
        deployment: &Lineup,
        Message { event, is_anonymous, link, raw }: Message,
    ) -> Result<Message, Faults> {
        let mut event = deployment.features.admit(event).map_err(|fault| Faults(vec![fault]))?;
        if !event.name.is_empty() && !self.stores_name(deployment, &event) {
            event.name = Box::default();
        }
        Ok(Message { event, is_anonymous, link, raw })
    }

    fn stores_name(&self, deployment: &Lineup, event: &Event) -> bool {
        match &self.settings.event_names {
            EventNames::All => true,
            EventNames::Declared { also } => {
                deployment.features.reads_name(event) || also.contains(&event.name)
            }
        }
    }
}
