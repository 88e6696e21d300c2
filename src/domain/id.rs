//! Names of things: parsed once, always valid afterwards.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Text from outside that is not a usable id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadId(pub String);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max_chars:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            pub const MAX_CHARS: usize = $max_chars;

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                check_text(&text, $max_chars)?;
                Ok(Self(text.into_boxed_str()))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                check_text(text, $max_chars)?;
                Ok(Self(text.into()))
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
    /// What the sender calls one event; the same id is counted once.
    MessageId, 200
}
text_id! {
    /// Whose event it is: the sender's customer id.
    CustomerKey, 200
}
text_id! {
    /// One training run.
    RunId, 64
}

fn check_text(text: &str, max_chars: usize) -> Result<(), BadId> {
    if text.trim().is_empty() {
        return Err(BadId("must not be empty".into()));
    }
    if text.chars().count() > max_chars {
        return Err(BadId(format!("must be at most {max_chars} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(BadId("must not hold control characters".into()));
    }
    Ok(())
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The address of these bytes.
            pub fn of(bytes: &[u8]) -> Self {
                Self(hex(&Sha256::digest(bytes)).into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve digits: enough for people and logs.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if text.len() == 64 && digits {
                    Ok(Self(text.into()))
                } else {
                    Err(BadId("must be a SHA-256: 64 lower-case hexadecimal digits".into()))
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
    /// A model: the SHA-256 of its sealed document.
    ModelId
}
digest_id! {
    /// A feature set: the SHA-256 of its normal form.
    FeatureSetId
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
