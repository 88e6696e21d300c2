//! Error responses as `application/problem+json` (RFC 9457): the only map from
//! [`ServiceError`] to an HTTP status.

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use utoipa::ToSchema;

use crate::api::json_fault::json_fault;
use crate::domain::deployment::lifecycle::GateResult;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::wire::elements::ElementsError;
use crate::service::ServiceError;
use crate::service::error::ErrorChain;
use crate::store::StoreError;

/// Error text for an event when its customer stays locked until the lock timeout.
pub(super) const LOCKED: &str = "the customer is locked by another database session; send the \
                                 event again with the same message_id";
/// Detail of an internal error: the cause is in the log only.
const INTERNAL_DETAIL: &str = "internal error; the log of segmentd has it under the request id";
/// `Retry-After` for a wrong clock, which a time service or an operator corrects.
const CLOCK_RETRY_SECONDS: u64 = 10;
/// `Retry-After` for a full disk: an operator must free space first.
const DISK_RETRY_AFTER_SECONDS: u64 = 30;

/// The encodings of a body, as in the `Accept-Encoding` of a 415 response (RFC 9110, section
/// 15.5.16).
pub(super) const SUPPORTED_ENCODINGS: &str = "gzip, deflate, zstd";

/// An error response: status, problem type and detail, with its cause for the log.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    /// Last part of the problem type's URI; stable, for programs.
    kind: &'static str,
    detail: String,
    faults: ValidationFaults,
    gates: Vec<GateResult>,
    retry_after_seconds: Option<u64>,
    cause: Option<Box<ErrorCause>>,
}

/// The internal cause of an error: logged, never sent to the client.
#[derive(Debug, Clone)]
struct ErrorCause {
    chain: String,
    /// A defect of segmentd; otherwise a temporary condition.
    is_fault: bool,
}

/// A problem (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemBody {
    /// URI of the problem's type; its last part is stable.
    #[schema(example = "/docs#problem-invalid")]
    r#type: String,
    /// The HTTP status as text.
    #[schema(example = "Unprocessable Content")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// The fault, and a valid value.
    #[schema(example = "limit: must be from 1 to 500")]
    detail: String,
    /// Each invalid field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FaultBody>,
    /// The gates that refuse the transition of a model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gates: Vec<GateResultBody>,
}

/// One fault of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct FaultBody {
    /// The path of the field, or the name of the parameter.
    #[schema(example = "limit")]
    field: String,
    /// The fault of the field, or its valid values.
    #[schema(example = "must be from 1 to 500")]
    problem: String,
}

/// The result of one gate, a condition that a model must meet before it serves.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(super) struct GateResultBody {
    /// Name of the gate.
    #[schema(example = "reproducibility")]
    gate: String,
    /// The threshold of the gate.
    #[serde(alias = "asked")]
    #[schema(example = 0.1)]
    threshold: f64,
    /// The measured figure; null: not measured.
    #[serde(alias = "found")]
    #[schema(example = 0.31)]
    measured: Option<f64>,
    /// Whether the model meets the condition.
    passed: bool,
    /// The result as a sentence.
    #[serde(alias = "why")]
    #[schema(
        example = "the agreement between halves of the rows is 0.11; at least 0.2 is required"
    )]
    reason: String,
}

impl From<&GateResult> for GateResultBody {
    fn from(result: &GateResult) -> Self {
        Self {
            gate: result.gate.to_owned(),
            threshold: result.asked,
            measured: result.found,
            passed: result.passed,
            reason: result.why.clone(),
        }
    }
}

pub(super) fn fault_bodies(faults: &ValidationFaults) -> Vec<FaultBody> {
    faults.0.iter().map(FaultBody::from).collect()
}

impl From<&ValidationFault> for FaultBody {
    fn from(fault: &ValidationFault) -> Self {
        Self { field: fault.path.clone(), problem: fault.problem.clone() }
    }
}

