//! The documentation page: every operation by noun, made from the OpenAPI document. It works
//! without scripts and loads nothing.

use std::fmt::Write;

use serde_json::Value;

use super::errors::PROBLEMS;
use crate::domain::access::AccessScope;

const STYLE: &str = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}\
                     summary{cursor:pointer;padding:.3rem 0}details{border-top:1px solid #ddd}\
                     pre{overflow-x:auto;background:#f4f4f4;padding:.6rem}dt{margin-top:.6rem}\
                     code{overflow-wrap:anywhere}";

/// The page as HTML.
pub(super) fn render(document: &Value) -> String {
    let mut groups: Vec<(&str, String)> = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let tag = operation["tags"][0].as_str().unwrap_or("Other");
            let described = describe_operation(path, method, operation);
            match groups.iter_mut().find(|(name, _)| *name == tag) {
                Some((_, group)) => group.push_str(&described),
                None => groups.push((tag, described)),
            }
        }
    }
    let (mut operations, mut scopes, mut problems) = (String::new(), String::new(), String::new());
    // Writing to a String cannot fail.
    for (tag, group) in &groups {
        let _ = write!(operations, "<h2>{}</h2>{group}", escape(tag));
    }
    for scope in AccessScope::ALL {
        let description = marked_up(scope.description());
        let _ = write!(scopes, "<dt><code>{scope}</code></dt><dd>{description}.</dd>");
    }
    for (kind, status, text) in PROBLEMS {
        let _ = write!(
            problems,
            "<dt id=\"problem-{kind}\"><code>{kind}</code> ({status})</dt><dd>{}.</dd>",
            marked_up(text)
        );
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>segmentd API</title>\
         <meta name=viewport content=\"width=device-width\"><style>{STYLE}</style>\
         <h1>segmentd API</h1><p>Send a key: <code>Authorization: Bearer &lt;key&gt;</code>, or Basic \
         authentication with the key as user. OpenAPI document: <a href=/openapi.json>/openapi.json</a>.</p>\
         {operations}<h2>Scopes</h2><dl>{scopes}</dl><h2>Problems</h2><dl>{problems}</dl></html>"
    )
}

fn describe_operation(path: &str, method: &str, operation: &Value) -> String {
    let text = |name: &str| marked_up(operation[name].as_str().unwrap_or_default());
    let scope = operation["security"][0]["key"][0].as_str();
    let scope = scope.map_or("no key".to_owned(), |scope| format!("scope <code>{scope}</code>"));
    let mut html = format!(
        "<details><summary><code>{} {}</code> {} ({scope})</summary><p>{}</p>",
        method.to_uppercase(),
        escape(path),
        text("summary"),
        text("description"),
    );
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let field = |name: &str| parameter[name].as_str().unwrap_or_default();
        let (name, description) = (escape(field("name")), marked_up(field("description")));
        // Writing to a String cannot fail.
        let _ = write!(html, "<p><code>{name}</code> ({}): {description}</p>", field("in"));
    }
    push_example(&mut html, "Request", &operation["requestBody"]);
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if status.starts_with('2') {
            let description = marked_up(response["description"].as_str().unwrap_or_default());
            let _ = write!(html, "<p><code>{status}</code>: {description}</p>");
            push_example(&mut html, "Response", response);
        }
    }
    html.push_str("</details>");
    html
}

/// Appends the example of the JSON form of a body.
fn push_example(html: &mut String, name: &str, body: &Value) {
    let example = &body["content"]["application/json"]["example"];
    if example.is_null() {
        return;
    }
    let example = serde_json::to_string_pretty(example).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(html, "<p>{name}</p><pre>{}</pre>", escape(&example));
}

/// Text with code in back quotes, as HTML.
fn marked_up(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(at, part)| match at % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    });
    parts.collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
