//! The experiments that a customer takes part in, in answers about customers.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{ApiError, ApiState};
use crate::domain::experiment::spec::{CustomerContext, Participation, ParticipationRole};
use crate::domain::id::CustomerKey;
use crate::service::scoring::deployment::Deployment;
use crate::store::experiments::exposures;

/// Participation of a customer in one running experiment.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ParticipationBody {
    /// Key of the experiment.
    #[schema(example = "spring-mail")]
    experiment: String,
    /// Key of the variation to show; null for a customer of the holdout.
    #[schema(example = "mail")]
    variation: Option<String>,
    /// Whether the variation is the control.
    control: bool,
    /// Whether the customer is kept out of the experiment by its holdout.
    holdout: bool,
    /// Whether an exposure is recorded. The customer then keeps this variation, also after leaving the
    /// target of the experiment. Always false in `POST /v1/score`, which knows no exposures.
    exposed: bool,
}

impl From<&Participation> for ParticipationBody {
    fn from(participation: &Participation) -> Self {
        Self {
            experiment: participation.experiment.as_ref().to_owned(),
            variation: participation.variation.as_deref().map(ToOwned::to_owned),
            control: participation.role == ParticipationRole::Control,
            holdout: participation.role == ParticipationRole::Holdout,
            exposed: participation.is_exposed,
        }
    }
}

/// The experiments that a stored customer takes part in.
pub(in crate::api) async fn list_participations(
    state: &ApiState,
    deployment: &Deployment,
    customer: &CustomerKey,
    segment_id: &str,
    audiences: &[i32],
) -> Result<Vec<ParticipationBody>, ApiError> {
    let ids = deployment.experiments.running_ids();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let customer_id = customer.as_str();
    let seen = exposures::find_seen(&state.db, &[customer_id], &ids).await?;
    let seen = seen.get(customer_id).map_or(&[][..], Vec::as_slice);
    let context = CustomerContext { customer_id, segment_id, audiences, seen };
    let found = deployment.experiments.participations(&context);
    Ok(found.iter().map(ParticipationBody::from).collect())
}
