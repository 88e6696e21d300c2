//! Alerting endpoints: alerts, notification channels, deliveries and silences.

pub(crate) mod alerts;
pub(crate) mod channels;
pub(crate) mod deliveries;
pub(crate) mod silences;
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use axum::routing::{delete, get, post};

pub(super) fn routes() -> Vec<ApiRoute> {
    let channel =
        get(channels::get_channel).put(channels::put_channel).delete(channels::delete_channel);
    let channels = get(channels::get_channels).post(channels::post_channel);
    let silences = get(silences::get_silences).post(silences::post_silence);
    vec![
        ApiRoute::undescribed("/v1/alerts", &["GET"], get(alerts::get_alerts), RouteKind::Manage),
        ApiRoute::undescribed(
            "/v1/alerts/{id}",
            &["GET"],
            get(alerts::get_alert),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/alerts/{id}/picture.svg",
            &["GET"],
            get(alerts::get_picture),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/alerts/{id}/acknowledge",
            &["POST"],
            post(alerts::post_acknowledge),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed("/v1/silences", &["GET", "POST"], silences, RouteKind::Manage),
        ApiRoute::undescribed(
            "/v1/silences/{id}",
            &["DELETE"],
            delete(silences::delete_silence),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed("/v1/channels", &["GET", "POST"], channels, RouteKind::Manage),
        ApiRoute::undescribed(
            "/v1/channels/{id}",
            &["GET", "PUT", "DELETE"],
            channel,
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/channels/{id}/enable",
            &["POST"],
            post(channels::post_enable),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/channels/{id}/test",
            &["POST"],
            post(channels::post_test),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/channels/{id}/deliveries",
            &["GET"],
            get(deliveries::get_deliveries),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/channels/{id}/replay",
            &["POST"],
            post(deliveries::post_replay_range),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/deliveries/{id}/replay",
            &["POST"],
            post(deliveries::post_replay),
            RouteKind::Manage,
        ),
    ]
}
