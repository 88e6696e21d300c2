//! `/v1/alerts…`: list, show and acknowledge alerts.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::alerting::deliveries::{AlertStateBody, DeliveryBody};
use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{
    AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, Train, parse_optional_json,
};
use crate::api::{ApiError, ApiState, html_page};
use crate::domain::alert::{AlertFact, AlertPart, AlertTopic};
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::service::api_keys::KeyAuthenticator;
use crate::store::alerting;
use crate::store::alerting::delivery_log::DeliveryLogFilter;
use crate::store::alerting::{AlertFilter, AlertRow, delivery_log};

/// The path parameter of one alert, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter only")]
pub(in crate::api) struct AlertIdPath {
    /// Id of the alert.
    alert_id: String,
}

/// Most deliveries in the response for one alert; the latest.
const MOST_DELIVERIES: i64 = 200;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertListQuery {
    /// Only alerts in this state; default `firing`.
    #[serde(default)]
    #[param(inline)]
    state: AlertStateFilter,
    /// Only alerts of this owner, which is an owner of a feature or of a stored alert.
    owner: Option<String>,
    /// Only alerts of this topic.
    #[param(inline)]
    topic: Option<AlertTopic>,
    /// Alerts per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<50, 500>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<i64>>,
}

/// Selects alerts by state.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AlertStateFilter {
    #[default]
    Firing,
    Resolved,
    All,
}

impl AlertStateFilter {
    fn is_firing(self) -> Option<bool> {
        match self {
            Self::Firing => Some(true),
            Self::Resolved => Some(false),
            Self::All => None,
        }
    }
}

/// A page of alerts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertListBody {
    alerts: Vec<AlertBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// An alert about data, models or the service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertBody {
    /// Id of the alert, the same in all its notifications.
    #[schema(example = "alert_5fbc0c7e9a31")]
    alert_id: String,
    /// Deduplication key. At most one alert of a key fires at any time.
    #[schema(example = "drift:values:rows:Order_Completed:Payments team")]
    key: String,
    #[schema(value_type = AlertTopic)]
    topic: &'static str,
    state: AlertStateBody,
    #[schema(value_type = Severity)]
    severity: &'static str,
    /// Owner of the data; null if the alert concerns no particular owner.
    #[schema(example = "Payments team")]
    owner: Option<String>,
    /// Labels that identify the subject, such as `about`, `source` or `channel`.
    #[schema(
        example = json!({ "about": "values", "source": "rows", "input": "Order_Completed" })
    )]
    subject: BTreeMap<String, String>,
    /// The problem in one line.
    #[schema(example = "Spend in the last year and 2 other features changed")]
    title: String,
    /// The problem in plain sentences; of drift, statistics follow as a second paragraph.
    #[schema(
        example = "3 features have changed together in the rows sent to be scored since 9 Feb \
                   2026, 14:00 UTC, most of all Spend in the last year, which rose: typically \
                   132 EUR, 90 EUR at training."
    )]
    description: String,
    /// The recommended action.
    #[schema(example = "Payments team: check whether the currency has changed.")]
    advice: String,
    /// Figures for people.
    facts: Vec<AlertFactBody>,
    /// The findings that the alert groups by their common cause, the most severe first: at most
    /// 100. Empty for an alert about one problem.
    parts: Vec<AlertPartBody>,
    /// Path of the picture; null if the alert has none.
    #[schema(example = "/v1/alerts/alert_5fbc0c7e9a31/picture.svg")]
    picture_url: Option<String>,
    /// The first observation of the problem.
    started_at: Timestamp,
    /// Start of the latest firing; later than `started_at` if the alert was resolved for a
    /// short while.
    fired_at: Timestamp,
    /// The latest announcement to channels that know the alert: `fired_at`, or the time at which
    /// a later part joined.
    announced_at: Timestamp,
    /// The last observation of the problem.
    last_seen_at: Timestamp,
    /// Whether no notification is sent, because the alert was resolved only a short while ago.
    is_notification_suppressed: bool,
    /// Resolution; null while the alert fires.
    resolved_at: Option<Timestamp>,
    /// Reason of the resolution; null while the alert fires.
    #[schema(example = "the difference has disappeared")]
    resolved_reason: Option<String>,
    /// Acknowledgement; null if there is none.
    acknowledged_at: Option<Timestamp>,
    /// Author of the acknowledgement: `key ` and the id of an API key.
    #[schema(example = "key 0050e0c5c045")]
    acknowledged_by: Option<String>,
    /// Name of the API key of the author; null if the key is unknown.
    #[schema(example = "on call")]
    acknowledged_by_name: Option<String>,
    /// Note of the acknowledgement.
    #[schema(example = "The importer is being repaired")]
    acknowledged_note: Option<String>,
}

