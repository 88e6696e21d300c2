//! `GET /v1/audiences/{name}/customers`: the members of an audience.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::audiences::{AudienceNamePath, find_version};
use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::store::audiences;
use crate::store::audiences::MemberKey;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AudienceMemberQuery {
    /// Customers per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<1000, 10000>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<MemberKey>>,
}

/// A page of the members of an audience, in no particular order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AudienceMemberListBody {
    /// Ids of the customers.
    #[schema(example = json!(["1510", "1522"]))]
    customers: Vec<String>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// List the customers in an audience.
///
/// A customer that enters or leaves an audience between two pages may be missing or listed twice:
/// follow `GET /v1/changes?audience=…` for exact entries and exits.
#[utoipa::path(
    get,
    path = "/v1/audiences/{name}/customers",
    tag = "Audiences",
    security(("key" = ["read"])),
    params(AudienceNamePath, AudienceMemberQuery),
    responses(
        (status = 200, body = AudienceMemberListBody, description = "The customers"),
        (status = 404, description = "There is no such audience"),
    )
)]
pub(super) async fn list_audience_customers(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(name): PathParameters<String>,
    QueryParameters(query): QueryParameters<AudienceMemberQuery>,
) -> Result<Json<AudienceMemberListBody>, ApiError> {
    let audience_id = find_version(&state, &name).await?.audience_id;
    let limit = query.limit.get();
    let after = query.cursor.map(|PageCursor(key)| key);
    let rows = audiences::list_members(&state.db, audience_id, after.as_ref(), limit).await?;
    let next_cursor = PageCursor::after(&rows, limit, |(key, _)| key.clone());
    let customers = rows.into_iter().map(|(_, customer)| customer.into()).collect();
    Ok(Json(AudienceMemberListBody { customers, next_cursor }))
}
