//! Requests made from the OpenAPI document, with hostile values in them, and responses compared
//! with it.

use std::collections::BTreeSet;

use reqwest::Method;
use segmentd::api::openapi_document;
use serde_json::{Value, json};

use crate::support::{TestApp, contract};

/// A request with one hostile value in it.
pub(crate) struct Probe {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Vec<u8>>,
}

/// Sends the request; returns status, media type and body of the response.
pub(crate) async fn send(app: &TestApp, probe: &Probe) -> (u16, String, String) {
    let client = reqwest::Client::new();
    let url = format!("{}{}", app.url, probe.path);
    let mut request = client.request(probe.method.clone(), url).bearer_auth(&app.key);
    if let Some(body) = &probe.body {
        request = request.body(body.clone());
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let media = answer.headers().get("content-type");
    let media = media.map(|media| media.to_str().unwrap().to_owned()).unwrap_or_default();
    let text = answer.text().await.unwrap();
    contract::check(&contract::Exchange {
        method: probe.method.as_str(),
        url: &probe.path,
        status,
        media_type: &media,
        body: text.as_bytes(),
    });
    (status, media, text)
}

/// Every documented operation: method, path, description.
pub(crate) fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().clone().into_iter();
        let path = path.clone();
        methods.map(move |(method, operation)| {
            (method.to_uppercase().parse().unwrap(), path.clone(), operation)
        })
    };
    paths.iter().flat_map(of_path).collect::<Vec<_>>()
}

pub(crate) fn parameters(operation: &Value, location: &str) -> Vec<String> {
    let all = operation["parameters"].as_array().cloned().unwrap_or_default();
    let located = all.into_iter().filter(|parameter| parameter["in"] == location);
    located.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
}

/// The path with a plausible value for each parameter, except `hostile` for one.
pub(crate) fn filled(path: &str, hostile: Option<(&str, &str)>) -> String {
    let model = "a".repeat(64);
    let fill = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        None => part.to_owned(),
        Some(name) => match hostile {
            Some((wanted, value)) if wanted == name => value.to_owned(),
            _ if path.starts_with("/v2") && name == "name" => "segmentd".to_owned(),
            _ if path.starts_with("/v1/models") || name == "version" => model.clone(),
            _ => "c1".to_owned(),
        },
    };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

/// Asserts that a value has the form of a schema of the document, and no property that the schema
/// does not have.
pub(crate) fn assert_described(schema: &str, value: &Value) {
    let mut components = openapi_document()["components"].take();
    let schemas = components["schemas"].as_object_mut().unwrap();
    assert!(schemas.contains_key(schema), "no schema {schema}");
    let mut parts = BTreeSet::new();
    schemas.values().for_each(|schema| collect_parts(schema, &mut parts));
    for (name, schema) in schemas {
        let is_object = schema["properties"].is_object() || schema["allOf"].is_array();
        if is_object && !parts.contains(name) {
            schema["unevaluatedProperties"] = false.into();
        }
    }
    let whole = json!({
        "$ref": format!("#/components/schemas/{schema}"), "components": components,
    });
    let validator = jsonschema::options().should_validate_formats(true).build(&whole).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{schema}: {errors:#?}\n{value}");
}

/// The names of the schemas that are parts of others (`allOf`), which have more properties.
fn collect_parts(schema: &Value, parts: &mut BTreeSet<String>) {
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let name = part["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        parts.extend(name.map(str::to_owned));
    }
}
