//! The documentation page, made from the OpenAPI document: operations by noun, their bodies and
//! examples, and a form to try each. Without scripts everything can be read; the script adds the
//! search and the forms. Nothing is loaded from another host.

mod html;
mod operation;
mod schema;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::errors::PROBLEMS;
use super::guides::GUIDES;
use crate::domain::access::AccessScope;
use html::{anchor, escape, marked_up};

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");

/// The page as HTML.
pub(super) fn render(document: &Value) -> String {
    let groups = groups(document);
    let mut page = String::from(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>segmentd API</title>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <link rel=stylesheet href=/docs/page.css><script defer src=/docs/page.js></script></head><body>",
    );
    push_navigation(&mut page, &groups);
    page.push_str("<main><h1>segmentd API</h1>");
    push_introduction(&mut page);
    // Writing to a String cannot fail.
    for (tag, operations) in &groups {
        let _ = write!(page, "<section id={}><h2>{}</h2>", anchor("group", tag), escape(tag));
        for operation in operations {
            operation.push_html(&mut page);
        }
        page.push_str("</section>");
    }
    push_schemas(&mut page, document);
    push_scopes(&mut page);
    push_problems(&mut page);
    page.push_str("</main></body></html>\n");
    page
}

/// The operations and the webhooks by noun.
fn groups(document: &Value) -> BTreeMap<&str, Vec<operation::Operation<'_>>> {
    let mut groups: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (part, is_webhook) in [("paths", false), ("webhooks", true)] {
        for (path, item) in document[part].as_object().into_iter().flatten() {
            for (method, value) in item.as_object().into_iter().flatten() {
                let tag = value["tags"][0].as_str().unwrap_or("Other");
                let operation = operation::Operation { path, method, value, is_webhook };
                groups.entry(tag).or_default().push(operation);
            }
        }
    }
    groups
}

fn push_navigation(page: &mut String, groups: &BTreeMap<&str, Vec<operation::Operation<'_>>>) {
    page.push_str(
        "<nav><p class=title><a href=#top>segmentd API</a></p>\
         <label class=script-only>Search <input id=search type=search placeholder=\"path, name or word\"></label><ul>",
    );
    let names = groups.keys().map(|tag| (anchor("group", tag), *tag));
    let last = ["schemas", "scopes", "problems"].map(|name| (name.to_owned(), name));
    for (target, name) in names.chain(last) {
        // Writing to a String cannot fail.
        let _ = write!(page, "<li><a href=\"#{target}\">{}</a>", escape(name));
    }
    page.push_str("</ul><p class=title>Guides</p><ul>");
    for guide in GUIDES {
        // Writing to a String cannot fail.
        let _ = write!(page, "<li><a href=\"/docs/guides/{}\">{}</a>", guide.name, guide.title);
    }
    page.push_str("</ul></nav>");
}

fn push_introduction(page: &mut String) {
    page.push_str(
        "<p id=top>Send an API key with each request: <code>Authorization: Bearer &lt;key&gt;</code>, or \
         Basic authentication with the key as user. <code>segmentd keys create</code> creates one. \
         Errors are problems (RFC 9457) with a <a href=#problems>stable type</a>. For programs: \
         <a href=/openapi.json>/openapi.json</a>.</p>\
         <form class=script-only id=key-form><label>API key for “Try it” <input id=key type=password autocomplete=off \
         placeholder=\"sgm_…\"></label> The key stays in this page.</form>",
    );
}

fn push_schemas(page: &mut String, document: &Value) {
    page.push_str("<section id=schemas><h2>Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        schema::push_html(page, name, schema);
    }
    page.push_str("</section>");
}

fn push_scopes(page: &mut String) {
    page.push_str("<section id=scopes><h2>Scopes</h2><dl>");
    for scope in AccessScope::ALL {
        let description = marked_up(scope.description());
        // Writing to a String cannot fail.
        let _ = write!(page, "<dt><code>{scope}</code></dt><dd>{description}.</dd>");
    }
    page.push_str("</dl></section>");
}

fn push_problems(page: &mut String) {
    page.push_str("<section id=problems><h2>Problems</h2><dl>");
    for (kind, status, text) in PROBLEMS {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "<dt id=\"problem-{kind}\"><code>{kind}</code> ({status})</dt><dd>{}.</dd>",
            marked_up(text)
        );
    }
    page.push_str("</dl></section>");
}
