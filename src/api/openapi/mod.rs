//! API documentation: the OpenAPI 3.1 document, and an HTML page generated from it.
//!
//! Handlers and bodies describe themselves (`#[utoipa::path]`, `ToSchema`); this folder builds
//! the document from the routes.

mod assembly;
mod errors;
mod examples;
mod formats;
mod guides;
mod page;
mod walk;

use axum::extract::Extension;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::html_page;
use crate::api::request_layer::RouteKind;
use crate::api::route::{ApiRoute, RouteDescription};

pub(super) use formats::ByteStream;

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
    let mut routes = vec![
        ApiRoute::new(routes!(get_openapi), RouteKind::Public),
        ApiRoute::new(routes!(get_docs), RouteKind::Public),
        ApiRoute::undescribed("/docs/page.css", &["GET"], get(get_style), RouteKind::Public),
        ApiRoute::undescribed("/docs/page.js", &["GET"], get(get_script), RouteKind::Public),
    ];
    routes.extend(guides::routes());
    routes
}

/// The OpenAPI 3.1 document of these routes, each with its path.
pub(super) fn document<'r>(routes: impl Iterator<Item = (&'r str, &'r RouteDescription)>) -> Value {
    assembly::assemble(routes)
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

async fn get_style() -> Response {
    html_page::page_part("text/css; charset=utf-8", page::STYLE)
}

async fn get_script() -> Response {
    html_page::page_part("text/javascript; charset=utf-8", page::SCRIPT)
}