/// One of the findings that an alert groups by their common cause.
#[derive(Debug, Serialize, ToSchema)]
struct AlertPartBody {
    /// The compared quantity: the `about` of a finding of `GET /v1/drift`.
    #[schema(example = "values")]
    about: String,
    /// Name of the feature; null: the part is about the model.
    #[schema(example = "spend_365d")]
    feature: Option<String>,
    /// Id of the segment to which the part is limited; null: all customers.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: Option<String>,
    /// The highest severity since the part began.
    #[schema(value_type = Severity)]
    severity: &'static str,
    /// The change in one sentence, when it was last found.
    #[schema(example = "Spend in the last year rose: typically 132 EUR, 90 EUR at training.")]
    description: String,
    /// Whether the finding disappears without the rows of one API key. No automatic action
    /// follows from such a part.
    depends_on_one_key: bool,
    /// The first check, or the first hour, that found it.
    since: Timestamp,
    /// When it was no longer found; null: it is a part of the problem now.
    ended_at: Option<Timestamp>,
}

impl From<AlertPart> for AlertPartBody {
    fn from(part: AlertPart) -> Self {
        Self {
            about: part.about,
            feature: part.feature,
            segment_id: part.segment_id,
            severity: part.severity.as_str(),
            description: part.description,
            depends_on_one_key: part.depends_on_one_key,
            since: part.since,
            ended_at: part.ended_at,
        }
    }
}

/// A named figure of an alert, formatted for people.
#[derive(Debug, Serialize, ToSchema)]
struct AlertFactBody {
    /// Name of the figure.
    #[schema(example = "PSI")]
    name: String,
    /// Its value as text.
    #[schema(example = "0.31")]
    value: String,
}

impl From<AlertFact> for AlertFactBody {
    fn from(fact: AlertFact) -> Self {
        Self { name: fact.name, value: fact.value }
    }
}

impl AlertBody {
    fn new(row: AlertRow, keys: &KeyAuthenticator) -> Self {
        let (resolved_at, resolved_reason) =
            row.resolved.map(|resolved| (resolved.at, resolved.reason)).unzip();
        let acknowledged = row.acknowledged;
        Self {
            picture_url: row
                .has_picture
                .then(|| format!("/v1/alerts/{}/picture.svg", row.alert_id)),
            alert_id: row.alert_id,
            key: row.state.key,
            topic: row.state.topic.as_str(),
            state: if resolved_at.is_none() {
                AlertStateBody::Firing
            } else {
                AlertStateBody::Resolved
            },
            severity: row.state.severity.as_str(),
            owner: row.state.owner,
            subject: row.subject,
            title: row.title,
            description: row.description,
            advice: row.advice,
            facts: row.facts.into_iter().map(Into::into).collect(),
            parts: row.parts.into_iter().map(Into::into).collect(),
            started_at: row.started_at,
            fired_at: row.state.fired_at,
            announced_at: row.state.announced_at,
            last_seen_at: row.last_seen_at,
            is_notification_suppressed: row.state.is_notification_suppressed,
            resolved_at,
            resolved_reason,
            acknowledged_at: acknowledged.as_ref().map(|one| one.at),
            acknowledged_by: acknowledged.as_ref().map(|one| one.by.clone()),
            acknowledged_by_name: acknowledged
                .as_ref()
                .and_then(|one| keys.name_of_author(&one.by)),
            acknowledged_note: acknowledged.map(|one| one.note),
        }
    }
}

/// List alerts, newest first.
///
/// Alerts about drift (one for the findings of a common cause), unusual event sources, failed training runs, rollbacks, failing channels
/// and low disk space, with figures, advice and acknowledgement.
#[utoipa::path(
    get,
    path = "/v1/alerts",
    tag = "Alerts",
    security(("key" = ["read"])),
    params(AlertListQuery),
    responses((status = 200, body = AlertListBody, description = "Alerts"))
)]
pub(crate) async fn list_alerts(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<AlertListQuery>,
) -> Result<Json<AlertListBody>, ApiError> {
    if let Some(owner) = &query.owner {
        refuse_unknown_owner(&state, owner).await?;
    }
    let limit = query.limit.get();
    let filter =
        AlertFilter { is_firing: query.state.is_firing(), owner: query.owner, topic: query.topic };
    let before = query.cursor.map(|PageCursor(position)| position);
    let rows = alerting::list(&state.db, &filter, before, limit).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| row.position);
    let alerts = rows.into_iter().map(|row| AlertBody::new(row, &state.api_keys)).collect();
    Ok(Json(AlertListBody { alerts, next_cursor }))
}

