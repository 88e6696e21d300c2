//! API keys: the properties of a key, their validation, and rotation of its secret.

use crate::domain::access::AccessScope;
use crate::domain::access::origin::WebOrigin;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::text;
use crate::domain::time::Timestamp;

/// Maximum number of allowed origins of a key.
pub(crate) const MAX_ALLOWED_ORIGINS: usize = 100;
/// Maximum of each rate limit of a key.
pub(crate) const MAX_RATE_LIMIT: u32 = 1_000_000_000;
/// Maximum overlap of a rotation, in seconds: 30 days.
pub(crate) const MAX_OVERLAP_SECONDS: u32 = 30 * 86_400;
/// Default overlap of a rotation, in seconds: one day.
pub(crate) const DEFAULT_OVERLAP_SECONDS: u32 = 86_400;

/// Rate limits of one key, which replace the configured ones. `None`: as configured; 0: no
/// limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyRateLimits {
    pub requests_per_second: Option<u32>,
    pub events_per_second: Option<u32>,
    pub expensive_requests_per_minute: Option<u32>,
}

/// The properties of a key to create, as requested.
#[derive(Debug, Clone, Default)]
pub struct ApiKeyRequest {
    pub name: String,
    /// Names of scopes.
    pub scopes: Vec<String>,
    /// The key is not valid from then on.
    pub expires_at: Option<Timestamp>,
    /// Web origins that may send requests with the key; empty: all.
    pub allowed_origins: Vec<String>,
    pub limits: KeyRateLimits,
}

/// The validated properties of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyProperties {
    pub name: String,
    pub scopes: Vec<AccessScope>,
    pub expires_at: Option<Timestamp>,
    pub allowed_origins: Vec<WebOrigin>,
    pub limits: KeyRateLimits,
}

impl ApiKeyRequest {
    /// A key with these scopes, without expiry, origins and limits of its own.
    pub fn with_scopes(name: &str, scopes: &[AccessScope]) -> Self {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        Self { name: name.to_owned(), scopes, ..Self::default() }
    }

    /// Validates every property; reports every fault with the path of its field.
    pub fn validate(self, now: Timestamp) -> Result<ApiKeyProperties, ValidationFaults> {
        let mut faults = ValidationFaults::default();
        let name = text::check_name("name", &self.name).unwrap_or_else(|fault| {
            faults.push(fault);
            String::new()
        });
        let scopes = parse_scopes(&self.scopes, &mut faults);
        if self.expires_at.is_some_and(|at| at <= now) {
            faults
                .push(ValidationFault::new("expires_at", format!("must be later than now, {now}")));
        }
        let allowed_origins = parse_origins(&self.allowed_origins, &mut faults);
        if !allowed_origins.is_empty() && !AccessScope::is_public_key(&scopes) {
            let problem = "are for browser keys, which have the scope `track` alone: a request of \
                           a server has no origin";
            faults.push(ValidationFault::new("allowed_origins", problem));
        }
        check_limits(self.limits, &mut faults);
        let (expires_at, limits) = (self.expires_at, self.limits);
        faults.into_result(ApiKeyProperties { name, scopes, expires_at, allowed_origins, limits })
    }
}

fn parse_scopes(names: &[String], faults: &mut ValidationFaults) -> Vec<AccessScope> {
    let known = || AccessScope::ALL.map(AccessScope::as_str).join(", ");
    if names.is_empty() {
        let problem = format!("must name at least one scope: {}", known());
        faults.push(ValidationFault::new("scopes", problem));
    }
    let mut scopes = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match AccessScope::parse(name) {
            Some(scope) if scopes.contains(&scope) => {}
            Some(scope) => scopes.push(scope),
            None => {
                let problem = format!("must be one of {}: `{name}`", known());
                faults.push(ValidationFault::new(format!("scopes[{index}]"), problem));
            }
        }
    }
    if AccessScope::is_public_key(&scopes) && scopes.len() > 1 {
        let problem = "a key with `track` is public, for browsers and apps, and can have no other \
                       scope: create a second key, or use `ingest` for a server";
        faults.push(ValidationFault::new("scopes", problem));
    }
    scopes
}

fn parse_origins(texts: &[String], faults: &mut ValidationFaults) -> Vec<WebOrigin> {
    if texts.len() > MAX_ALLOWED_ORIGINS {
        let problem = format!("must be at most {MAX_ALLOWED_ORIGINS}: {}", texts.len());
        faults.push(ValidationFault::new("allowed_origins", problem));
        return Vec::new();
    }
    let mut origins = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match WebOrigin::parse(text) {
            Ok(origin) => origins.push(origin),
            Err(problem) => {
                faults.push(ValidationFault::new(format!("allowed_origins[{index}]"), problem));
            }
        }
    }
    origins.sort();
    origins.dedup();
    origins
}

fn check_limits(limits: KeyRateLimits, faults: &mut ValidationFaults) {
    let KeyRateLimits { requests_per_second, events_per_second, expensive_requests_per_minute } =
        limits;
    for (field, limit) in [
        ("limits.requests_per_second", requests_per_second),
        ("limits.events_per_second", events_per_second),
        ("limits.expensive_requests_per_minute", expensive_requests_per_minute),
    ] {
        if let Some(limit) = limit.filter(|limit| *limit > MAX_RATE_LIMIT) {
            let problem = format!("must be at most {MAX_RATE_LIMIT}, or 0 for no limit: {limit}");
            faults.push(ValidationFault::new(field, problem));
        }
    }
}

/// Validates the overlap of a rotation, in seconds.
pub(crate) fn check_overlap(overlap_seconds: u32) -> Result<u32, ValidationFault> {
    if overlap_seconds <= MAX_OVERLAP_SECONDS {
        return Ok(overlap_seconds);
    }
    let problem = format!("must be at most {MAX_OVERLAP_SECONDS}, 30 days: {overlap_seconds}");
    Err(ValidationFault::new("overlap_seconds", problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_reported_with_its_field() {
        let request = ApiKeyRequest {
            name: " ".to_owned(),
            scopes: vec!["read".to_owned(), "write".to_owned()],
            expires_at: Some(Timestamp::from_millis(1)),
            allowed_origins: vec!["https://shop.example".to_owned(), "shop".to_owned()],
            limits: KeyRateLimits { events_per_second: Some(u32::MAX), ..Default::default() },
        };
        let faults = request.validate(Timestamp::from_millis(2)).unwrap_err();
        let fields: Vec<&str> = faults.0.iter().map(|fault| &*fault.path).collect();
        let expected = [
            "name",
            "scopes[1]",
            "expires_at",
            "allowed_origins[1]",
            "allowed_origins",
            "limits.events_per_second",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_public_key_has_one_scope_and_may_have_origins() {
        let mut request = ApiKeyRequest::with_scopes("web", &[AccessScope::Track]);
        request.allowed_origins = vec!["https://SHOP.example".to_owned()];
        let key = request.clone().validate(Timestamp::from_millis(0)).unwrap();
        assert_eq!(key.allowed_origins, [WebOrigin::parse("https://shop.example").unwrap()]);
        request.scopes.push("read".to_owned());
        let faults = request.validate(Timestamp::from_millis(0)).unwrap_err();
        assert!(faults.to_string().contains("can have no other scope"), "{faults}");
    }
}
