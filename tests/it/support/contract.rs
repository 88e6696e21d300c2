//! Checks every response that the tests receive against the OpenAPI document: its status, its
//! media type and its body.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use segmentd::api::openapi_document;
use serde_json::{Value, json};

/// A response, and the request that it answers.
pub(crate) struct Exchange<'e> {
    pub(crate) method: &'e str,
    /// Path and query, or the whole URL.
    pub(crate) url: &'e str,
    pub(crate) status: u16,
    pub(crate) media_type: &'e str,
    pub(crate) body: &'e [u8],
}

/// The OpenAPI document with its compiled schemas.
struct Contract {
    document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
    checked: AtomicUsize,
}

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract {
    document: openapi_document(),
    validators: Mutex::default(),
    checked: AtomicUsize::new(0),
});

/// Fails the test if the document does not describe the response.
pub(crate) fn check(exchange: &Exchange<'_>) {
    if let Err(violation) = CONTRACT.check(exchange) {
        let Exchange { method, url, status, body, .. } = exchange;
        let body = String::from_utf8_lossy(&body[..body.len().min(2000)]);
        panic!("{method} {url} {status}: {violation}\n{body}");
    }
}

impl Contract {
    fn check(&self, exchange: &Exchange<'_>) -> Result<(), String> {
        let path = described_path(path_of(exchange.url));
        let Some((pattern, item)) = self.find_path(path) else {
            return expect(exchange.status == 404, "no such path in the document");
        };
        let method = exchange.method.to_lowercase();
        let operation = &item[&method];
        if operation.is_null() {
            return expect(exchange.status == 405, "no such operation in the document");
        }
        let responses = &operation["responses"];
        let status = exchange.status.to_string();
        let response = self.resolve(&responses[&status]);
        expect(response.is_object(), "the status is not in the document")?;
        self.count();
        let Some(content) = response["content"].as_object() else {
            return expect(exchange.body.is_empty(), "the document describes no body");
        };
        let media_type = exchange.media_type.split(';').next().unwrap_or_default().trim();
        let Some(media) = content.get(media_type) else {
            return Err(format!("the media type `{media_type}` is not in the document"));
        };
        if !media_type.ends_with("json") || media_type.contains("ndjson") {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(exchange.body).map_err(|e| e.to_string())?;
        let validator = self.validator(&format!("{method} {pattern} {status} {media_type}"), media);
        let violations: Vec<String> = validator
            .iter_errors(&body)
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

    fn validator(&self, name: &str, media: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = validators.entry(name.to_owned()).or_insert_with(|| {
            let components = &self.document["components"];
            let schema = json!({ "allOf": [media["schema"]], "components": components });
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

/// The path of a URL, or of a path with a query.
fn path_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_scheme.find('/').map_or("/", |at| &after_scheme[at..]);
    path.split(['?', '#']).next().unwrap_or_default()
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) =
        (pattern.split('/').collect(), path.split('/').collect());
    let fits = |(part, given): (&&str, &&str)| {
        part == given || (part.starts_with('{') && !given.is_empty())
    };
    pattern.len() == path.len() && pattern.iter().zip(&path).all(fits)
}
