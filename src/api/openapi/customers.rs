//! OpenAPI description of customers, segments and features.

use super::{Operation, QueryParameter};

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/customers/{id}",
        "get",
        "read",
        "Get a customer's assignment and features",
        None,
        "The customer, by any of its ids. `segment` need not be the nearest: a customer stays in \
         it until another is nearer by `hysteresis.min_relative_advantage`, and after a move for \
         `hysteresis.minimum_stay_seconds`. `retained_by_hysteresis` means that another segment \
         was nearer at `assigned_at`; `distance` is then the distance to `segment`, and \
         `confidence` is 0. `customer_id` is the surviving id after merges, `requested_id` the id \
         in the request if it is another, `merged_ids` the other ids",
    ),
    (
        "/v1/customers/{id}/features",
        "get",
        "read",
        "Compute a customer's features from its events",
        None,
        "The features, now or at an earlier instant. A feature is null if it is missing: without \
         the events it needs, or while its window contains an event that arrived before a \
         property of the feature was declared. `replayed_events` is the number of events they \
         were computed from; null if they come from the stored state",
    ),
    (
        "/v1/customers/{id}/history",
        "get",
        "read",
        "List a customer's changes of segment or model",
        None,
        "The changes, newest first",
    ),
    (
        "/v1/customers/{id}/links",
        "get",
        "read",
        "List the links between a customer's ids",
        None,
        "At most 1000 links with their status. `applied`: both ids are one customer. \
         `superseded`: an earlier link from the same id takes precedence. `not_applied`: the link \
         would close a cycle or exceed the limit of ids. `removed`: deleted by an API call. \
         `is_alias`: stated by an event of type `alias`, which may merge two known customers; a \
         link of another event with both ids ends once an event of a trusted sender names its \
         source as `customer_id`",
    ),
    (
        "/v1/customers/{id}/links/{from}",
        "delete",
        "admin",
        "Remove the link of an id to this customer",
        None,
        "The ids under which both customers are now stored. Both are rebuilt as if the link had \
         never existed; another link from the same id may apply instead. The link applies again \
         after a new event that states it, but not after a repeated or late event",
    ),
    (
        "/v1/changes",
        "get",
        "read",
        "Follow changes of segment or model of all customers",
        None,
        "A page, a long poll or server-sent events, oldest change first; `next` is the cursor of \
         the next page. The changes of one customer are in order. `merged_into` means that the id \
         belongs to another customer from now on; `gap` means that changes were deleted by \
         retention. Cursors stay valid after a restore of the database. 410 for the cursor of a \
         change that the restore has lost; then request `after=now`, take an export, and continue \
         from the cursor of that response",
    ),
    (
        "/v1/assignments",
        "get",
        "read",
        "Export the assignments of all customers",
        None,
        "The assignments as of one instant, streamed as NDJSON, CSV or Parquet. In CSV, a text \
         that a spreadsheet would run as a formula is prefixed with `'` (see `escape`); the other \
         formats have the ids as sent. An aborted response body is incomplete",
    ),
    (
        "/v1/segments",
        "get",
        "read",
        "List the segments of the deployed model",
        None,
        "The segments with id, size and distinctive features; `unassigned` if the model leaves \
         customers in no segment; `canary` with the segments of a canary model",
    ),
    ("/v1/features", "get", "read", "List the declared features", None, "The feature set"),
];

pub(super) const QUERY_PARAMETERS: &[QueryParameter] = &[
    (
        "/v1/customers/{id}/features",
        "as_of",
        "string",
        "An RFC 3339 instant. Uses the events that happened until then, whenever they were \
         received, as training needs it; default `known_by`, or now",
    ),
    (
        "/v1/customers/{id}/features",
        "known_by",
        "string",
        "An RFC 3339 instant. Uses only events received until then. Alone, it gives the features \
         that the model used then; with `as_of`, what was known then of that earlier instant",
    ),
    (
        "/v1/changes",
        "after",
        "string",
        "A cursor, which is `next` of a response, `cursor` of a change, or `Last-Event-ID` of \
         server-sent events; `now` for changes from now on; default the oldest stored change",
    ),
    ("/v1/changes", "segment", "string", "Only changes into or out of this segment"),
    ("/v1/changes", "limit", "integer", "Changes per page, from 1 to 1000; default 500"),
    ("/v1/changes", "wait_seconds", "integer", "Maximum wait for a change, up to 60; default 0"),
    ("/v1/assignments", "format", "string", "ndjson, csv or parquet; default by `Accept`"),
    (
        "/v1/assignments",
        "escape",
        "string",
        "CSV only. `formulas` (default) prefixes a text that begins with = + - @, a tab or a line \
         break with ', so that a spreadsheet does not run it; `none` leaves texts unchanged, for \
         programs",
    ),
    ("/v1/assignments", "segment", "string", "Only customers in this segment"),
];
