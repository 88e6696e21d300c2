//! `/v1/customers/{customer_id}/links`: identity links, their status, and removal.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::customers::CustomerIdPath;
use crate::api::customers::{find_customer, parse_customer_id};
use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{Admin, AuthorizedCaller, PathParameters, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::links::{CustomerLinkRow, LinkKey};
use crate::store::customers::{identity, links};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LinkListQuery {
    /// Links per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<100, 1000>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<LinkKey>>,
}

/// A page of the links between a customer's ids, by `from_id`, then by time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CustomerLinkListBody {
    /// The surviving id after merges.
    #[schema(example = "1510")]
    customer_id: String,
    links: Vec<CustomerLinkBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// A link from one id to another.
#[derive(Debug, Serialize, ToSchema)]
struct CustomerLinkBody {
    /// The linked id, such as an anonymous id.
    #[schema(example = "visitor-93")]
    from_id: String,
    /// The id that it was linked to.
    #[schema(example = "1510")]
    to_id: String,
    /// Whether an event of type `alias` stated it, which may merge two known customers. Another
    /// link ends once an event of a trusted sender names its `from_id` as `customer_id`.
    is_alias: bool,
    status: CustomerLinkStatus,
    /// Time of the first event that stated the link; null if the link is removed.
    happened_at: Option<Timestamp>,
    /// Message id of this event; null if the link is removed.
    #[schema(example = "m-1")]
    message_id: Option<String>,
    /// Statements of the link up to this instant are ignored; null: none.
    ignored_until: Option<Timestamp>,
}

/// Whether a link is followed. `applied`: both ids are one customer. `superseded`: an earlier
/// link from the same id takes precedence. `not_applied`: the link would close a cycle or exceed
/// the limit of ids. `removed`: deleted by an API call.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CustomerLinkStatus {
    Applied,
    Superseded,
    NotApplied,
    Removed,
}

/// List the links between a customer's ids.
#[utoipa::path(
    get,
    path = "/v1/customers/{customer_id}/links",
    tag = "Customers",
    security(("key" = ["read"])),
    params(CustomerIdPath, LinkListQuery),
    responses(
        (status = 200, body = CustomerLinkListBody, description = "The links with their status"),
        (status = 404, description = "There is no such customer"),
    )
)]
pub(crate) async fn list_customer_links(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
    QueryParameters(query): QueryParameters<LinkListQuery>,
) -> Result<Json<CustomerLinkListBody>, ApiError> {
    let customer = find_customer(&state, &id).await?;
    let mut ids = identity::list_merged_ids(&state.db, &customer).await?;
    ids.push(customer.clone());
    let limit = query.limit.get();
    let after = query.cursor.map(|PageCursor(key)| key);
    let rows = links::list_page(&state.db, &ids, after.as_ref(), limit).await?;
    let next_cursor = PageCursor::after(&rows, limit, sort_key);
    let links = rows.into_iter().map(CustomerLinkBody::from).collect();
    Ok(Json(CustomerLinkListBody { customer_id: customer.into(), links, next_cursor }))
}

fn sort_key(row: &CustomerLinkRow) -> LinkKey {
    let happened_at = row.recorded.asserted.as_ref().map(|(at, _)| *at);
    let (from, to) = (row.link.from.as_str(), row.link.to.as_str());
    (from.to_owned(), happened_at, to.to_owned(), row.is_alias)
}

impl From<CustomerLinkRow> for CustomerLinkBody {
    fn from(row: CustomerLinkRow) -> Self {
        let status = match &row.recorded.asserted {
            None => CustomerLinkStatus::Removed,
            Some(_) if row.is_same_customer => CustomerLinkStatus::Applied,
            Some(_) if row.is_first => CustomerLinkStatus::NotApplied,
            Some(_) => CustomerLinkStatus::Superseded,
        };
        let (happened_at, message_id) = row.recorded.asserted.unzip();
        Self {
            from_id: row.link.from.into(),
            to_id: row.link.to.into(),
            is_alias: row.is_alias,
            status,
            happened_at,
            message_id: message_id.map(Into::into),
            ignored_until: row.recorded.ignored_until,
        }
    }
}

/// The customers of both ids of a removed link.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemovedLinkBody {
    from: SurvivingIdBody,
    to: SurvivingIdBody,
}

/// An id, and the surviving id of its customer.
#[derive(Debug, Serialize, ToSchema)]
struct SurvivingIdBody {
    /// An id of the removed link.
    #[schema(example = "visitor-93")]
    id: String,
    /// The surviving id of its customer.
    #[schema(example = "visitor-93")]
    customer_id: String,
}

/// Remove the link of an id to this customer.
///
/// Both customers are rebuilt as if the link had never existed; another link from the same id may
/// apply instead. The link applies again after a new event that states it, but not after a
/// repeated or late event.
#[utoipa::path(
    delete,
    path = "/v1/customers/{customer_id}/links/{from_id}",
    tag = "Customers",
    security(("key" = ["admin"])),
    params(
        CustomerIdPath,
        ("from_id" = String, Path, description = "The linked id"),
    ),
    responses(
        (status = 200, body = RemovedLinkBody, description = "The customers of both ids now"),
        (status = 404, description = "There is no such link"),
    )
)]
pub(crate) async fn remove_customer_link(
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
