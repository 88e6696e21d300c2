//! Checks every response that the tests receive against the OpenAPI document: its status, its
//! media type and its body, which must not have a property that its schema does not have.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use segmentd::api::openapi_document;
use serde_json::{Value, json};

/// A received response.
pub(crate) struct ReceivedResponse {
    pub(crate) status: u16,
    pub(crate) media_type: String,
    pub(crate) text: String,
}

/// A response, and the request that it answers.
struct Exchange<'e> {
    method: &'e str,
    path: &'e str,
    response: &'e ReceivedResponse,
}

/// The OpenAPI document with its compiled schemas.
struct Contract {
    document: Value,
    /// The components of the document; objects are closed.
    components: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
    checked: AtomicUsize,
}

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let document = openapi_document();
    let components = closed(document["components"].clone());
    Contract { document, components, validators: Mutex::default(), checked: AtomicUsize::new(0) }
});

/// Sends the request. Fails the test if the document does not describe the response.
pub(crate) async fn exchange(
    client: &reqwest::Client,
    request: reqwest::RequestBuilder,
) -> ReceivedResponse {
    let request = request.build().unwrap();
    let (method, path) = (request.method().to_string(), request.url().path().to_owned());
    let answer = client.execute(request).await.unwrap();
    let status = answer.status().as_u16();
    let media_type = answer.headers().get("content-type");
    let media_type = media_type.map_or("", |value| value.to_str().unwrap()).to_owned();
    let text = String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned();
    let response = ReceivedResponse { status, media_type, text };
    let exchange = Exchange { method: &method, path: &path, response: &response };
    if let Err(violation) = CONTRACT.check(&exchange) {
        let body: String = response.text.chars().take(2000).collect();
        panic!("{method} {path} {status}: {violation}\n{body}");
    }
    response
}

/// Asserts that a value has the form of a schema of the document: a line of a stream, a request,
/// or a response that was received in another way.
pub(crate) fn assert_described(schema: &str, value: &Value) {
    let known = &CONTRACT.document["components"]["schemas"][schema];
    assert!(known.is_object(), "no schema {schema}");
    let reference = json!({ "$ref": format!("#/components/schemas/{schema}") });
    if let Err(violations) = CONTRACT.check_value(schema, &reference, value) {
        panic!("{schema}: {violations}\n{value}");
    }
}

/// Components in which no object may have further properties, except objects that are parts of
/// others (`allOf`), which have more.
fn closed(mut components: Value) -> Value {
    let schemas = components["schemas"].as_object_mut().unwrap();
    let mut parts = BTreeSet::new();
    schemas.values().for_each(|schema| collect_parts(schema, &mut parts));
    for (name, schema) in schemas {
        let is_object = schema["properties"].is_object() || schema["allOf"].is_array();
        if is_object && !parts.contains(name) {
            schema["unevaluatedProperties"] = false.into();
        }
    }
    components
}

/// Adds the names of the schemas that are parts of a schema.
fn collect_parts(schema: &Value, parts: &mut BTreeSet<String>) {
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let name = part["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        parts.extend(name.map(str::to_owned));
    }
}

impl Contract {
    fn check(&self, exchange: &Exchange<'_>) -> Result<(), String> {
        let Exchange { method, path, response: ReceivedResponse { status, media_type, text } } =
            exchange;
        let path = described_path(path);
        let Some((pattern, item)) = self.find_path(path) else {
            return expect(*status == 404, "no such path in the document");
        };
        let method = method.to_lowercase();
        let operation = &item[&method];
        if operation.is_null() {
            return expect(*status == 405, "no such operation in the document");
        }
        let responses = &operation["responses"];
        let status = status.to_string();
        let response = self.resolve(&responses[&status]);
        expect(response.is_object(), "the status is not in the document")?;
        self.count();
        let Some(content) = response["content"].as_object() else {
            return expect(text.is_empty(), "the document describes no body");
        };
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let Some(media) = content.get(media_type) else {
            return Err(format!("the media type `{media_type}` is not in the document"));
        };
        if !media_type.ends_with("json") || media_type.contains("ndjson") {
            return Ok(());
        }
        let body: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let name = format!("{method} {pattern} {status} {media_type}");
        self.check_value(&name, &media["schema"], &body)
    }

    /// Checks a value against a schema, which is compiled once for each `name`.
    fn check_value(&self, name: &str, schema: &Value, value: &Value) -> Result<(), String> {
        let violations: Vec<String> = self
            .validator(name, schema)
            .iter_errors(value)
            .map(|error| format!("at `{}`: {error}", error.instance_path()))
            .collect();
        expect(violations.is_empty(), &violations.join("; "))
    }

    /// The path of the document that matches, with its pattern. A literal part takes precedence
    /// over a parameter.
    fn find_path(&self, path: &str) -> Option<(&str, &Value)> {
        let paths = self.document["paths"].as_object()?;
        let matching = paths.iter().filter(|(pattern, _)| matches(pattern, path));
        let found = matching.min_by_key(|(pattern, _)| pattern.matches('{').count());
        found.map(|(pattern, item)| (pattern.as_str(), item))
    }

    fn resolve<'v>(&'v self, response: &'v Value) -> &'v Value {
        let name = response["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        name.map_or(response, |name| &self.document["components"]["responses"][name])
    }

    fn validator(&self, name: &str, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = validators.entry(name.to_owned()).or_insert_with(|| {
            let schema = json!({ "allOf": [schema], "components": self.components });
            let validator = jsonschema::options().should_validate_formats(true).build(&schema);
            Arc::new(validator.unwrap_or_else(|error| panic!("{name}: {error}")))
        });
        Arc::clone(validator)
    }

    /// Counts a checked response. `target/contract/responses` has the count, to the hundred.
    fn count(&self) {
        let checked = self.checked.fetch_add(1, Ordering::Relaxed) + 1;
        if checked.is_multiple_of(100) {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/contract");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("responses"), format!("{checked}\n")).unwrap();
        }
    }
}

fn expect(holds: bool, violation: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(violation.to_owned()) }
}

/// The described path of an alias: the short paths of the tracking API.
fn described_path(path: &str) -> &str {
    match path {
        "/v1/i" => "/v1/identify",
        "/v1/t" => "/v1/track",
        "/v1/p" => "/v1/page",
        "/v1/s" => "/v1/screen",
        "/v1/g" => "/v1/group",
        "/v1/a" => "/v1/alias",
        "/v1/b" => "/v1/batch",
        path => path,
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) =
        (pattern.split('/').collect(), path.split('/').collect());
    let fits = |(part, given): (&&str, &&str)| {
        part == given || (part.starts_with('{') && !given.is_empty())
    };
    pattern.len() == path.len() && pattern.iter().zip(&path).all(fits)
}
