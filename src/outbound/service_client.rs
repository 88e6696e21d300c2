//! HTTP client of a running segmentd service, for the commands that send requests to it.
//!
//! Not guarded against SSRF: the address is that of the user's own command line. Redirects are
//! not followed, as they would pass the API key on.

use std::error::Error;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, InvalidHeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use url::Url;

use super::http::{PRODUCT, tls_settings};

/// Client with the API key that it sends.
#[derive(Debug, Clone)]
pub struct ServiceClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    authorization: HeaderValue,
}

/// A response with its body still to be read.
#[derive(Debug)]
pub struct ServiceResponse {
    pub status: StatusCode,
    body: BoxBody<Bytes, Box<dyn Error + Send + Sync>>,
}

/// Reason why a request has no complete response.
#[derive(Debug, thiserror::Error)]
pub enum ServiceClientError {
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("the API key has characters that an HTTP header cannot contain")]
    Key(#[from] InvalidHeaderValue),
    #[error("the request cannot be built")]
    Request(#[from] http::Error),
    #[error("the request failed")]
    Sending(#[from] hyper_util::client::legacy::Error),
    #[error("the response is incomplete")]
    Incomplete(#[source] Box<dyn Error + Send + Sync>),
    #[error("the response is not UTF-8")]
    Text(#[from] std::string::FromUtf8Error),
}

impl ServiceClient {
    /// Trusts the public certificate authorities.
    pub fn new(key: &str) -> Result<Self, ServiceClientError> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {key}"))?;
        // Omits the key from debug output.
        authorization.set_sensitive(true);
        let mut tcp = HttpConnector::new();
        // By default the connector refuses https.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_settings(&[])?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, authorization })
    }

    pub async fn get(&self, url: &Url) -> Result<ServiceResponse, ServiceClientError> {
        self.send(Method::GET, url, Bytes::new()).await
    }

    pub async fn post(
        &self,
        url: &Url,
        body: impl Into<Bytes>,
    ) -> Result<ServiceResponse, ServiceClientError> {
        self.send(Method::POST, url, body.into()).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        body: Bytes,
    ) -> Result<ServiceResponse, ServiceClientError> {
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(USER_AGENT, PRODUCT)
            .header(AUTHORIZATION, &self.authorization)
            .body(Full::new(body))?;
        let (head, body) = self.client.request(request).await?.into_parts();
        Ok(ServiceResponse { status: head.status, body: body.map_err(Into::into).boxed() })
    }
}

impl ServiceResponse {
    /// The next bytes of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ServiceClientError> {
        while let Some(frame) = self.body.frame().await {
            // Other frames are trailers, which segmentd does not send.
            if let Ok(data) = frame.map_err(ServiceClientError::Incomplete)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body as text.
    pub async fn text(self) -> Result<String, ServiceClientError> {
        let body = self.body.collect().await.map_err(ServiceClientError::Incomplete)?;
        Ok(String::from_utf8(body.to_bytes().into())?)
    }
}
