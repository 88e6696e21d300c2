//! The guides of `config/guides` as pages, and the files that they refer to.

use std::fmt::Write;

use axum::response::Response;
use axum::routing::get;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};
use utoipa_axum::routes;

use crate::api::ApiError;
use crate::api::html_page;
use crate::api::request::PathParameters;
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;

/// A guide: its name in the path, its title, its text in Markdown.
pub(super) struct Guide {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    text: &'static str,
}

macro_rules! guides {
    ($($name:literal: $title:literal,)+) => {
        &[$(Guide {
            name: $name,
            title: $title,
            text: include_str!(concat!("../../../config/guides/", $name, ".md")),
        }),+]
    };
}

/// The guides in reading order.
pub(super) const GUIDES: &[Guide] = guides! {
    "quick-start": "Quick start",
    "events": "Events",
    "features": "Features",
    "training": "Training and models",
    "value": "Customer value",
    "audiences": "Audiences",
    "experiments": "Experiments",
    "drift-and-alerts": "Drift and alerts",
    "operating": "Operating",
    "backup": "Backup and restore",
    "security": "Security and privacy",
    "metrics": "Metrics",
    "glossary": "Glossary",
};

macro_rules! files {
    ($($path:literal,)+) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),+]
    };
}

/// Files of the repository that guides refer to.
const FILES: &[(&str, &str)] = files! {
    "config/default.toml",
    "config/features.retail.toml",
    "config/features.segment-ecommerce.toml",
    "config/load.example.toml",
    "config/deploy/Caddyfile",
    "config/deploy/kubernetes.yaml",
    "config/deploy/nginx.conf",
    "config/deploy/segmentd.service",
    "config/grafana/segmentd.json",
    "config/prometheus/rules.yml",
    "docker-compose.yml",
};

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(get_guide), RouteKind::Public),
        ApiRoute::undescribed("/docs/files/{*path}", &["GET"], get(get_file), RouteKind::Public),
    ]
}

/// Get a guide.
///
/// A page about one topic: `quick-start`, `events`, `features`, `training`, `value`,
/// `drift-and-alerts`, `operating`, `backup`, `security`, `metrics` or `glossary`.
#[utoipa::path(
    get,
    path = "/docs/guides/{name}",
    tag = "Documentation",
    params(("name" = String, Path, description = "Name of the guide")),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The guide"),
        (status = 404, description = "There is no such guide"),
    )
)]
pub(super) async fn get_guide(
    PathParameters(name): PathParameters<String>,
) -> Result<Response, ApiError> {
    let guide = GUIDES.iter().find(|guide| guide.name == name);
    let guide = guide.ok_or_else(|| ApiError::not_found(&format!("guide `{name}`")))?;
    Ok(html_page::html(page(guide).into()))
}

/// A file that a guide refers to, by its path in the repository.
async fn get_file(PathParameters(path): PathParameters<String>) -> Result<Response, ApiError> {
    let file = FILES.iter().find(|(known, _)| *known == path);
    let (_, text) = file.ok_or_else(|| ApiError::not_found(&format!("file `{path}`")))?;
    Ok(html_page::page_part("text/plain; charset=utf-8", text))
}

/// The guide as HTML.
fn page(guide: &Guide) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>{} – segmentd</title>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <link rel=stylesheet href=/docs/page.css></head><body>\
         <nav><p class=title><a href=/docs>segmentd API</a></p><ul>",
        guide.title
    );
    for other in GUIDES {
        // Writing to a String cannot fail.
        let _ = write!(page, "<li><a href=\"/docs/guides/{}\">{}</a>", other.name, other.title);
    }
    page.push_str("</ul></nav><main class=guide>");
    html::push_html(&mut page, events(guide.text).into_iter());
    page.push_str("</main></body></html>\n");
    page
}

/// The parsed text, with ids of headings, and with links to pages instead of files.
fn events(text: &str) -> Vec<Event<'_>> {
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut heading = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(events.len()),
            Event::End(TagEnd::Heading(_)) => {
                if let Some(at) = heading.take() {
                    let slug = slug(&events[at + 1..]);
                    if let Event::Start(Tag::Heading { id, .. }) = &mut events[at] {
                        *id = Some(slug.into());
                    }
                }
            }
            _ => {}
        }
        events.push(match event {
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                Event::Start(Tag::Link { link_type, dest_url: page_url(dest_url), title, id })
            }
            event => event,
        });
    }
    events
}

/// The id of a heading as on code hosting sites: its words in lower case, joined by hyphens.
fn slug(heading: &[Event<'_>]) -> String {
    let mut slug = String::new();
    for event in heading {
        if let Event::Text(text) | Event::Code(text) = event {
            slug += &text.to_lowercase().replace(' ', "-");
        }
    }
    slug.retain(|c| c.is_alphanumeric() || c == '-' || c == '_');
    slug
}

/// The URL behind a link of a guide: another guide, or a file of the repository.
fn page_url(link: CowStr<'_>) -> CowStr<'_> {
    if link.starts_with('#') || link.contains("://") {
        return link;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
    let url = if let Some(guide) = file.strip_suffix(".md") {
        format!("/docs/guides/{guide}")
    } else {
        let path = match file.strip_prefix("../../") {
            Some(path) => path.to_owned(),
            None => file.replacen("../", "config/", 1),
        };
        format!("/docs/files/{path}")
    };
    if anchor.is_empty() { url.into() } else { format!("{url}#{anchor}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The targets of the links in a page.
    fn links(page: &str) -> impl Iterator<Item = &str> {
        page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap())
    }

    #[test]
    fn every_link_of_a_guide_leads_to_a_guide_or_a_file() {
        for guide in GUIDES {
            for link in links(&page(guide)) {
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                if let Some(file) = path.strip_prefix("/docs/files/") {
                    assert!(FILES.iter().any(|(path, _)| *path == file), "{}: {link}", guide.name);
                    continue;
                }
                let name = path.strip_prefix("/docs/guides/").unwrap_or(guide.name);
                let target = GUIDES.iter().find(|guide| guide.name == name);
                let target = target.unwrap_or_else(|| panic!("{}: {link}", guide.name));
                let id = format!("id=\"{anchor}\"");
                assert!(anchor.is_empty() || page(target).contains(&id), "{}: {link}", guide.name);
            }
        }
    }
}
