//! `/v1/customers/{id}/links`: identity links, their status, and removal.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::customers::{find_customer, parse_customer_id};
use crate::api::request::{Admin, AuthorizedCaller, PathParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::links::CustomerLinkRow;
use crate::store::customers::{identity, links};

/// Most links in a response: a shared device can have any number of links.
const MAX_LINKS: i64 = 1000;

#[derive(Debug, Serialize)]
pub(crate) struct LinksBody {
    customer_id: String,
    /// Ordered by the id in `from`, then by time.
    links: Vec<LinkBody>,
}

#[derive(Debug, Serialize)]
struct LinkBody {
    from: String,
    to: String,
    /// Stated by an `alias`: it may merge two known customers.
    is_alias: bool,
    status: &'static str,
    /// Time and message id of the first event that asserted the link.
    happened_at: Option<Timestamp>,
    message_id: Option<String>,
    /// Assertions dated up to this instant are ignored.
    ignored_until: Option<Timestamp>,
}

pub(crate) async fn get_links(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<LinksBody>, ApiError> {
    let customer = find_customer(&state, &id).await?;
    let mut ids = identity::list_merged_ids(&state.db, &customer).await?;
    ids.push(customer.clone());
    let links = links::list(&state.db, &ids, MAX_LINKS).await?;
    let links = links.into_iter().map(LinkBody::from).collect();
    Ok(Json(LinksBody { customer_id: customer.into(), links }))
}

impl From<CustomerLinkRow> for LinkBody {
    fn from(line: CustomerLinkRow) -> Self {
        let status = match &line.recorded.asserted {
            None => "removed",
            Some(_) if line.is_same_customer => "applied",
            Some(_) if line.is_first => "not_applied",
            Some(_) => "superseded",
        };
        let (happened_at, message_id) = line.recorded.asserted.unzip();
        Self {
            from: line.link.from.into(),
            to: line.link.to.into(),
            is_alias: line.is_alias,
            status,
            happened_at,
            message_id: message_id.map(Into::into),
            ignored_until: line.recorded.ignored_until,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct RemovedLinkBody {
    from: SurvivingIdBody,
    to: SurvivingIdBody,
}

/// An id, and the surviving id of its customer.
#[derive(Debug, Serialize)]
struct SurvivingIdBody {
    id: String,
    customer_id: String,
}

pub(crate) async fn delete_link(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Admin>,
    PathParameters((id, from)): PathParameters<(String, String)>,
) -> Result<Json<RemovedLinkBody>, ApiError> {
    let unlinked =
        state.ingestion.remove_link(&parse_customer_id(&id)?, &parse_customer_id(&from)?).await?;
    Ok(Json(RemovedLinkBody {
        from: SurvivingIdBody::new(unlinked.link.from, unlinked.from_customer),
        to: SurvivingIdBody::new(unlinked.link.to, unlinked.to_customer),
    }))
}

impl SurvivingIdBody {
    fn new(id: CustomerKey, customer: CustomerKey) -> Self {
        Self { id: id.into(), customer_id: customer.into() }
    }
}
