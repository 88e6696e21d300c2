//! Rows of the operations that are described by hand.

/// Path, method, scope (empty: no key required), summary, schema of the request body,
/// description of the response.
pub(in crate::api) type Operation =
    (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, &'static str);

/// A query parameter: path, name, type, description.
pub(in crate::api) type QueryParameter = (&'static str, &'static str, &'static str, &'static str);
