//! Alerting endpoints: alerts, notification channels, deliveries and silences.

pub(crate) mod alerts;
pub(crate) mod channel_target;
pub(crate) mod channels;
pub(crate) mod deliveries;
pub(in crate::api) mod moves;
pub(crate) mod silences;

use utoipa_axum::routes;

use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;

pub(super) fn routes() -> Vec<ApiRoute> {
    let routes = [
        routes!(alerts::list_alerts),
        routes!(alerts::get_alert),
        routes!(alerts::get_alert_picture),
        routes!(alerts::acknowledge_alert),
        routes!(silences::list_silences, silences::create_silence),
        routes!(silences::end_silence),
        routes!(channels::list_channels, channels::create_channel),
        routes!(channels::get_channel, channels::replace_channel, channels::delete_channel),
        routes!(channels::enable_channel),
        routes!(channels::test_channel),
        routes!(deliveries::list_channel_deliveries),
        routes!(deliveries::replay_channel_deliveries),
        routes!(deliveries::replay_delivery),
    ];
    routes.into_iter().map(|routes| ApiRoute::new(routes, RouteKind::Manage)).collect()
}
