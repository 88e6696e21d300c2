//! HTTP POST to an untrusted address: bounded in time and in response size, without redirects,
//! proxies, cookies or persistent connections.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::DateTime;
use http::header::{AUTHORIZATION, HeaderMap, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::guard::{AddressNotAllowed, GuardedResolver, check_literal};
use super::{ANSWER_CHARACTERS, DeliveryReceipt, HttpMessage, SendError, SendErrorKind, text};
use crate::domain::time::Timestamp;

/// Value of the header `User-Agent`.
pub(super) const PRODUCT: &str = concat!("segmentd/", env!("CARGO_PKG_VERSION"));
/// Bytes read of a response; the rest is not awaited.
const ANSWER_BYTES: usize = 4 * ANSWER_CHARACTERS;
/// Longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

type GuardedConnector = HttpsConnector<HttpConnector<GuardedResolver>>;

/// HTTP client for channel addresses, guarded against SSRF.
#[derive(Debug, Clone)]
pub(super) struct HttpClient {
    client: Client<GuardedConnector, Full<Bytes>>,
    allow_private: bool,
    timeout: Duration,
}

impl HttpClient {
    /// `authorities` are trusted in addition to the public certificate authorities.
    pub(super) fn new(
        allow_private: bool,
        authorities: &[CertificateDer<'static>],
        timeout: Duration,
    ) -> Result<Self, rustls::Error> {
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver { allow_private });
        // By default the connector refuses https.
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_settings(authorities)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        // Alerts are rare: a pooled connection would be dead by the next one.
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, allow_private, timeout })
    }

    /// Posts a message. A 2xx status counts as accepted; redirects do not.
    pub(super) async fn post(
        &self,
        url: Url,
        message: HttpMessage,
        now: Timestamp,
    ) -> Result<DeliveryReceipt, SendError> {
        if !self.allow_private {
            check_literal(&url).map_err(|error| SendError::forbidden(error.to_string()))?;
        }
        let request = build_request(url, message).map_err(|error| {
            SendError::forbidden(format!("the request cannot be built: {error}"))
        })?;
        let deadline = Instant::now() + self.timeout;
        let response = match timeout_at(deadline, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(connection_error(&error)),
            Err(_) => {
                let seconds = self.timeout.as_secs();
                return Err(SendError::temporary(format!("no answer within {seconds} seconds")));
            }
        };
        let (head, body) = response.into_parts();
        let answer = read_start(body, deadline).await;
        classify_response(head.status, &head.headers, answer, now)
    }
}

/// TLS that trusts `authorities` in addition to the public certificate authorities.
pub(super) fn tls_settings(
    authorities: &[CertificateDer<'static>],
) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Builds the request. Credentials in the URL are sent as HTTP Basic (RFC 7617).
fn build_request(mut url: Url, message: HttpMessage) -> Result<Request<Full<Bytes>>, http::Error> {
    let credentials = (!url.username().is_empty() || url.password().is_some()).then(|| {
        let name = text::percent_decoded(url.username());
        let password = text::percent_decoded(url.password().unwrap_or(""));
        format!("Basic {}", BASE64.encode(format!("{name}:{password}")))
    });
    // These fail only for addresses without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let mut request = Request::post(url.as_str()).header(USER_AGENT, PRODUCT);
    if let Some(credentials) = credentials {
        request = request.header(AUTHORIZATION, credentials);
    }
    for (name, value) in message.headers {
        request = request.header(name, value);
    }
    request.body(Full::new(message.body.into()))
}

/// Reads the start of a response. A failure here is ignored: the status is already known.
async fn read_start(mut body: impl BodyExt<Data = Bytes> + Unpin, deadline: Instant) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await
    {
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data[..data.len().min(ANSWER_BYTES)]);
        }
    }
    text::cut(&text::one_line(&String::from_utf8_lossy(&bytes)), ANSWER_CHARACTERS)
}

fn classify_response(
    status: StatusCode,
    headers: &HeaderMap,
    answer: String,
    now: Timestamp,
) -> Result<DeliveryReceipt, SendError> {
    let code = Some(status.as_u16());
    if status.is_success() {
        return Ok(DeliveryReceipt { status: code, answer });
    }
    let kind = match status {
        StatusCode::GONE => SendErrorKind::Gone,
        _ => SendErrorKind::Temporary,
    };
    let retry_after = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            headers.get(RETRY_AFTER).and_then(|value| parse_retry_after(value.to_str().ok()?, now))
        }
        _ => None,
    };
    Err(SendError { kind, status: code, answer, retry_after })
}

/// Parses `Retry-After`: seconds or an HTTP date (RFC 9110).
fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let asked = if is_number {
        // A number that overflows exceeds the maximum too.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let until = DateTime::parse_from_rfc2822(value).ok()?.timestamp_millis();
        Duration::from_millis(u64::try_from(until - now.millis()).unwrap_or(0))
    };
    Some(asked.min(MAX_RETRY_AFTER))
}

fn connection_error(error: &(dyn Error + 'static)) -> SendError {
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<AddressNotAllowed>())
    {
        return SendError::forbidden(refused.to_string());
    }
    let chain: Vec<_> = causes(error).map(ToString::to_string).collect();
    SendError::temporary(chain.join(": "))
}

/// The error and its chain of causes.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| Error::source(*error))
}
