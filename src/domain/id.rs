//! Identifiers: parsed once, always valid afterwards.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Error for a text that is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub String);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max_chars:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check_text(text, $max_chars).map(|text| Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// The sender's id of one event among those of its customer. An event with an id that was
    /// already accepted is not counted: it is a duplicate, or a conflict if its content differs.
    MessageId, 200
}
text_id! {
    /// The customer id in an event, as the sender chose it.
    CustomerKey, 200
}
text_id! {
    /// Identifier of a training run.
    RunId, 64
}

/// Validates an id, and removes blanks at its ends.
fn check_text(text: &str, max_chars: usize) -> Result<&str, InvalidId> {
    let text = text.trim();
    if text.is_empty() {
        return Err(InvalidId("must not be empty".into()));
    }
    if text.chars().count() > max_chars {
        return Err(InvalidId(format!("must be at most {max_chars} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidId("must not contain control characters".into()));
    }
    Ok(text)
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The content address: the SHA-256 of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(encode_hex(&Sha256::digest(bytes)).into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve digits, for display and logs.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if text.len() == 64 && digits {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId("must be a SHA-256: 64 lower-case hexadecimal digits".into()))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

digest_id! {
    /// Content address of a model: the SHA-256 of its sealed document.
    ModelId
}
digest_id! {
    /// Content address of a feature set: the SHA-256 of its normal form.
    FeatureSetId
}

/// Encodes bytes as lower-case hexadecimal digits.
pub fn encode_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
