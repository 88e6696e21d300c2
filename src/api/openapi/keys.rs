//! OpenAPI description of API keys.

use serde_json::{Value, json};

use super::{Operation, QueryParameter};
use crate::domain::access::AccessScope;
use crate::domain::access::api_key::{
    DEFAULT_OVERLAP_SECONDS, MAX_ALLOWED_ORIGINS, MAX_OVERLAP_SECONDS, MAX_RATE_LIMIT,
};

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/keys",
        "get",
        "admin",
        "List API keys, oldest first",
        None,
        "`keys` without their secrets: scopes, status (valid, expired or revoked), allowed origins, \
         limits, and when each was created, last used (within about a minute), rotated and revoked",
    ),
    (
        "/v1/keys",
        "post",
        "admin",
        "Create an API key",
        Some("ApiKeyRequest"),
        "The key. `key` is its secret, which is returned only here. 409 if there are 1000 keys \
         that are not revoked",
    ),
    ("/v1/keys/{key_id}", "get", "admin", "Get an API key", None, "The key without its secret"),
    (
        "/v1/keys/{key_id}",
        "delete",
        "admin",
        "Revoke an API key",
        None,
        "An empty response. Every replica refuses the key at once, or within auth.refresh_seconds \
         if a notification is lost. 409 for the last valid key with the scope `admin`",
    ),
    (
        "/v1/keys/{key_id}/rotate",
        "post",
        "admin",
        "Give an API key a new secret",
        Some("RotateKeyRequest"),
        "The key. `key` is its new secret, which is returned only here. The secret before it is \
         accepted until `previous_secret_ends_at`; an earlier one is not accepted any more",
    ),
];

pub(super) const QUERY_PARAMETERS: &[QueryParameter] = &[(
    "/v1/keys",
    "revoked",
    "boolean",
    "Include the keys revoked last, up to 1000; default false",
)];

pub(super) fn schemas() -> Value {
    json!({
        "ApiKeyRequest": {
            "type": "object",
            "additionalProperties": false,
            "required": ["name", "scopes"],
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 200, "description": "Shown in lists, logs and decisions" },
                "scopes": { "type": "array", "minItems": 1, "items": { "enum": AccessScope::ALL.map(AccessScope::as_str) } },
                "expires_at": { "type": ["string", "null"], "format": "date-time", "description": "The key is not valid from then on; default never" },
                "allowed_origins": {
                    "type": "array",
                    "maxItems": MAX_ALLOWED_ORIGINS,
                    "items": { "type": "string" },
                    "description": "For keys with the scope `track` alone: web origins such as `https://shop.example`. A request with another or no `Origin` is answered 403; default all",
                },
                "limits": { "$ref": "#/components/schemas/KeyRateLimits" },
            },
        },
        "KeyRateLimits": {
            "type": "object",
            "additionalProperties": false,
            "description": "Rate limits of the key in each process. Null or absent: as configured; 0: no limit",
            "properties": {
                "requests_per_second": rate("default limits.requests_per_second_per_key"),
                "events_per_second": rate("default limits.events_per_second_per_key"),
                "expensive_requests_per_minute": rate("exports, requested training runs, migration previews, and features as of an earlier instant; default limits.expensive_requests_per_minute_per_key"),
            },
        },
        "RotateKeyRequest": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "overlap_seconds": { "type": "integer", "minimum": 0, "maximum": MAX_OVERLAP_SECONDS, "default": DEFAULT_OVERLAP_SECONDS, "description": "Time for which the secret before is still accepted; 0 refuses it at once" },
            },
        },
    })
}

fn rate(description: &str) -> Value {
    json!({ "type": ["integer", "null"], "minimum": 0, "maximum": MAX_RATE_LIMIT, "description": description })
}
