//! `GET /v1/segments/{segment_id}/value`: the value of a segment over time.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read, heavy_work};
use crate::api::{ApiError, ApiState, html_page};
use crate::domain::segment_value::picture::SegmentValuePicture;
use crate::domain::segment_value::{FlowPart, SegmentTotals, SegmentValueChange};
use crate::domain::time::Timestamp;
use crate::service::segment_value::{SegmentValueSeries, SegmentValueSnapshot, SeriesChange};

/// Snapshots of about a month.
const DEFAULT_DAYS: u32 = 28;
const MAX_DAYS: u32 = 400;
/// Snapshots that are drawn in a fraction of a millisecond.
const SMALL_PICTURE: usize = 30;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SegmentValueQuery {
    /// Number of days up to now; default 28.
    #[param(minimum = 1, maximum = 400)]
    days: Option<u32>,
}

impl SegmentValueQuery {
    fn days(&self) -> Result<u32, ApiError> {
        let days = self.days.unwrap_or(DEFAULT_DAYS);
        if (1..=MAX_DAYS).contains(&days) {
            return Ok(days);
        }
        Err(ApiError::invalid("days", format!("must be from 1 to {MAX_DAYS}, is {days}")))
    }
}

/// The value of a segment over time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SegmentValueSeriesBody {
    /// Id of the segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    /// Newest first.
    snapshots: Vec<SegmentValueSnapshotBody>,
    /// Why no further snapshot is taken; null if the next one is taken as scheduled.
    #[schema(
        example = "the active model has no model of customer value: the orders span 120 days; 270 are needed"
    )]
    missing: Option<String>,
}

/// What the customers of a segment were predicted to order and spend. Forecasts are for 90 days, by the
/// orders up to the day before the snapshot.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentValueSnapshotBody {
    /// When the snapshot was taken.
    taken_at: Timestamp,
    /// Name of the segment at the snapshot.
    #[schema(example = "Loyal Customers")]
    name: String,
    /// Id of the model that made the forecasts.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: String,
    /// Unit of amounts.
    #[schema(example = "USD")]
    unit: String,
    /// Customers in the segment.
    #[schema(example = 1180)]
    customers: u64,
    /// Null if the customers, or those with an order, are 1 to 4.
    figures: Option<SegmentFiguresBody>,
    /// Change since the previous snapshot; null for the first one, and if the segment was not in that.
    change: Option<SegmentValueChangeBody>,
    /// Change since the newest snapshot that was at least four weeks old; null if there is none.
    change_28_days: Option<SegmentValueChangeBody>,
}

/// Figures of a segment at a snapshot. Bounds are of 95 % prediction intervals, given the model; they do not
/// include the uncertainty of the fit.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentFiguresBody {
    /// Customers with an order before the day of the snapshot.
    #[schema(example = 1102)]
    customers_with_order: u64,
    /// Expected number of days with an order in the next 90 days, of all customers together.
    #[schema(example = 2310.4)]
    predicted_number_of_orders_90d: f64,
    /// Lower bound of `predicted_number_of_orders_90d`.
    #[schema(example = 2214.9)]
    predicted_number_of_orders_90d_low: f64,
    /// Upper bound of `predicted_number_of_orders_90d`.
    #[schema(example = 2405.9)]
    predicted_number_of_orders_90d_high: f64,
    /// Expected spend in the next 90 days, of all customers together.
    #[schema(example = 41200.0)]
    predicted_clv_90d: f64,
    /// Lower bound of `predicted_clv_90d`.
    #[schema(example = 39100.0)]
    predicted_clv_90d_low: f64,
    /// Upper bound of `predicted_clv_90d`.
    #[schema(example = 43300.0)]
    predicted_clv_90d_high: f64,
    /// Mean probability that a customer with an order has left for good; null without such a customer.
    #[schema(minimum = 0, maximum = 1, example = 0.19)]
    churn_probability: Option<f64>,
    /// Sum of the customers' predicted spend in 90 days times churn probability.
    #[schema(example = 5200.0)]
    value_at_risk_90d: f64,
    /// Spend of these customers in the 365 days before the day of the snapshot, net of returns.
    #[schema(example = 150_300.0)]
    revenue_365d: f64,
}

