//! API documentation: the OpenAPI 3.1 document, and an HTML page generated from it.
//!
//! Handlers and bodies describe themselves (`#[utoipa::path]`, `ToSchema`); this folder builds
//! the document from the routes.

mod assembly;
mod customers;
mod drift;
mod errors;
mod events;
mod examples;
mod formats;
mod legacy;
mod models;
mod page;
mod policy;
mod schemas;
mod walk;

use axum::extract::Extension;
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::html_page;
use crate::api::request_layer::RouteKind;
use crate::api::route::{ApiRoute, RouteDescription};

pub(super) use legacy::{Operation, QueryParameter};

/// Name of the schema of an instant, which the document has inline.
const INSTANT_SCHEMA: &str = "Instant";

/// The documentation as it is served.
#[derive(Debug, Clone)]
pub(super) struct ApiDocumentation {
    document: Bytes,
    page: Bytes,
}

impl ApiDocumentation {
    pub(super) fn new(document: &Value) -> Self {
        Self { document: document.to_string().into(), page: page::render(document).into() }
    }
}

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(get_openapi), RouteKind::Public),
        ApiRoute::new(routes!(get_docs), RouteKind::Public),
    ]
}

/// The OpenAPI 3.1 document of these routes, each with its path.
pub(super) fn document<'r>(routes: impl Iterator<Item = (&'r str, &'r RouteDescription)>) -> Value {
    let mut document = assembly::assemble(routes);
    let by_hand = legacy::document();
    for part in ["/paths", "/components/schemas", "/components/responses"] {
        let Some(Value::Object(others)) = by_hand.pointer(part) else { continue };
        for (name, value) in others {
            let (parent, key) = part.rsplit_once('/').unwrap_or_default();
            let parent = document.pointer_mut(parent);
            let Some(known) = parent.map(|parent| &mut parent[key]) else { continue };
            if known[name].is_null() {
                known[name] = value.clone();
            }
        }
    }
    document
}

/// An OpenAPI 3.1 document.
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({ "openapi": "3.1.0", "info": {}, "paths": {} }))]
#[expect(dead_code, reason = "names a schema only")]
struct OpenApiDocument(Value);

/// Get the OpenAPI document.
///
/// OpenAPI 3.1, with every operation, its errors and examples.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Documentation",
    responses((status = 200, body = OpenApiDocument, description = "The document"))
)]
pub(super) async fn get_openapi(Extension(documentation): Extension<ApiDocumentation>) -> Response {
    html_page::public_json(documentation.document)
}

/// Get the documentation page.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "Documentation",
    responses((status = 200, body = String, content_type = "text/html", description = "The page"))
)]
pub(super) async fn get_docs(Extension(documentation): Extension<ApiDocumentation>) -> Response {
    html_page::html(documentation.page)
}
