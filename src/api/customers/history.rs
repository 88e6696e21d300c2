//! `GET /v1/customers/{customer_id}/history`: changes of assignment of one customer.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::customers::CustomerIdPath;
use crate::api::customers::{find_customer, requested_id};
use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::time::Timestamp;
use crate::store::customers::history;
use crate::store::customers::history::{HistoryEntry, HistoryKey, HistoryPage};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CustomerHistoryQuery {
    /// Changes per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<50, 500>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<HistoryKey>>,
}

/// A page of a customer's changes of segment, model or audience, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CustomerHistoryBody {
    /// The surviving id after merges.
    #[schema(example = "1510")]
    customer_id: String,
    /// The id in the request; left out if it is the surviving id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "visitor-93")]
    requested_id: Option<String>,
    /// One entry for each change of segment, model or audience.
    changes: Vec<CustomerHistoryEntryBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// The assignment of a customer after a change of segment, model or audience.
#[derive(Debug, Serialize, ToSchema)]
struct CustomerHistoryEntryBody {
    /// Instant of the change.
    assigned_at: Timestamp,
    /// Id of the model; null for the rule-based fallback.
    #[schema(example = "6c1f0a5e7d2b4c93a8e0f1d25b7c6a4983de12f07b5c4a69d8e3f01c2b7a5d64")]
    model_id: Option<String>,
    /// Whether the rule-based fallback answered.
    fallback: bool,
    /// Id of the segment; `unassigned` outside of every segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    /// Name of the segment.
    #[schema(example = "Loyal Customers")]
    segment_name: String,
    /// Distance to the segment, in encoded units; null for the rule-based fallback.
    #[schema(example = 0.42)]
    distance: Option<f32>,
    /// Whether the customer was an outlier.
    outlier: bool,
    /// Number of the deployment that scored.
    #[schema(example = 7)]
    generation: i64,
    /// Names of the audiences that the customer entered.
    #[schema(example = json!(["vip_at_risk"]))]
    audiences_entered: Vec<String>,
    /// Names of the audiences that the customer left.
    #[schema(example = json!([]))]
    audiences_left: Vec<String>,
}

impl From<HistoryEntry> for CustomerHistoryEntryBody {
    fn from(entry: HistoryEntry) -> Self {
        Self {
            assigned_at: entry.assigned_at,
            fallback: entry.model.is_none(),
            model_id: entry.model.map(Into::into),
            segment_id: entry.segment.id.into(),
            segment_name: entry.segment.name.into(),
            distance: entry.distance,
            outlier: entry.outlier,
            generation: entry.generation,
            audiences_entered: entry.audiences_entered,
            audiences_left: entry.audiences_left,
        }
    }
}

/// List a customer's changes of segment, model or audience.
///
/// Newest first. Changes older than `history.retention_days` are deleted by the month.
#[utoipa::path(
    get,
    path = "/v1/customers/{customer_id}/history",
    tag = "Customers",
    security(("key" = ["read"])),
    params(CustomerIdPath, CustomerHistoryQuery),
    responses(
        (status = 200, body = CustomerHistoryBody, description = "The changes"),
        (status = 404, description = "There is no such customer"),
    )
)]
pub(crate) async fn list_customer_history(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
    QueryParameters(query): QueryParameters<CustomerHistoryQuery>,
) -> Result<Json<CustomerHistoryBody>, ApiError> {
    let customer = find_customer(&state, &id).await?;
    let limit = query.limit.get();
    let page = HistoryPage { after: query.cursor.map(|PageCursor(key)| key), limit };
    let rows = history::list_history(&state.db, &customer, &page).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| (row.assigned_at, row.change));
    Ok(Json(CustomerHistoryBody {
        requested_id: requested_id(&customer, id),
        customer_id: customer.into(),
        changes: rows.into_iter().map(Into::into).collect(),
        next_cursor,
    }))
}
