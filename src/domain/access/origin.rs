//! Web origin (RFC 6454): scheme, host and port of the page that sends a request.

use url::Url;

/// A web origin in its ASCII serialisation, such as `https://shop.example`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebOrigin(String);

/// Longest accepted origin, in bytes: the longest host name and the longest port.
const MAX_BYTES: usize = 270;

impl WebOrigin {
    /// Parses and normalises an origin: lower case, without the default port. The error says
    /// what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        const RULE: &str = "must be an origin such as https://shop.example or \
                            http://localhost:3000, without a path";
        let found = || format!("{RULE}: `{}`", text.chars().take(100).collect::<String>());
        let url = Url::parse(text).map_err(|_| found())?;
        let is_origin = ["http", "https"].contains(&url.scheme())
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && !text.contains('*');
        let origin = url.origin().ascii_serialization();
        if is_origin && origin.len() <= MAX_BYTES { Ok(Self(origin)) } else { Err(found()) }
    }

    /// Whether the header `Origin` of a request names this origin.
    pub(crate) fn is_in_header(&self, header: &[u8]) -> bool {
        self.0.as_bytes().eq_ignore_ascii_case(header)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalised_and_everything_else_is_refused() {
        for (text, origin) in [
            ("https://Shop.Example", "https://shop.example"),
            ("https://shop.example:443/", "https://shop.example"),
            ("http://localhost:3000", "http://localhost:3000"),
        ] {
            assert_eq!(WebOrigin::parse(text).unwrap().as_str(), origin);
        }
        for text in ["shop.example", "https://shop.example/path", "https://*.shop.example", "null"]
        {
            assert!(WebOrigin::parse(text).unwrap_err().contains(text));
        }
        let origin = WebOrigin::parse("https://shop.example").unwrap();
        assert!(origin.is_in_header(b"https://shop.example"));
        assert!(!origin.is_in_header(b"https://shop.example.evil.test"));
    }
}
