//! Authorisation: scopes of API keys, the authenticated caller, and the namespace of message
//! ids.

pub mod api_key;
pub mod origin;

use std::fmt;
use std::sync::Arc;

use crate::domain::access::origin::WebOrigin;

/// A permission of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessScope {
    /// For browsers and apps, where anyone can read the key.
    Track,
    /// For servers.
    Ingest,
    Score,
    Read,
    Replay,
    Train,
    Admin,
}

impl AccessScope {
    pub const ALL: [Self; 7] = [
        Self::Track,
        Self::Ingest,
        Self::Score,
        Self::Read,
        Self::Replay,
        Self::Train,
        Self::Admin,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Ingest => "ingest",
            Self::Score => "score",
            Self::Read => "read",
            Self::Replay => "replay",
            Self::Train => "train",
            Self::Admin => "admin",
        }
    }

    /// The operations that a key with this scope can call, for API documents and command help.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Track => {
                "for browsers and apps: send events through the tracking API. Answers hold no \
                 segment and no customer id. Message ids are a namespace of the key; an id is \
                 linked only from an anonymous id that the key introduced. The key may be public"
            }
            Self::Ingest => {
                "for servers: send events through every endpoint, and link any ids. Answers hold \
                 the customer's id and segment. Keep the key secret. Includes `track`"
            }
            Self::Score => {
                "score feature rows. The rows count in the drift figures and in the trial period \
                 of a new model"
            }
            Self::Read => {
                "read customers, segments, models, training runs, drift, alerts, channels and \
                 policy; and which events were rejected and why, without their bodies"
            }
            Self::Replay => {
                "with `read`, see the bodies of rejected events, which hold personal data; send \
                 rejected events in again, whichever key sent them"
            }
            Self::Train => {
                "start and cancel training runs; promote, roll back, retire and reject models; \
                 change personas and audiences; acknowledge and silence alerts"
            }
            Self::Admin => {
                "with `train`, overrule the gates; configure channels and policy; replay \
                 notifications; take links between ids back; create, rotate and revoke API keys"
            }
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    /// Whether a key with these scopes is public: it has `track` without `ingest`, so it can
    /// only send events.
    pub(crate) fn is_public_key(scopes: &[Self]) -> bool {
        scopes.contains(&Self::Track) && !scopes.contains(&Self::Ingest)
    }
}

impl fmt::Display for AccessScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The authenticated caller: the key and its scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub key_id: String,
    pub scopes: Vec<AccessScope>,
    /// Web origins that may send requests with the key; empty: all.
    pub allowed_origins: Vec<WebOrigin>,
}

impl Principal {
    /// Whether the caller has `scope`. A public key has only `track`, whatever other scopes it
    /// was granted.
    pub(crate) fn has_scope(&self, scope: AccessScope) -> bool {
        match scope {
            AccessScope::Track => {
                self.scopes.iter().any(|s| matches!(s, AccessScope::Track | AccessScope::Ingest))
            }
            _ => self.scopes.contains(&scope) && !self.has_public_key(),
        }
    }

    /// Whether the key may be used in a request with this header `Origin`.
    pub(crate) fn allows_origin(&self, header: Option<&[u8]>) -> bool {
        self.allowed_origins.is_empty()
            || header.is_some_and(|header| {
                self.allowed_origins.iter().any(|origin| origin.is_in_header(header))
            })
    }

    pub(crate) fn has_public_key(&self) -> bool {
        AccessScope::is_public_key(&self.scopes)
    }
}

/// Prefix of the id of an API key in the author of a change.
pub(crate) const KEY_AUTHOR_PREFIX: &str = "key ";

/// Namespace of message ids: one for all trusted senders, one for each public key. So the
/// holder of a public key cannot block another sender's event by using its message id first.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageIdNamespace(Option<Arc<str>>);

impl MessageIdNamespace {
    /// Every key with the scope `ingest`.
    pub(crate) const TRUSTED: Self = Self(None);

    /// The namespace of one public key.
    pub(crate) fn of_public_key(key_id: &str) -> Self {
        Self(Some(key_id.into()))
    }

    pub const fn is_public(&self) -> bool {
        self.0.is_some()
    }

    /// The id of the public key; empty for trusted senders.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}
