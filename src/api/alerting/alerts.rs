//! `/v1/alerts…`: list, show and acknowledge alerts.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::api::alerting::deliveries::DeliveryBody;
use crate::api::request::parameters::{last_of_full_page, page_cursor, page_limit};
use crate::api::request::{
    AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, Train, parse_optional_json,
};
use crate::api::{ApiError, ApiState, html_page};
use crate::domain::alert::{AlertFact, AlertTopic};
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::service::api_keys::KeyAuthenticator;
use crate::store::alerting;
use crate::store::alerting::delivery_log::DeliveryLogFilter;
use crate::store::alerting::{AlertFilter, AlertRow, delivery_log};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;
/// Most deliveries in the response for one alert; the latest.
const MOST_DELIVERIES: i64 = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertsQuery {
    state: Option<String>,
    owner: Option<String>,
    topic: Option<AlertTopic>,
    before: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AlertsBody {
    alerts: Vec<AlertBody>,
    /// Send this as `before` for the next page; null on the last page.
    next_before: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AlertBody {
    alert: String,
    key: String,
    topic: AlertTopic,
    state: &'static str,
    severity: Severity,
    owner: Option<String>,
    subject: BTreeMap<String, String>,
    title: String,
    description: String,
    advice: String,
    facts: Vec<AlertFact>,
    /// Path of the picture.
    picture_url: Option<String>,
    started_at: Timestamp,
    /// Later than `started_at` if the alert was resolved for a short while.
    fired_at: Timestamp,
    last_seen_at: Timestamp,
    /// No notification is sent yet, as the alert was resolved a short while ago.
    is_notification_suppressed: bool,
    resolved_at: Option<Timestamp>,
    resolved_reason: Option<String>,
    acknowledged_at: Option<Timestamp>,
    acknowledged_by: Option<String>,
    /// Name of the key.
    acknowledged_by_name: Option<String>,
    acknowledged_note: Option<String>,
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
            alert: row.alert_id,
            key: row.state.key,
            topic: row.state.topic,
            state: if resolved_at.is_none() { "firing" } else { "resolved" },
            severity: row.state.severity,
            owner: row.state.owner,
            subject: row.subject,
            title: row.title,
            description: row.description,
            advice: row.advice,
            facts: row.facts,
            started_at: row.started_at,
            fired_at: row.state.fired_at,
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

pub(crate) async fn get_alerts(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<AlertsQuery>,
) -> Result<Json<AlertsBody>, ApiError> {
    let is_firing = match query.state.as_deref() {
        None | Some("firing") => Some(true),
        Some("resolved") => Some(false),
        Some("all") => None,
        Some(other) => {
            let problem = format!("is `{other}`, not `firing`, `resolved` or `all`");
            return Err(ApiError::invalid("state", problem));
        }
    };
    let limit = page_limit(query.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let before = query.before.as_deref().map(page_cursor).transpose()?;
    let filter = AlertFilter { is_firing, owner: query.owner, topic: query.topic };
    let rows = alerting::list(&state.db, &filter, before, limit).await?;
    let next_before = last_of_full_page(&rows, limit).map(|row| row.position.to_string());
    let alerts = rows.into_iter().map(|row| AlertBody::new(row, &state.api_keys)).collect();
    Ok(Json(AlertsBody { alerts, next_before }))
}

/// One alert with its deliveries.
#[derive(Debug, Serialize)]
pub(crate) struct AlertDetailBody {
    #[serde(flatten)]
    alert: AlertBody,
    /// Newest first.
    deliveries: Vec<DeliveryBody>,
}

pub(crate) async fn get_alert(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<AlertDetailBody>, ApiError> {
    let row = alerting::find(&state.db, &id).await?;
    let row = row.ok_or_else(|| ApiError::not_found(&format!("alert `{id}`")))?;
    let sent =
        delivery_log::list(&state.db, DeliveryLogFilter::Alert(&id), None, MOST_DELIVERIES).await?;
    let deliveries = sent.into_iter().map(Into::into).collect();
    Ok(Json(AlertDetailBody { alert: AlertBody::new(row, &state.api_keys), deliveries }))
}

pub(crate) async fn get_picture(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Response, ApiError> {
    let picture = alerting::find_picture(&state.db, &id).await?;
    let picture = picture.ok_or_else(|| ApiError::not_found(&format!("picture of `{id}`")))?;
    Ok(html_page::svg(picture.svg))
}

/// Request to acknowledge an alert; the body is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcknowledgeRequest {
    #[serde(default)]
    note: String,
}

pub(crate) async fn post_acknowledge(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<AlertBody>, ApiError> {
    let AcknowledgeRequest { note } = parse_optional_json(&body)?;
    let row = state.alerts.acknowledge_alert(&id, caller.actor(note)).await?;
    Ok(Json(AlertBody::new(row, &state.api_keys)))
}
