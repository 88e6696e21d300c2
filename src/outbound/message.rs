//! The HTTP message of a notification.

/// A body with its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpMessage {
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl HttpMessage {
    pub fn new(content_type: &str, body: Vec<u8>) -> Self {
        Self { headers: vec![("content-type", content_type.to_owned())], body }
    }
}