/// Change of `figures.predicted_clv_90d` since an earlier snapshot.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentValueChangeBody {
    /// Instant of the earlier snapshot.
    since: Timestamp,
    /// Whether another model made the earlier forecasts. It may also have assigned customers otherwise.
    model_changed: bool,
    /// The change in one sentence; null if `parts` is null.
    #[schema(
        example = "Loyal Customers: predicted 90-day spend 41,200 USD, 6.0 % less than 28 days before: −3,100 by 210 customers who left for Fading, +870 by 58 customers who entered from Regular, −400 by 1,122 customers who stayed and are worth less."
    )]
    sentence: Option<String>,
    /// Parts of the change; null if the segment, those with an order in it, or the customers who stayed in
    /// it, are fewer than 5, and if the unit changed.
    parts: Option<ChangePartsBody>,
}

/// Parts of a change, which add up to `after` minus `before`. A customer who entered counts
/// with the spend predicted now, a customer who left with the spend predicted then.
#[derive(Debug, Serialize, ToSchema)]
struct ChangePartsBody {
    /// `figures.predicted_clv_90d` of the earlier snapshot.
    #[schema(example = 43830.0)]
    before: f64,
    /// `figures.predicted_clv_90d` of this snapshot.
    #[schema(example = 41200.0)]
    after: f64,
    /// Customers who entered, by their earlier segment; most customers first. Flows of fewer than
    /// 5 customers are in `small_flows`.
    entered: Vec<ValueFlowBody>,
    /// Customers who left, by their present segment; most customers first. Flows of fewer than
    /// 5 customers are in `small_flows`.
    left: Vec<ValueFlowBody>,
    small_flows: SmallFlowsBody,
    stayed: StayedBody,
    /// Difference of the forecasts for the earlier snapshot, made again now, from those made then: orders
    /// that arrived late, returns, customers merged or erased, and another model.
    #[schema(example = 0.0)]
    recalculated: f64,
}

/// Customers who moved between this segment and another one.
#[derive(Debug, Serialize, ToSchema)]
struct ValueFlowBody {
    /// The other segment; null: no segment of a model, such as new customers and customers assigned by the
    /// rule-based fallback.
    segment: Option<NamedSegmentBody>,
    /// Customers who moved.
    #[schema(example = 210)]
    customers: u64,
    /// Their predicted spend at the earlier snapshot.
    #[schema(example = 3100.0)]
    before: f64,
    /// Their predicted spend at this snapshot.
    #[schema(example = 1240.0)]
    after: f64,
    /// Contribution to the change: `after` of customers who entered, minus `before` of customers who left.
    #[schema(example = -3100.0)]
    amount: f64,
}

/// Flows of fewer than 5 customers, aggregated.
#[derive(Debug, Serialize, ToSchema)]
struct SmallFlowsBody {
    /// Number of flows.
    #[schema(example = 2)]
    flows: u64,
    /// Customers in these flows.
    #[schema(example = 6)]
    customers: u64,
    /// Contribution to the change; 0 for fewer than 5 customers, and part of `stayed` then.
    #[schema(example = 12.5)]
    amount: f64,
}

/// Customers who were in the segment at both snapshots.
#[derive(Debug, Serialize, ToSchema)]
struct StayedBody {
    /// Customers who stayed.
    #[schema(example = 1122)]
    customers: u64,
    /// Contribution to the change: their predicted spend now, minus that at the earlier snapshot. Together
    /// with `small_flows` if these are fewer than 5 customers.
    #[schema(example = -412.5)]
    amount: f64,
}

impl SegmentValueSnapshotBody {
    fn new(snapshot: &SegmentValueSnapshot, series: &SegmentValueSeries) -> Self {
        let figures = &snapshot.figures;
        let totals = &figures.totals;
        let change = |change: &Option<SeriesChange>| {
            change.as_ref().map(|change| SegmentValueChangeBody::new(change, series))
        };
        Self {
            taken_at: figures.taken_at,
            name: figures.name.clone(),
            model_id: figures.model.to_string(),
            unit: figures.unit.clone(),
            customers: totals.customers,
            figures: totals.is_reportable().then(|| totals.into()),
            change: change(&snapshot.change),
            change_28_days: change(&snapshot.change_28_days),
        }
    }
}

impl From<&SegmentTotals> for SegmentFiguresBody {
    fn from(totals: &SegmentTotals) -> Self {
        let [orders, spend] = [totals.orders.interval(), totals.spend.interval()];
        Self {
            customers_with_order: totals.with_orders,
            predicted_number_of_orders_90d: totals.orders.expected,
            predicted_number_of_orders_90d_low: orders.low,
            predicted_number_of_orders_90d_high: orders.high,
            predicted_clv_90d: totals.spend.expected,
            predicted_clv_90d_low: spend.low,
            predicted_clv_90d_high: spend.high,
            churn_probability: totals.mean_churn_probability(),
            value_at_risk_90d: totals.value_at_risk,
            revenue_365d: totals.revenue,
        }
    }
}

