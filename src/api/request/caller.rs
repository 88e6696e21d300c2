//! Authentication and authorization of API keys.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::api::{ApiError, ApiState};
use crate::domain::access::{AccessScope, KEY_AUTHOR_PREFIX, Principal};
use crate::service::alerts::ChangeAuthor;
use crate::service::api_keys::AuthenticationFailure;
use crate::service::limits::resource_user::ResourceUser;

/// The authenticated caller; its key has the scope `S`.
#[derive(Debug)]
pub(crate) struct AuthorizedCaller<S> {
    pub(crate) principal: Arc<Principal>,
    scope: PhantomData<S>,
}

/// A required scope, as a type parameter of [`AuthorizedCaller`].
pub(crate) trait RequiredScope: Send + Sync {
    const SCOPE: AccessScope;
}

macro_rules! required_scopes {
    ($($name:ident)+) => {$(
        #[derive(Debug)]
        pub(crate) struct $name;
        impl RequiredScope for $name {
            const SCOPE: AccessScope = AccessScope::$name;
        }
    )+};
}
required_scopes!(Track Ingest Score Read Replay Train Admin);

impl<S: RequiredScope> FromRequestParts<ApiState> for AuthorizedCaller<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        // Inserted by admission control, which has authenticated the request already.
        match parts.extensions.get::<Arc<Principal>>() {
            Some(principal) => Self::with_scope(Arc::clone(principal)),
            None => Self::with_scope(authenticate(state, &parts.headers)?),
        }
    }
}

impl<S: RequiredScope> AuthorizedCaller<S> {
    /// The key as a unit of fair sharing of memory and threads.
    pub(crate) fn user(&self) -> ResourceUser {
        ResourceUser::of_key(&self.principal.key_id)
    }

    /// Authenticates a key outside the `Authorization` header, in a request with this
    /// `Origin`, and checks its scope.
    pub(crate) fn authenticate(
        state: &ApiState,
        key: &str,
        origin: Option<&HeaderValue>,
    ) -> Result<Self, ApiError> {
        Self::with_scope(check_key(state, key, origin)?)
    }

    /// The key as the author of a change, with the reason.
    pub(crate) fn actor(&self, reason: impl Into<String>) -> ChangeAuthor {
        ChangeAuthor { name: self.actor_name(), reason: reason.into() }
    }

    /// The key as named in audit records.
    pub(crate) fn actor_name(&self) -> String {
        format!("{KEY_AUTHOR_PREFIX}{}", self.principal.key_id)
    }

    /// Checks the scope of an authenticated principal.
    pub(crate) fn with_scope(principal: Arc<Principal>) -> Result<Self, ApiError> {
        if !principal.has_scope(S::SCOPE) {
            return Err(ApiError::forbidden(format!("the key lacks the scope `{}`", S::SCOPE)));
        }
        Ok(Self { principal, scope: PhantomData })
    }
}

/// Authenticates the key in the `Authorization` header.
pub(crate) fn authenticate(
    state: &ApiState,
    headers: &HeaderMap,
) -> Result<Arc<Principal>, ApiError> {
    authenticate_if_given(state, headers)?.ok_or_else(|| {
        ApiError::unauthenticated(
            "send `Authorization: Bearer <key>`; `segmentd keys create` creates a key",
        )
    })
}

/// As [`authenticate`]; `None` if the request has no `Authorization` header with a key.
pub(crate) fn authenticate_if_given(
    state: &ApiState,
    headers: &HeaderMap,
) -> Result<Option<Arc<Principal>>, ApiError> {
    let origin = headers.get(header::ORIGIN);
    key_in_header(headers).map(|key| check_key(state, &key, origin)).transpose()
}

fn check_key(
    state: &ApiState,
    key: &str,
    origin: Option<&HeaderValue>,
) -> Result<Arc<Principal>, ApiError> {
    let principal = state.api_keys.authenticate(key).map_err(|refusal| match refusal {
        AuthenticationFailure::NotReady => {
            ApiError::unavailable("the API keys are being loaded", 1)
        }
        AuthenticationFailure::UnknownKey => ApiError::unauthenticated("the API key is not valid"),
        AuthenticationFailure::Expired(at) => ApiError::unauthenticated(&format!(
            "the API key, or its secret before a rotation, ended at {at}"
        )),
    })?;
    if principal.allows_origin(origin.map(HeaderValue::as_bytes)) {
        return Ok(principal);
    }
    Err(ApiError::forbidden(match origin {
        Some(_) => "the `Origin` of the request is not one of the key's allowed origins".to_owned(),
        None => "the key is limited to allowed origins, and the request has no `Origin`".to_owned(),
    }))
}

/// The key in `Authorization`: a Bearer token (RFC 6750), or the user name of Basic
/// authentication (RFC 7617), as `curl -u "$KEY:"` sends it.
fn key_in_header(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("Bearer") {
        return Some(credentials.trim().into());
    }
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let user = pair.split_once(':').map_or(&*pair, |(user, _)| user);
    Some(user.to_owned().into())
}
