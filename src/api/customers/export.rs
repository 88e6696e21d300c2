//! `GET /v1/assignments`: export of the assignments of all customers as a table.

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;

use crate::api::request::{Asked, Caller, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::fault::Faults;
use crate::service::ServiceError;
use crate::service::export::CsvEscape;
use crate::telemetry::labels::TableFormat;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct What {
    format: Option<String>,
    escape: Option<String>,
    segment: Option<String>,
}

/// Formats of an export: name, media type, file name.
const FORMATS: [(TableFormat, &str, &str, &str); 3] = [
    (TableFormat::Ndjson, "ndjson", "application/x-ndjson", "assignments.ndjson"),
    (TableFormat::Csv, "csv", "text/csv", "assignments.csv"),
    (TableFormat::Parquet, "parquet", "application/vnd.apache.parquet", "assignments.parquet"),
];

/// Streams a consistent snapshot of the assignments with backpressure: Postgres is read only
/// as fast as the client reads. After an error the connection is aborted, not closed
/// normally, so that no client mistakes a part for the whole.
pub(crate) async fn get_assignments(
    State(state): State<ApiState>,
    caller: Caller<Read>,
    Asked(asked): Asked<What>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accepted = headers.get(header::ACCEPT).and_then(|kinds| kinds.to_str().ok());
    let (format, _, media, file) = chosen(asked.format.as_deref(), accepted)?;
    let escape = escape(asked.escape.as_deref(), format)?;
    let key_id = &caller.principal.key_id;
    let export = state.exports.start(key_id, format, escape, asked.segment).await?;
    let pieces = stream::unfold(Some(export), async |export| {
        let mut export = export?;
        let piece = export.next().await?;
        let rest = piece.is_ok().then_some(export);
        Some((piece, rest))
    });
    let disposition = format!("attachment; filename=\"{file}\"");
    let headers =
        [(header::CONTENT_TYPE, media), (header::CONTENT_DISPOSITION, disposition.as_str())];
    Ok((headers, HttpBody::from_stream(pieces)).into_response())
}

/// Parses `escape`; formulas are escaped by default.
fn escape(name: Option<&str>, format: TableFormat) -> Result<CsvEscape, ApiError> {
    let Some(name) = name else { return Ok(CsvEscape::default()) };
    let problem = match CsvEscape::parse(name) {
        Some(escape) if format == TableFormat::Csv => return Ok(escape),
        Some(_) => "applies only to the format `csv`",
        None => "must be `formulas` or `none`",
    };
    Err(ServiceError::Invalid(Faults::one("escape", problem)).into())
}

/// Content negotiation: the named format, else the first known type in `Accept`, else NDJSON.
fn chosen(
    name: Option<&str>,
    accepted: Option<&str>,
) -> Result<(TableFormat, &'static str, &'static str, &'static str), ApiError> {
    let Some(name) = name else {
        let accepted = accepted.unwrap_or_default();
        let kinds = accepted.split(',').map(|kind| kind.split(';').next().unwrap_or(kind).trim());
        let known = |kind| FORMATS.into_iter().find(|(_, _, media, _)| *media == kind);
        return Ok(kinds.into_iter().find_map(known).unwrap_or(FORMATS[0]));
    };
    FORMATS.into_iter().find(|(_, known, ..)| *known == name).ok_or_else(|| {
        let problem = "must be `ndjson`, `csv` or `parquet`";
        ServiceError::Invalid(Faults::one("format", problem)).into()
    })
}
