//! `GET /v1/assignments`: export of the assignments of all customers as a table.

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::api::customers::group_filter::refuse_unknown_segment;
use crate::api::openapi::ByteStream;
use crate::api::request::{AuthorizedCaller, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::time::Timestamp;
use crate::service::export::CsvEscaping;
use crate::telemetry::labels::TableFormat;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// Format; default the first known type in `Accept`, else `ndjson`.
    #[param(inline)]
    format: Option<ExportFormat>,
    /// CSV only. `formulas` prefixes a text that begins with = + - @, a tab or a line break with
    /// ', so that a spreadsheet does not run it. `none` leaves texts unchanged, for programs.
    /// Default `formulas`.
    #[param(inline)]
    escape: Option<ExportEscaping>,
    /// Only customers in this segment.
    #[param(example = "seg_5f2c8d10b7a94e36")]
    segment_id: Option<String>,
}

/// A format of the export.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ExportFormat {
    Ndjson,
    Csv,
    Parquet,
}

/// Escaping of texts in CSV.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ExportEscaping {
    Formulas,
    None,
}

/// The assignment of one customer: a row of the export, with the same columns in every format.
#[derive(ToSchema)]
#[expect(dead_code, reason = "names a schema only")]
pub(crate) struct ExportedAssignmentBody {
    /// The surviving id of the customer.
    #[schema(example = "1510")]
    customer_id: String,
    /// Id of the segment; `unassigned` outside of every segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    /// Name of the segment.
    #[schema(example = "Loyal Customers")]
    segment_name: String,
    /// Id of the model; null for the rule-based fallback.
    #[schema(example = "6c1f0a5e7d2b4c93a8e0f1d25b7c6a4983de12f07b5c4a69d8e3f01c2b7a5d64")]
    model_id: Option<String>,
    /// Whether the rule-based fallback answered.
    fallback: bool,
    /// Number of the deployment that scored.
    #[schema(example = 7)]
    generation: i64,
    /// Distance to the segment, in encoded units; null for the rule-based fallback.
    #[schema(example = 0.42)]
    distance: Option<f32>,
    /// Outlier p-value: share of customers at least as far from all segments; null for the
    /// rule-based fallback.
    #[schema(example = 0.31)]
    p_value: Option<f64>,
    /// Confidence from 0 to 1; null for the rule-based fallback.
    #[schema(example = 0.73)]
    confidence: Option<f32>,
    /// Whether the p-value is at most the configured rate of outliers.
    outlier: bool,
    /// Instant of the score.
    assigned_at: Timestamp,
    /// The last event; null without events.
    last_event_at: Option<Timestamp>,
    /// Names of the audiences that the customer is in, separated by spaces; empty for none.
    #[schema(example = "vip_at_risk win_back")]
    audiences: String,
    /// Whether the model predicted orders well that it had not seen. This and the following are null
    /// without an order, and while the model has no model of customer value.
    value_reliable: Option<bool>,
    /// Probability that the customer has left for good.
    #[schema(minimum = 0, maximum = 1, example = 0.08)]
    churn_probability: Option<f64>,
    /// Expected number of days with an order in the 365 days from the beginning of the export.
    #[schema(minimum = 0, example = 14.2)]
    predicted_number_of_orders: Option<f64>,
    /// Expected spend in these days, net of returns.
    #[schema(minimum = 0, example = 604.1)]
    predicted_clv: Option<f64>,
    /// The instant by which the next order has come with a probability of 50 %; null if that is never
    /// reached, or only after ten years.
    expected_date_of_next_order: Option<Timestamp>,
}

impl ExportFormat {
    const ALL: [Self; 3] = [Self::Ndjson, Self::Csv, Self::Parquet];

    const fn table_format(self) -> TableFormat {
        match self {
            Self::Ndjson => TableFormat::Ndjson,
            Self::Csv => TableFormat::Csv,
            Self::Parquet => TableFormat::Parquet,
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    const fn file_name(self) -> &'static str {
        match self {
            Self::Ndjson => "assignments.ndjson",
            Self::Csv => "assignments.csv",
            Self::Parquet => "assignments.parquet",
        }
    }

    /// Content negotiation: the first known type in `Accept`, else NDJSON.
    fn from_accept(accepted: &str) -> Self {
        let media_types =
            accepted.split(',').map(|range| range.split(';').next().unwrap_or(range).trim());
        for media_type in media_types {
            if let Some(format) = Self::ALL.into_iter().find(|one| one.media_type() == media_type) {
                return format;
            }
        }
        Self::Ndjson
    }
}

/// Export the assignments of all customers.
///
/// A consistent snapshot, streamed as fast as the client reads it. The export is not paged. After
/// an error the connection is aborted and not closed normally: an aborted body is incomplete. The
/// number of concurrent exports is limited (`export.max_concurrent`).
// Postgres is read only as fast as the client reads (back-pressure).
#[utoipa::path(
    get,
    path = "/v1/assignments",
    tag = "Exports",
    security(("key" = ["read"])),
    params(ExportQuery),
    responses((
        status = 200,
        description = "The assignments. NDJSON has one `ExportedAssignment` a line, CSV and \
                       Parquet have its properties as columns",
        content(
            (ByteStream = "application/x-ndjson"),
            (String = "text/csv"),
            (ByteStream = "application/vnd.apache.parquet"),
        ),
    ))
)]
pub(crate) async fn export_assignments(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<ExportQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accepted = headers.get(header::ACCEPT).and_then(|types| types.to_str().ok());
    let format =
        query.format.unwrap_or_else(|| ExportFormat::from_accept(accepted.unwrap_or_default()));
    let escape = check_escape(query.escape, format)?;
    refuse_unknown_segment(&state, query.segment_id.as_deref()).await?;
    let key_id = &caller.principal.key_id;
    let table_format = format.table_format();
    let export = state.exports.start_export(key_id, table_format, escape, query.segment_id).await?;
    let pieces = stream::unfold(Some(export), async |export| {
        let mut export = export?;
        let piece = export.next_bytes().await?;
        let rest = piece.is_ok().then_some(export);
        Some((piece, rest))
    });
    let disposition = format!("attachment; filename=\"{}\"", format.file_name());
    let headers = [
        (header::CONTENT_TYPE, format.media_type()),
        (header::CONTENT_DISPOSITION, disposition.as_str()),
    ];
    Ok((headers, HttpBody::from_stream(pieces)).into_response())
}

/// The escaping of texts; formulas are escaped by default.
fn check_escape(
    escape: Option<ExportEscaping>,
    format: ExportFormat,
) -> Result<CsvEscaping, ApiError> {
    match (escape, format) {
        (None, _) => Ok(CsvEscaping::default()),
        (Some(ExportEscaping::Formulas), ExportFormat::Csv) => Ok(CsvEscaping::Formulas),
        (Some(ExportEscaping::None), ExportFormat::Csv) => Ok(CsvEscaping::None),
        (Some(_), _) => Err(ApiError::invalid("escape", "applies only to the format `csv`")),
    }
}
