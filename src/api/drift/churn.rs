//! `GET /v1/drift/churn`: moves of customers between segments.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::drift::check_hours;
use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::drift::{ChurnRate, SegmentChurn, SeparateChanges};
use crate::domain::model::{MigrationSummary, SegmentFlow};
use crate::domain::time::Timestamp;
use crate::service::drift::SegmentFlows;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ChurnQuery {
    /// Number of hours up to now; default `drift.window_hours`.
    #[param(minimum = 1, maximum = 2208)]
    hours: Option<u32>,
}

/// Moves of customers between the segments of the active model in a period.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChurnReportBody {
    /// Id of the active model.
    #[schema(example = "6c1f0a5e7d2b4c93a8e0f1d25b7c6a4983de12f07b5c4a69d8e3f01c2b7a5d64")]
    model_id: String,
    /// Start of the period.
    since: Timestamp,
    /// End of the period: the time of the request.
    until: Timestamp,
    total: ChurnRateBody,
    /// By segment at the beginning of the period; the last entry is for customers in none.
    segments: Vec<SegmentChurnBody>,
    /// Moves from one segment to another, back and forth included.
    #[schema(example = 63)]
    moves: u64,
    /// Customers with at least one move.
    #[schema(example = 53)]
    movers: u64,
    separate_changes: SeparateChangesBody,
    flow: ChurnFlowsBody,
}

/// Share of customers in another segment at the end of a period than at its beginning. Counts of
/// 1 to 4 customers are null, as are the figures that follow from them.
#[derive(Debug, Serialize, ToSchema)]
struct ChurnRateBody {
    /// Customers at the beginning, without customers that the model no longer assigns at the end.
    #[schema(example = 600)]
    customers: u64,
    /// Customers in another segment at the end.
    #[schema(example = 53)]
    moved: Option<u64>,
    /// Churn: `moved` / `customers`.
    #[schema(example = 0.088)]
    churn: Option<f64>,
    /// Churn of the previous period of the same length; null also if the history does not reach
    /// back that far.
    #[schema(example = 0.02)]
    churn_before: Option<f64>,
    /// p-value of Fisher's exact test of equal churn in both periods; null if either is null.
    #[schema(example = 0.0001)]
    p_value: Option<f64>,
}

/// Churn of one segment.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentChurnBody {
    #[serde(flatten)]
    segment: NamedSegmentBody,
    #[serde(flatten)]
    rate: ChurnRateBody,
    /// The p-value, corrected for the number of segments.
    #[schema(example = 0.0004)]
    adjusted_p_value: Option<f64>,
    /// Customers with their first assignment, to this segment; null for 1 to 4.
    #[schema(example = 6)]
    new: Option<u64>,
}

/// Changes of assignment that do not count as moves.
#[derive(Debug, Serialize, ToSchema)]
struct SeparateChangesBody {
    /// To or from another model.
    #[schema(example = 0)]
    by_another_model: u64,
    /// To or from the rule-based fallback.
    #[schema(example = 0)]
    by_rules: u64,
    /// The customer was merged into another id.
    #[schema(example = 1)]
    merged: u64,
}

/// Flows of customers from the segments at the beginning to those at the end.
#[derive(Debug, Serialize, ToSchema)]
struct ChurnFlowsBody {
    /// Customers in all flows.
    #[schema(example = 600)]
    customers: u64,
    /// Customers in the same segment at the beginning and at the end, or in none both times.
    #[schema(example = 547)]
    stay: u64,
    /// Customers in another segment at the end.
    #[schema(example = 53)]
    move_away: u64,
    /// `move_away` / `customers`; 0 without customers.
    #[schema(example = 0.088)]
    moved_share: f64,
    /// Flows of at least 5 customers, largest first, customers that stay included.
    flows: Vec<ChurnFlowBody>,
    /// Customers in all smaller flows together.
    #[schema(example = 3)]
    in_small_flows: u64,
    /// Number of the smaller flows.
    #[schema(example = 1)]
    small_flows: u64,
}

/// Customers that went from one segment to another, or stayed.
#[derive(Debug, Serialize, ToSchema)]
struct ChurnFlowBody {
    from: NamedSegmentBody,
    to: NamedSegmentBody,
    /// Whether both are the same segment.
    stays: bool,
    /// Number of customers.
    #[schema(example = 50)]
    customers: u64,
    /// Share of the customers in `from` at the beginning, from 0 to 1.
    #[schema(example = 0.27)]
    share_of_from: f64,
    /// Share of the customers in `to` at the end, from 0 to 1.
    #[schema(example = 0.2)]
    share_of_to: f64,
}

impl From<SegmentFlows> for ChurnReportBody {
    fn from(flows: SegmentFlows) -> Self {
        let SegmentFlows { model, since, until, churn } = flows;
        Self {
            model_id: model.into(),
            since,
            until,
            total: churn.total.into(),
            segments: churn.segments.into_iter().map(Into::into).collect(),
            moves: churn.moves,
            movers: churn.movers,
            separate_changes: churn.separate_changes.into(),
            flow: churn.flow.into(),
        }
    }
}

impl From<ChurnRate> for ChurnRateBody {
    fn from(rate: ChurnRate) -> Self {
        let ChurnRate { customers, moved, churn, churn_before, p_value } = rate;
        Self { customers, moved, churn, churn_before, p_value }
    }
}

impl From<SegmentChurn> for SegmentChurnBody {
    fn from(churn: SegmentChurn) -> Self {
        let SegmentChurn { segment, share, adjusted_p_value, new } = churn;
        Self { segment: segment.into(), rate: share.into(), adjusted_p_value, new }
    }
}

impl From<SeparateChanges> for SeparateChangesBody {
    fn from(changes: SeparateChanges) -> Self {
        let SeparateChanges { by_another_model, by_rules, merged } = changes;
        Self { by_another_model, by_rules, merged }
    }
}

impl From<MigrationSummary> for ChurnFlowsBody {
    fn from(summary: MigrationSummary) -> Self {
        Self {
            customers: summary.customers,
            stay: summary.stay,
            move_away: summary.move_away,
            moved_share: summary.moved_share,
            flows: summary.flows.into_iter().map(Into::into).collect(),
            in_small_flows: summary.in_small_flows,
            small_flows: summary.small_flows,
        }
    }
}

impl From<SegmentFlow> for ChurnFlowBody {
    fn from(flow: SegmentFlow) -> Self {
        let SegmentFlow { from, to, stays, customers, share_of_from, share_of_to } = flow;
        let (from, to) = (from.into(), to.into());
        Self { from, to, stays, customers, share_of_from, share_of_to }
    }
}

/// Get the moves of customers between segments.
///
/// Of the active model: churn of all customers and of each segment, in this period and the
/// previous one of the same length, the moves, new customers, and the flows between segments.
/// Changes by another model, the rule-based fallback or a merge of ids are counted separately.
/// Flows of fewer than 5 customers are combined.
#[utoipa::path(
    get,
    path = "/v1/drift/churn",
    tag = "Drift",
    security(("key" = ["read"])),
    params(ChurnQuery),
    responses(
        (status = 200, body = ChurnReportBody, description = "The moves"),
        (status = 409, description = "No model is active"),
    )
)]
pub(super) async fn get_churn(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(ChurnQuery { hours }): QueryParameters<ChurnQuery>,
) -> Result<Json<ChurnReportBody>, ApiError> {
    check_hours(hours)?;
    Ok(Json(state.drift.segment_flows(hours).await?.into()))
}
