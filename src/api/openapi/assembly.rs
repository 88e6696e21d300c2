//! Assembly of the OpenAPI document from the descriptions of the routes.
//!
//! `#[utoipa::path]` describes an operation, `ToSchema` a body. What all operations share is
//! added here: the second way to send a key, the error responses, and examples.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, OpenApiBuilder, PathsBuilder, RefOr, Schema,
};
use utoipa::{PartialSchema, ToSchema};

use super::walk::{SCHEMA_PATH, for_each_object};
use super::{INSTANT_SCHEMA, errors, examples};
use crate::api::alerting::moves;
use crate::api::error::ProblemBody;
use crate::api::events::segment::TrackingProblemBody;
use crate::api::inference::InferenceErrorBody;
use crate::api::route::RouteDescription;
use crate::domain::access::AccessScope;
use crate::domain::customer_move::MOVES_MESSAGE_TYPE;
use crate::domain::time::Timestamp;

/// Suffix of the Rust types of bodies; their schemas have the name without it.
const BODY_SUFFIX: &str = "Body";

/// The document of these routes, each with its path.
pub(super) fn assemble<'r>(routes: impl Iterator<Item = (&'r str, &'r RouteDescription)>) -> Value {
    let mut paths = PathsBuilder::new();
    let mut components = ComponentsBuilder::new();
    for (path, description) in routes {
        paths = paths.path(path, description.item.clone());
        components = components.schemas_from_iter(description.schemas.clone());
    }
    let document = OpenApiBuilder::new()
        .info(InfoBuilder::new().title("segmentd").version(env!("CARGO_PKG_VERSION")))
        .paths(paths)
        .components(Some(
            components
                .schemas_from_iter(problem_schemas())
                .schemas_from_iter(moves::webhook_schemas())
                .build(),
        ))
        .build();
    // The document is plain data with text keys, which always has a JSON form.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let webhook = serde_json::to_value(moves::webhook_operation()).unwrap_or_default();
    document["webhooks"] = json!({ MOVES_MESSAGE_TYPE: { "post": webhook } });
    finish(&mut document);
    document
}

/// The schemas of errors, with the schemas that they use.
fn problem_schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = vec![
        (ProblemBody::name().into_owned(), ProblemBody::schema()),
        (TrackingProblemBody::name().into_owned(), TrackingProblemBody::schema()),
        (InferenceErrorBody::name().into_owned(), InferenceErrorBody::schema()),
    ];
    ProblemBody::schemas(&mut schemas);
    schemas
}

fn finish(document: &mut Value) {
    document["info"]["summary"] = "Online customer segmentation".into();
    document["info"]["license"] = json!({ "name": "Apache-2.0", "identifier": "Apache-2.0" });
    document["servers"] = json!([{ "url": "/" }]);
    document["components"]["securitySchemes"] = security_schemes();
    document["components"]["responses"] = errors::shared_responses();
    for_each_object(document, &mut shorten_schema_name);
    let mut schemas = Map::new();
    if let Value::Object(named) = document["components"]["schemas"].take() {
        for (name, schema) in named {
            schemas.insert(schema_name(&name).to_owned(), schema);
        }
    }
    schemas.remove(INSTANT_SCHEMA);
    for schema in schemas.values_mut() {
        for_each_object(schema, &mut simplify_nullable);
        for_each_object(schema, &mut describe_tags);
    }
    for_each_operation(document, |operation| {
        finish_operation(operation);
        errors::add_to_operation(operation);
        examples::add_to_operation(operation, &schemas);
    });
    let webhook = &mut document["webhooks"][MOVES_MESSAGE_TYPE]["post"];
    finish_operation(webhook);
    examples::add_to_operation(webhook, &schemas);
    document["components"]["schemas"] = schemas.into();
}

fn for_each_operation(document: &mut Value, mut change: impl FnMut(&mut Value)) {
    for (_, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            change(operation);
        }
    }
}

/// The name of a type's schema.
fn schema_name(name: &str) -> &str {
    name.strip_suffix(BODY_SUFFIX).unwrap_or(name)
}

