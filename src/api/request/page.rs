//! Keyset pagination of lists: `limit`, an opaque `cursor`, and `next_cursor` in the response.
//!
//! A cursor is the sort key of the last item of a page. The next page begins after this key, so
//! items that are added or removed meanwhile cause no gaps and no repetitions, and items of
//! equal instants are not skipped.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api::request::storable;
use crate::domain::time::Timestamp;

/// Sort key of a list that is ordered by an instant, then by id.
pub(crate) type InstantAndId = (Timestamp, String);

/// The query parameter `limit`: from 1 to `MAX`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimit<const DEFAULT: i64, const MAX: i64>(i64);

impl<const DEFAULT: i64, const MAX: i64> PageLimit<DEFAULT, MAX> {
    pub(crate) fn get(self) -> i64 {
        self.0
    }
}

impl<const DEFAULT: i64, const MAX: i64> Default for PageLimit<DEFAULT, MAX> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<'de, const DEFAULT: i64, const MAX: i64> Deserialize<'de> for PageLimit<DEFAULT, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = i64::deserialize(deserializer)?;
        if (1..=MAX).contains(&limit) {
            return Ok(Self(limit));
        }
        Err(D::Error::custom(format!("must be from 1 to {MAX}")))
    }
}

impl<const DEFAULT: i64, const MAX: i64> PartialSchema for PageLimit<DEFAULT, MAX> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(MAX))
            .default(Some(DEFAULT.into()))
            .into()
    }
}

impl<const DEFAULT: i64, const MAX: i64> ToSchema for PageLimit<DEFAULT, MAX> {
    fn name() -> Cow<'static, str> {
        "PageLimit".into()
    }
}

/// The query parameter `cursor`: the sort key `K` of the last item of the previous page.
#[derive(Debug, Clone)]
pub(crate) struct PageCursor<K>(pub(crate) K);

impl<K: Serialize> PageCursor<K> {
    /// The cursor as text: base64url of JSON.
    pub(crate) fn encode(&self) -> String {
        let key = serde_json::to_vec(&self.0).unwrap_or_default();
        BASE64_URL_SAFE_NO_PAD.encode(key)
    }

    /// The `next_cursor` of a page of `rows`: `None` if it is the last page. A page that is not
    /// full is the last.
    pub(crate) fn after<R>(rows: &[R], limit: i64, key: impl Fn(&R) -> K) -> Option<String> {
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
        rows.last().filter(|_| is_full).map(|row| Self(key(row)).encode())
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for PageCursor<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&text).ok();
        // Postgres cannot store NUL, which no key has.
        let bytes = bytes.filter(|bytes| storable::check_json(bytes).is_ok());
        let key = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        key.map(Self)
            .ok_or_else(|| D::Error::custom("must be the `next_cursor` of a page of this list"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_returns_its_key_and_refuses_another_text() {
        let text = PageCursor((5_i64, "c1".to_owned())).encode();
        let json = serde_json::to_string(&text).unwrap();
        let PageCursor(key) = serde_json::from_str::<PageCursor<(i64, String)>>(&json).unwrap();
        assert_eq!(key, (5, "c1".to_owned()));
        for wrong in [r#""s1""#, r#""""#, r#""bnVsbA""#] {
            assert!(serde_json::from_str::<PageCursor<(i64, String)>>(wrong).is_err(), "{wrong}");
        }
        let with_nul = format!("\"{}\"", PageCursor((5_i64, "\0")).encode());
        assert!(serde_json::from_str::<PageCursor<(i64, String)>>(&with_nul).is_err());
    }

    #[test]
    fn only_a_full_page_has_a_next_cursor() {
        assert!(PageCursor::after(&[1, 2], 3, |row| *row).is_none());
        assert!(PageCursor::after(&[1, 2], 2, |row| *row).is_some());
        assert!(PageCursor::after::<i32>(&[], 2, |row| *row).is_none());
    }
}
