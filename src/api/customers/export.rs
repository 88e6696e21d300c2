//! `GET /v1/assignments`: export of the assignments of all customers as a table.

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;

use crate::api::request::{AuthorizedCaller, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::service::export::CsvEscaping;
use crate::telemetry::labels::TableFormat;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportQuery {
    format: Option<String>,
    escape: Option<String>,
    segment: Option<String>,
}

/// A format of the export.
struct ExportFormat {
    format: TableFormat,
    name: &'static str,
    media_type: &'static str,
    file_name: &'static str,
}

static FORMATS: [ExportFormat; 3] = [
    ExportFormat {
        format: TableFormat::Ndjson,
        name: "ndjson",
        media_type: "application/x-ndjson",
        file_name: "assignments.ndjson",
    },
    ExportFormat {
        format: TableFormat::Csv,
        name: "csv",
        media_type: "text/csv",
        file_name: "assignments.csv",
    },
    ExportFormat {
        format: TableFormat::Parquet,
        name: "parquet",
        media_type: "application/vnd.apache.parquet",
        file_name: "assignments.parquet",
    },
];

/// Streams a consistent snapshot of the assignments with backpressure: Postgres is read only
/// as fast as the client reads. After an error the connection is aborted, not closed
/// normally, so that no client mistakes a part for the whole.
pub(crate) async fn get_assignments(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<ExportQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accepted = headers.get(header::ACCEPT).and_then(|types| types.to_str().ok());
    let ExportFormat { format, media_type, file_name, .. } =
        choose_format(query.format.as_deref(), accepted.unwrap_or_default())?;
    let escape = parse_escape(query.escape.as_deref(), *format)?;
    let key_id = &caller.principal.key_id;
    let export = state.exports.start_export(key_id, *format, escape, query.segment).await?;
    let pieces = stream::unfold(Some(export), async |export| {
        let mut export = export?;
        let piece = export.next_bytes().await?;
        let rest = piece.is_ok().then_some(export);
        Some((piece, rest))
    });
    let disposition = format!("attachment; filename=\"{file_name}\"");
    let headers =
        [(header::CONTENT_TYPE, *media_type), (header::CONTENT_DISPOSITION, disposition.as_str())];
    Ok((headers, HttpBody::from_stream(pieces)).into_response())
}

/// Parses `escape`; formulas are escaped by default.
fn parse_escape(name: Option<&str>, format: TableFormat) -> Result<CsvEscaping, ApiError> {
    let Some(name) = name else { return Ok(CsvEscaping::default()) };
    let problem = match CsvEscaping::parse(name) {
        Some(escape) if format == TableFormat::Csv => return Ok(escape),
        Some(_) => "applies only to the format `csv`",
        None => "must be `formulas` or `none`",
    };
    Err(ApiError::invalid("escape", problem))
}

/// Content negotiation: the named format, else the first known type in `Accept`, else NDJSON.
fn choose_format(name: Option<&str>, accepted: &str) -> Result<&'static ExportFormat, ApiError> {
    if let Some(name) = name {
        return FORMATS.iter().find(|known| known.name == name).ok_or_else(|| {
            let problem = "must be `ndjson`, `csv` or `parquet`";
            ApiError::invalid("format", problem)
        });
    }
    for range in accepted.split(',') {
        let media_type = range.split(';').next().unwrap_or(range).trim();
        if let Some(format) = FORMATS.iter().find(|known| known.media_type == media_type) {
            return Ok(format);
        }
    }
    Ok(&FORMATS[0])
}
