//! Rate limits of a request's key, and the fields that report them in every response
//! (draft-ietf-httpapi-ratelimit-headers).

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::api::ApiError;
use crate::domain::access::Principal;
use crate::service::limits::rate_limits::{KeyRateLimiter, LimitedResource};
use crate::service::limits::resource_user::ResourceUser;

pub(crate) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(crate) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The requests of a route that are limited as expensive ones.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ExpensiveRequests {
    None,
    All,
    /// Requests that change something.
    Changes,
    /// Requests with one of these query parameters.
    WithQuery(&'static [&'static str]),
}

impl ExpensiveRequests {
    pub(crate) fn includes(self, method: &Method, uri: &Uri) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Changes => !method.is_safe(),
            Self::WithQuery(names) => {
                let pairs = uri.query().unwrap_or_default().split('&');
                pairs
                    .map(|pair| pair.split('=').next())
                    .any(|name| name.is_some_and(|name| names.contains(&name)))
            }
        }
    }
}

/// The limited resources that one request uses, beside the request itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateLimitedResources {
    pub(crate) is_expensive: bool,
    /// The events are taken from their limit once they have been counted.
    pub(crate) has_events: bool,
}

impl RateLimitedResources {
    /// Takes the request from the limits of its key.
    pub(crate) fn take(
        self,
        limiter: &KeyRateLimiter,
        principal: Option<&Principal>,
    ) -> Result<(), ApiError> {
        let Some(principal) = principal else { return Ok(()) };
        let user = ResourceUser::of_key(&principal.key_id);
        limiter.take(user, LimitedResource::Requests, 1)?;
        if self.is_expensive {
            limiter.take(user, LimitedResource::ExpensiveRequests, 1)?;
        }
        Ok(())
    }

    /// Reports the limits of the key. Without limits, the response has no such fields.
    pub(crate) fn write_fields(
        self,
        limiter: &KeyRateLimiter,
        principal: Option<&Principal>,
        headers: &mut HeaderMap,
    ) {
        let Some(principal) = principal else { return };
        let user = ResourceUser::of_key(&principal.key_id);
        let (mut policy, mut remaining) = (String::new(), String::new());
        for resource in LimitedResource::ALL {
            let is_used = match resource {
                LimitedResource::Requests => true,
                LimitedResource::Events => self.has_events,
                LimitedResource::ExpensiveRequests => self.is_expensive,
            };
            if let Some(status) = is_used.then(|| limiter.status(user, resource)).flatten() {
                // Writing to a string cannot fail.
                let _ = status.write_policy(&mut policy);
                let _ = status.write_remaining(&mut remaining);
            }
        }
        for (name, field) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, remaining)] {
            if let Some(value) =
                (!field.is_empty()).then(|| HeaderValue::try_from(field).ok()).flatten()
            {
                headers.insert(name, value);
            }
        }
    }
}
