//! A route of the API: the handlers of one path, their description for the OpenAPI document,
//! and the class of their requests. Path and methods stand once, in `#[utoipa::path]`.

use std::sync::Arc;

use axum::routing::MethodRouter;
use utoipa::ToSchema;
use utoipa::openapi::path::{PathItem, Paths};
use utoipa::openapi::{RefOr, Schema};
use utoipa_axum::router::UtoipaMethodRouter;

use crate::api::ApiState;
use crate::api::request_layer::{ExpensiveRequests, RequestLayers, RouteKind, RouteLayer};

/// A route before it is wrapped in its layers.
pub(super) struct ApiRoute {
    pub(super) path: Arc<str>,
    pub(super) methods: Vec<&'static str>,
    pub(super) handler: MethodRouter<ApiState>,
    pub(super) kind: RouteKind,
    /// `None`: not part of the OpenAPI document.
    pub(super) description: Option<RouteDescription>,
    expensive: ExpensiveRequests,
}

/// The operations of a route in the OpenAPI document, and the schemas of their bodies.
#[derive(Clone)]
pub(super) struct RouteDescription {
    pub(super) item: PathItem,
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
}

impl ApiRoute {
    /// A route from `routes!`, which names the handlers of one path.
    pub(super) fn new(routes: UtoipaMethodRouter<ApiState>, kind: RouteKind) -> Self {
        let (schemas, paths, handler) = routes;
        let (path, item) = only_path(paths);
        let methods = methods(&item);
        let description = Some(RouteDescription { item, schemas });
        let expensive = ExpensiveRequests::None;
        Self { path: path.into(), methods, handler, kind, description, expensive }
    }

    /// A route that is not part of the OpenAPI document.
    pub(super) fn undescribed(
        path: &str,
        methods: &[&'static str],
        handler: MethodRouter<ApiState>,
        kind: RouteKind,
    ) -> Self {
        Self {
            path: path.into(),
            methods: methods.to_vec(),
            handler,
            kind,
            description: None,
            expensive: ExpensiveRequests::None,
        }
    }

    /// Adds the schema of the lines of a stream, to which no media type can refer.
    pub(super) fn with_line_schema<T: ToSchema>(mut self) -> Self {
        if let Some(description) = &mut self.description {
            description.schemas.push((T::name().into_owned(), T::schema()));
            T::schemas(&mut description.schemas);
        }
        self
    }

    /// Limits the rate of these requests as expensive ones.
    pub(super) fn with_expensive(self, expensive: ExpensiveRequests) -> Self {
        Self { expensive, ..self }
    }

    /// The request layer of the route.
    pub(super) fn layer(
        &self,
        state: &ApiState,
        layers: &RequestLayers,
    ) -> prometheus::Result<RouteLayer> {
        layers.layer(state, Arc::clone(&self.path), &self.methods, self.kind, self.expensive)
    }
}

/// The path of the handlers in one `routes!`, which all have the same path.
fn only_path(paths: Paths) -> (String, PathItem) {
    debug_assert_eq!(paths.paths.len(), 1, "handlers of different paths in one `routes!`");
    paths.paths.into_iter().next().unwrap_or_default()
}

/// The methods that a path has an operation for.
fn methods(item: &PathItem) -> Vec<&'static str> {
    let operations = [
        ("GET", &item.get),
        ("PUT", &item.put),
        ("POST", &item.post),
        ("DELETE", &item.delete),
        ("PATCH", &item.patch),
    ];
    operations
        .into_iter()
        .filter_map(|(method, operation)| operation.as_ref().map(|_| method))
        .collect()
}
