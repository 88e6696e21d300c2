//! Operations on the documentation page.

use std::fmt::Write;

use serde_json::Value;

use super::html::{escape, marked_up};
use super::schema::type_text;

/// An operation of the OpenAPI document.
pub(super) struct Operation<'d> {
    pub(super) path: &'d str,
    pub(super) method: &'d str,
    pub(super) value: &'d Value,
    /// A request of segmentd to a receiver: it has no form.
    pub(super) is_webhook: bool,
}

impl Operation<'_> {
    /// Appends the operation.
    pub(super) fn push_html(&self, page: &mut String) {
        let Self { path, method, value, is_webhook } = self;
        let class = if *is_webhook { "operation webhook" } else { "operation" };
        let text = |name: &str| marked_up(value[name].as_str().unwrap_or_default());
        let scope = value["security"][0]["key"][0].as_str();
        let scope = match scope {
            Some(scope) => format!("scope <a href=#scopes><code>{scope}</code></a>"),
            None if *is_webhook => "sent by segmentd".to_owned(),
            None => "no key".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "<details class=\"{class}\" id=\"{id}\" data-method={method} data-path=\"{path}\"><summary>\
             <span class=\"method {method}\">{method}</span> <code>{path}</code> \
             <span class=summary>{summary}</span></summary><p>{description}</p><p>{scope}</p>",
            id = escape(value["operationId"].as_str().unwrap_or_default()),
            path = escape(path),
            summary = text("summary"),
            description = text("description"),
        );
        self.push_parameters(page);
        push_content(page, "Request", "request", &value["requestBody"]);
        page.push_str("<h3>Responses</h3><table><tbody>");
        let mut shared = Vec::new();
        for (status, response) in value["responses"].as_object().into_iter().flatten() {
            if response["$ref"].is_string() {
                shared.push(format!("<code>{}</code>", escape(status)));
                continue;
            }
            let description = marked_up(response["description"].as_str().unwrap_or_default());
            let _ = write!(page, "<tr><td><code>{}</code><td>{description}", escape(status));
        }
        let shared = shared.join(", ");
        let _ = write!(page, "</tbody></table><p><a href=#problems>Problems</a>: {shared}</p>");
        for (status, response) in value["responses"].as_object().into_iter().flatten() {
            if status.starts_with('2') {
                push_content(page, &format!("Response {status}"), "response", response);
            }
        }
        page.push_str("</details>");
    }

    fn push_parameters(&self, page: &mut String) {
        let Some(parameters) = self.value["parameters"].as_array() else { return };
        page.push_str(
            "<h3>Parameters</h3><table class=parameters><thead><tr><th>Name<th>Type<th>Description</thead><tbody>",
        );
        for parameter in parameters {
            let field = |name: &str| escape(parameter[name].as_str().unwrap_or_default());
            // Writing to a String cannot fail.
            let _ = write!(
                page,
                "<tr data-name=\"{name}\" data-in={place}><td><code>{name}</code> ({place})<td>{kind}<td>{description}",
                name = field("name"),
                place = field("in"),
                kind = type_text(&parameter["schema"]),
                description = marked_up(parameter["description"].as_str().unwrap_or_default()),
            );
        }
        page.push_str("</tbody></table>");
    }
}

/// Appends the forms of a body, with their examples.
fn push_content(page: &mut String, title: &str, class: &str, body: &Value) {
    for (media_type, media) in body["content"].as_object().into_iter().flatten() {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "<h3>{}</h3><p><code>{}</code>: {}</p>",
            escape(title),
            escape(media_type),
            type_text(&media["schema"]),
        );
        if let Some(example) = media.get("example") {
            let example = match example.as_str() {
                Some(text) => text.to_owned(),
                None => serde_json::to_string_pretty(example).unwrap_or_default(),
            };
            let _ = write!(
                page,
                "<pre class={class} data-media-type=\"{}\">{}</pre>",
                escape(media_type),
                escape(&example),
            );
        }
    }
}
