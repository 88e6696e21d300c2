//! Requests made from the OpenAPI document, with hostile values in them.

use reqwest::Method;
use serde_json::Value;

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
    let received = contract::exchange(&client, request).await;
    (received.status, received.media_type, received.text)
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