impl ApiError {
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            faults: ValidationFaults::default(),
            gates: Vec::new(),
            retry_after_seconds: None,
            cause: None,
        }
    }

    /// Malformed JSON (400), or well-formed JSON of the wrong shape (422).
    pub(crate) fn from_json(error: &serde_json::Error) -> Self {
        Self::from_json_at("", error)
    }

    /// As [`Self::from_json`], with the path of the value.
    pub(crate) fn from_json_at(path: &str, error: &serde_json::Error) -> Self {
        if error.is_data() {
            ServiceError::from(json_fault(path, error)).into()
        } else {
            Self::malformed_json(error)
        }
    }

    /// 400 for a body that cannot be parsed, whatever is wrong with it.
    pub(super) fn malformed_json(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let detail = match error.classify() {
            Category::Eof => {
                format!("the body ends before its JSON is complete, at line {line} column {column}")
            }
            Category::Data => error.to_string(),
            Category::Syntax | Category::Io => {
                format!("the body is not valid JSON, at line {line} column {column}")
            }
        };
        Self::new(StatusCode::BAD_REQUEST, "malformed-json", detail)
    }

    /// One invalid field: 422.
    pub(crate) fn invalid(field: &str, problem: impl Into<String>) -> Self {
        ServiceError::Invalid(ValidationFaults::single(field, problem)).into()
    }

    pub(crate) fn unauthenticated(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    pub(crate) fn is_unauthenticated(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    pub(crate) fn forbidden(detail: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("there is no {what}"))
    }

    pub(crate) fn too_large(detail: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    pub(crate) fn busy(detail: &str, retry_after_seconds: u64) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail);
        error.retry_after_seconds = Some(retry_after_seconds);
        error
    }

    pub(crate) fn unavailable(detail: &str, retry_after_seconds: u64) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        error.retry_after_seconds = Some(retry_after_seconds);
        error
    }

    /// 503 for events: another database session has locked their customers.
    pub(super) fn locked() -> Self {
        Self::unavailable(LOCKED, 1)
    }

    /// The error of an event request, with advice on resending events.
    pub(super) fn from_ingestion(error: ServiceError) -> Self {
        match error {
            ServiceError::Locked => Self::locked(),
            error => error.into(),
        }
    }

    /// Work stopped because its request was cancelled: no client waits for this answer.
    pub(super) fn cancelled() -> Self {
        Self::unavailable("the request was cancelled", 1)
    }

    /// A body with too many events, or one that is not JSON.
    pub(super) fn from_elements_error(error: ElementsError) -> Self {
        match error {
            ElementsError::TooMany(max) => Self::too_large(format!(
                "the request has more than {max} events (limits.events_per_request); send \
                 several requests, or use POST /v1/events/bulk"
            )),
            ElementsError::Syntax(error) => {
                let detail = format!("the body is not valid JSON: {error}");
                Self::new(StatusCode::BAD_REQUEST, "malformed-json", detail)
            }
        }
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        self.retry_after_seconds.is_some()
    }

    pub fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether the error is a defect of segmentd.
    pub(super) fn is_fault(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| cause.is_fault)
    }

    /// The internal cause, or the detail if there is none.
    pub(super) fn log_text(&self) -> &str {
        self.cause.as_ref().map_or(&self.detail, |cause| &cause.chain)
    }

    /// Logs a server error that ends a response whose head, with status 200, has been sent: the
    /// request log does not have it.
    pub(super) fn log_aborted_response(&self, route: &'static str) {
        let error = self.log_text();
        if self.is_fault() {
            tracing::error!(route, error, "response aborted: internal error");
        } else if self.status.is_server_error() {
            tracing::warn!(route, error, "response aborted: not available");
        }
    }

    fn caused_by(self, error: &ServiceError, is_fault: bool) -> Self {
        let cause = ErrorCause { chain: ErrorChain(error).to_string(), is_fault };
        Self { cause: Some(Box::new(cause)), ..self }
    }

    /// The problem document, for endpoints of protocols that add fields to it.
    pub(super) fn problem(&self) -> ProblemBody {
        ProblemBody {
            r#type: format!("/docs#problem-{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            errors: fault_bodies(&self.faults),
            gates: self.gates.iter().map(Into::into).collect(),
        }
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Invalid(faults) => {
                let mut answer =
                    Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", faults.to_string());
                answer.faults = faults;
                answer
            }
            ServiceError::NotFound(what) => Self::not_found(&what),
            ServiceError::Refused { .. } => {
                let mut answer = Self::new(StatusCode::CONFLICT, "refused", error.to_string());
                if let ServiceError::Refused { gates, .. } = error {
                    answer.gates = gates;
                }
                answer
            }
            ServiceError::Gone(why) => Self::new(StatusCode::GONE, "gone", why),
            ServiceError::Locked => {
                let detail = "a row is locked by another database session; nothing was written; \
                              send the request again";
                Self::unavailable(detail, 1).caused_by(&error, false)
            }
            ServiceError::Conflict(why) => Self::new(StatusCode::CONFLICT, "conflict", why),
            ServiceError::Busy { retry_after_seconds } => {
                Self::busy("too many requests of this kind are in progress", retry_after_seconds)
            }
            ServiceError::OverLimit { detail, retry_after_seconds } => {
                Self::busy(&detail, retry_after_seconds)
            }
            ServiceError::Overloaded { detail, retry_after_seconds } => {
                Self::unavailable(detail, retry_after_seconds)
            }
            ServiceError::DiskFull { .. } => {
                Self::unavailable(&error.to_string(), DISK_RETRY_AFTER_SECONDS)
                    .caused_by(&error, false)
            }
            ServiceError::Unavailable(ref cause) => {
                Self::unavailable(&cause.to_string(), 1).caused_by(&error, false)
            }
            ServiceError::WrongClock { skew_seconds } => {
                let detail = format!(
                    "events are not accepted: the clock of this server differs from its \
                     database's by {skew_seconds} s (clock.tolerance_seconds); send them again later"
                );
                Self::unavailable(&detail, CLOCK_RETRY_SECONDS).caused_by(&error, false)
            }
            ServiceError::Internal(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", INTERNAL_DETAIL)
                    .caused_by(&error, true)
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        ServiceError::from(error).into()
    }
}

impl IntoResponse for ApiError {
    /// A problem document. The response's extensions contain the error itself, so that a
    /// layer can log it or convert it to the shape of another protocol.
    fn into_response(self) -> Response {
        let problem = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let mut response = (self.status, problem).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            let supported = HeaderValue::from_static(SUPPORTED_ENCODINGS);
            headers.insert(header::ACCEPT_ENCODING, supported);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

pub(super) async fn no_such_route(uri: Uri) -> ApiError {
    ApiError::not_found(&format!("route {}; see /docs", uri.path()))
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong-method",
        format!("{} does not support {method}; see /docs", uri.path()),
    )
}