/// Refuses an owner that neither a feature nor a stored alert has.
async fn refuse_unknown_owner(state: &ApiState, owner: &str) -> Result<(), ApiError> {
    let deployment = state.deployments.snapshot();
    let mut owners: Vec<&str> =
        deployment.features.features().iter().map(|feature| &*feature.owner).collect();
    if owners.contains(&owner) || alerting::has_owner(&state.db, owner).await? {
        return Ok(());
    }
    owners.sort_unstable();
    owners.dedup();
    let known = owners.join("`, `");
    let problem = format!("there is no owner `{owner}`; the owners of features are `{known}`");
    Err(ApiError::invalid("owner", problem))
}

/// An alert with its deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertWithDeliveriesBody {
    #[serde(flatten)]
    alert: AlertBody,
    /// The latest 200 deliveries of the alert's notifications, newest first.
    deliveries: Vec<DeliveryBody>,
}

/// Get an alert with its deliveries.
///
/// `deliveries` are the notifications of the alert, each with all attempts.
#[utoipa::path(
    get,
    path = "/v1/alerts/{alert_id}",
    tag = "Alerts",
    security(("key" = ["read"])),
    params(AlertIdPath),
    responses(
        (status = 200, body = AlertWithDeliveriesBody, description = "The alert"),
        (status = 404, description = "There is no such alert"),
    )
)]
pub(crate) async fn get_alert(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(alert_id): PathParameters<String>,
) -> Result<Json<AlertWithDeliveriesBody>, ApiError> {
    let row = alerting::find(&state.db, &alert_id).await?;
    let row = row.ok_or_else(|| ApiError::not_found(&format!("alert `{alert_id}`")))?;
    let filter = DeliveryLogFilter::Alert(&alert_id);
    let rows = delivery_log::list(&state.db, filter, None, MOST_DELIVERIES).await?;
    let deliveries = rows.into_iter().map(Into::into).collect();
    Ok(Json(AlertWithDeliveriesBody { alert: AlertBody::new(row, &state.api_keys), deliveries }))
}

/// Draw the feature of an alert at training and last.
///
/// An SVG without scripts. Only alerts about the values of a feature have a picture.
#[utoipa::path(
    get,
    path = "/v1/alerts/{alert_id}/picture.svg",
    tag = "Alerts",
    security(("key" = ["read"])),
    params(AlertIdPath),
    responses(
        (status = 200, body = String, content_type = "image/svg+xml", description = "The picture"),
        (status = 404, description = "There is no such alert, or it has no picture"),
    )
)]
pub(crate) async fn get_alert_picture(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(alert_id): PathParameters<String>,
) -> Result<Response, ApiError> {
    let picture = alerting::find_picture(&state.db, &alert_id).await?;
    let picture =
        picture.ok_or_else(|| ApiError::not_found(&format!("picture of `{alert_id}`")))?;
    Ok(html_page::svg(picture.svg))
}

/// The acknowledgement of an alert.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AcknowledgeAlertRequest {
    /// A note for the readers of the alert; default empty.
    #[serde(default)]
    #[schema(max_length = 2000, example = "The importer is being repaired")]
    note: String,
}

/// Acknowledge an alert.
///
/// Channels with `escalation_delay_seconds` are not notified of it any more. The body is
/// optional.
#[utoipa::path(
    post,
    path = "/v1/alerts/{alert_id}/acknowledge",
    tag = "Alerts",
    security(("key" = ["train"])),
    params(AlertIdPath),
    request_body = Option<AcknowledgeAlertRequest>,
    responses(
        (status = 200, body = AlertBody, description = "The acknowledged alert"),
        (status = 404, description = "There is no such alert"),
        (status = 409, description = "The alert is resolved"),
    )
)]
pub(crate) async fn acknowledge_alert(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(alert_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<AlertBody>, ApiError> {
    let AcknowledgeAlertRequest { note } = parse_optional_json(&body)?;
    let row = state.alerts.acknowledge_alert(&alert_id, caller.actor(note)).await?;
    Ok(Json(AlertBody::new(row, &state.api_keys)))
}
