//! Requests of commands to a service: key, body, redirects and TLS.

use segmentd::outbound::service_client::{ServiceClient, ServiceClientError};
use url::Url;

use crate::support::http_receiver::{Certified, Receiver};

#[tokio::test]
async fn requests_carry_the_key_and_responses_are_read_to_their_end() {
    let mut receiver = Receiver::start().await;
    let client = ServiceClient::new("key_1").unwrap();
    let url = Url::parse(&receiver.url("/v1/events/bulk")).unwrap();
    let response = client.post(&url, b"{}\n".to_vec()).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.text().await.unwrap(), "said the receiver");
    let received = receiver.take().unwrap();
    assert_eq!((&*received.path, &received.body[..]), ("/v1/events/bulk", &b"{}\n"[..]));
    assert_eq!(received.headers["authorization"], "Bearer key_1");
    assert!(!format!("{client:?}").contains("key_1"));

    let url = Url::parse(&receiver.url("/endless")).unwrap();
    let mut response = client.get(&url).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    assert_eq!(bytes, receiver.answered_bytes());
}

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let mut receiver = Receiver::start().await;
    let client = ServiceClient::new("key_1").unwrap();
    let url = Url::parse(&receiver.url("/redirects")).unwrap();
    assert_eq!(client.get(&url).await.unwrap().status, 301);
    assert_eq!(receiver.take().unwrap().path, "/redirects");
    assert!(receiver.take().is_none());
}

#[tokio::test]
async fn a_server_with_an_unknown_authority_and_an_invalid_key_are_refused() {
    let (port, _running) = Certified::new().serve().await;
    let url = Url::parse(&format!("https://localhost:{port}/")).unwrap();
    let error = ServiceClient::new("key_1").unwrap().get(&url).await.unwrap_err();
    let error = format!("{:#}", anyhow::Error::from(error));
    assert!(error.contains("certificate"), "{error}");
    let invalid = ServiceClient::new("key\n1");
    assert!(matches!(invalid, Err(ServiceClientError::Key(_))), "{invalid:?}");
}