/// Shortens the name in a reference to a schema; an instant stands inline.
fn shorten_schema_name(object: &mut Map<String, Value>) {
    let reference = object.get("$ref").and_then(Value::as_str);
    let Some(name) = reference.and_then(|path| path.strip_prefix(SCHEMA_PATH)) else { return };
    if name != INSTANT_SCHEMA {
        let path = format!("{SCHEMA_PATH}{}", schema_name(name));
        object.insert("$ref".to_owned(), path.into());
        return;
    }
    object.remove("$ref");
    if let Ok(Value::Object(instant)) = serde_json::to_value(Timestamp::schema()) {
        object.extend(instant);
    }
}

/// Writes a choice between null and one schema in the short form, or at least puts the
/// description of the schema beside the choice.
fn simplify_nullable(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get("oneOf") else { return };
    let (nulls, others): (Vec<_>, Vec<_>) =
        choices.iter().partition(|choice| choice["type"] == "null");
    let ([_], [Value::Object(schema)]) = (nulls.as_slice(), others.as_slice()) else { return };
    let mut schema = schema.clone();
    if let Some(name) = schema.get("type").filter(|name| name.is_string()).cloned() {
        schema.insert("type".to_owned(), json!([name, "null"]));
        object.remove("oneOf");
        object.extend(schema);
    } else if let Some(description) = schema.get("description") {
        object.entry("description").or_insert_with(|| description.clone());
    }
}

/// Describes the discriminators of unions, the properties with one value for each variant:
/// a derived schema has no description for them.
fn describe_tags(object: &mut Map<String, Value>) {
    let properties = object.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(Map::values_mut) {
        let values = property.get("enum").and_then(Value::as_array);
        let Some([Value::String(only)]) = values.map(Vec::as_slice) else { continue };
        let description = format!("Always `{only}`.");
        if let Some(property) = property.as_object_mut() {
            property.entry("description").or_insert_with(|| description.into());
        }
    }
}

fn finish_operation(operation: &mut Value) {
    if let Some(Value::String(summary)) = operation.get_mut("summary")
        && summary.ends_with('.')
    {
        summary.pop();
    }
    // The same key can be sent as the user of Basic authentication. An empty requirement means
    // that the body may have the key.
    if let Some(scopes) = operation.pointer("/security/0/key").cloned() {
        let nothing = json!({});
        let is_in_body = elements(operation, "security").any(|way| *way == nothing);
        operation["security"] = json!([{ "key": scopes }, { "basic": scopes }]);
        if is_in_body && let Some(ways) = operation["security"].as_array_mut() {
            ways.push(nothing);
        }
    }
    for parameter in elements(operation, "parameters") {
        if let Some(schema) = parameter.get_mut("schema") {
            forbid_null(schema);
        }
    }
}

/// A parameter that is absent has no value; there is no null in a path or a query.
fn forbid_null(schema: &mut Value) {
    for keyword in ["type", "oneOf"] {
        let Some(Value::Array(choices)) = schema.get_mut(keyword) else { continue };
        choices.retain(|choice| choice != "null" && choice["type"] != "null");
        let [only] = choices.as_slice() else { continue };
        let only = only.clone();
        if keyword == "type" {
            schema[keyword] = only;
        } else {
            *schema = only;
        }
    }
}

/// The elements of an array in an object; none if it has no such array.
fn elements<'v>(object: &'v mut Value, name: &str) -> impl Iterator<Item = &'v mut Value> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn security_schemes() -> Value {
    json!({
        "key": {
            "type": "http", "scheme": "bearer",
            "description": key_description(),
        },
        "basic": {
            "type": "http", "scheme": "basic",
            "description": "The same key as user, with an empty password.",
        },
    })
}

/// Description of API keys: how to create one, and what each scope allows.
fn key_description() -> String {
    let mut text = "An API key; `segmentd keys create` or `POST /v1/keys` creates one. Each operation names \
                    the scope that it needs. A key with the scope `track` alone is public; every other key \
                    is a secret.\n"
        .to_owned();
    for scope in AccessScope::ALL {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n- `{scope}`: {}.", scope.description());
    }
    text
}
