//! The explanation of a conflict: an event with the id of another event, but other content.

use crate::domain::fault::ValidationFaults;
use crate::domain::time::Timestamp;
use crate::domain::wire::IngestionEndpoint;

/// The fault of an event whose id is that of an event that was received at `stored_at`.
pub(crate) fn conflict_faults(
    endpoint: IngestionEndpoint,
    stored_at: Timestamp,
) -> ValidationFaults {
    let field = match endpoint {
        IngestionEndpoint::Events | IngestionEndpoint::Bulk => "message_id",
        IngestionEndpoint::Segment => "messageId",
    };
    let problem = format!(
        "belongs to an event of this customer with other content; that one was received at \
         {stored_at} and counts, this one does not: send a different event with an id of its own"
    );
    ValidationFaults::single(field, problem)
}