impl SegmentValueChangeBody {
    fn new(change: &SeriesChange, series: &SegmentValueSeries) -> Self {
        Self {
            since: change.since,
            model_changed: change.has_other_model,
            sentence: change.sentence.clone(),
            parts: change.parts.as_ref().map(|parts| ChangePartsBody::new(parts, series)),
        }
    }
}

impl ChangePartsBody {
    fn new(change: &SegmentValueChange, series: &SegmentValueSeries) -> Self {
        let flows = |parts: &[FlowPart]| {
            parts.iter().map(|part| ValueFlowBody::new(part, series)).collect()
        };
        let (small, stayed) = (change.small_flows, change.stayed);
        Self {
            before: change.before,
            after: change.now,
            entered: flows(&change.entered),
            left: flows(&change.left),
            small_flows: SmallFlowsBody {
                flows: small.flows,
                customers: small.customers,
                amount: small.amount,
            },
            stayed: StayedBody { customers: stayed.customers, amount: stayed.amount },
            recalculated: change.recalculated,
        }
    }
}

impl ValueFlowBody {
    fn new(part: &FlowPart, series: &SegmentValueSeries) -> Self {
        Self {
            segment: part.segment_id.as_deref().map(|id| series.named(id).into()),
            customers: part.customers,
            before: part.spend_before,
            after: part.spend_now,
            amount: part.amount,
        }
    }
}

/// Draw the value of a segment over time.
///
/// The spend in the next 90 days as predicted at each snapshot, and the part of it at risk.
#[utoipa::path(
    get,
    path = "/v1/segments/{segment_id}/value/picture.svg",
    tag = "Segments",
    security(("key" = ["read"])),
    params(
        ("segment_id" = String, Path, description = "Id of the segment: `seg_…`"),
        SegmentValueQuery,
    ),
    responses(
        (status = 200, body = String, content_type = "image/svg+xml", description = "The picture"),
        (status = 404, description = "No model that is served has this segment, and it has no snapshots in the period"),
    )
)]
pub(super) async fn get_segment_value_picture(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(segment_id): PathParameters<String>,
    QueryParameters(query): QueryParameters<SegmentValueQuery>,
) -> Result<Response, ApiError> {
    let series = state.segment_values.series(&segment_id, query.days()?).await?;
    let name = state.deployments.snapshot().name_segment(&segment_id).name;
    let is_large = series.snapshots.len() > SMALL_PICTURE;
    heavy_work::run(&state, caller.user(), is_large, move |_| {
        let newest = series.snapshots.first().map(|snapshot| &snapshot.figures);
        let unit = newest.map_or("", |figures| &figures.unit);
        let mut picture = SegmentValuePicture { name: &name, unit, snapshots: Vec::new() };
        for SegmentValueSnapshot { figures, .. } in series.snapshots.iter().rev() {
            if figures.totals.is_reportable() && figures.unit == unit {
                picture.snapshots.push((figures.taken_at, &figures.totals));
            }
        }
        Ok(html_page::svg(picture.draw()))
    })
    .await
}

/// Get the value of a segment over time.
///
/// Daily snapshots (`value.snapshot_every_days`) of the predicted orders and spend of a segment's
/// customers, newest first. Each change is divided into the predicted spend of the customers who entered,
/// who left and who stayed. Without a model of customer value, `missing` has the reason.
#[utoipa::path(
    get,
    path = "/v1/segments/{segment_id}/value",
    tag = "Segments",
    security(("key" = ["read"])),
    params(
        ("segment_id" = String, Path, description = "Id of the segment: `seg_…`"),
        SegmentValueQuery,
    ),
    responses(
        (status = 200, body = SegmentValueSeriesBody, description = "The snapshots"),
        (status = 404, description = "No model that is served has this segment, and it has no snapshots in the period"),
    )
)]
pub(super) async fn get_segment_value(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(segment_id): PathParameters<String>,
    QueryParameters(query): QueryParameters<SegmentValueQuery>,
) -> Result<Json<SegmentValueSeriesBody>, ApiError> {
    let series = state.segment_values.series(&segment_id, query.days()?).await?;
    let snapshots = series.snapshots.iter();
    Ok(Json(SegmentValueSeriesBody {
        segment_id,
        snapshots: snapshots.map(|one| SegmentValueSnapshotBody::new(one, &series)).collect(),
        missing: series.missing.clone(),
    }))
}
