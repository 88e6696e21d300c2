//! OpenAPI operations and query parameters, endpoint by endpoint.

/// Path, method, scope (empty: no key required), summary, schema of the request body,
/// description of the response.
pub(in crate::api) type Operation =
    (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, &'static str);

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/events",
        "post",
        "ingest",
        "Send one event or an array",
        Some("Events"),
        "A verdict per event, with where its customer stands now (`retained_by_hysteresis` where another segment is nearer, see GET /v1/customers/{id}); 207 when some were rejected or locked, 422 when all were. `locked`: another session of the database had the customer locked (ingestion.max_lock_wait_seconds); the event is not counted, and is to be sent again with the same message_id; 503 when all were. With strict=true: 422 when any was, and none is counted. More than limits.events_per_request events: 413. An answer names at most 1000 faults; further verdicts have `errors_omitted`, their number",
    ),
    (
        "/v1/events/bulk",
        "post",
        "ingest",
        "Send events as NDJSON, one a line, streamed",
        Some("Bulk"),
        "NDJSON: a verdict per line, after its commit. Lines are committed after limits.stream_flush_milliseconds at the latest; a sender without a byte for limits.stream_idle_seconds gets a last line of status `failed`. `locked`: another session of the database had the customer locked; the event is not counted, and is to be sent again with the same message_id. Read while you write",
    ),
    (
        "/v1/batch",
        "post",
        "track",
        "Segment: many messages, as its libraries send them; also /v1/b",
        Some("SegmentBatch"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/identify",
        "post",
        "track",
        "Segment: who a customer is; also /v1/i",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/track",
        "post",
        "track",
        "Segment: what a customer did; also /v1/t",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/page",
        "post",
        "track",
        "Segment: a page seen; also /v1/p",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/screen",
        "post",
        "track",
        "Segment: an app screen seen; also /v1/s",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/group",
        "post",
        "track",
        "Segment: a group that a customer belongs to; also /v1/g",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/alias",
        "post",
        "track",
        "Segment: two ids of one customer; also /v1/a. A key of scope track links only from anonymous ids that it introduced",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/m",
        "post",
        "",
        "Segment: what its libraries measure of themselves; taken and dropped",
        None,
        "Always the same",
    ),
    (
        "/v1/projects/{write_key}/settings",
        "get",
        "",
        "Segment: what its browser and mobile libraries ask for first. The answer sends them to \
         the `Host` they asked, so a proxy in between must pass that on",
        None,
        "The settings; 404 without a key of scope track or ingest",
    ),
    (
        "/v1/events/failed",
        "get",
        "read",
        "Rejected events, newest first: whose, when and why; with raw=true (scope replay too) as they came",
        None,
        "The events. Those of strict requests are not among them, nor all of a flood (failed_events.max_per_minute)",
    ),
    (
        "/v1/events/failed/summary",
        "get",
        "read",
        "Rejected events counted by key, endpoint and reason, largest first",
        None,
        "The counts",
    ),
    (
        "/v1/events/failed/replay",
        "post",
        "replay",
        "Send rejected events in again after a fix, oldest first, as the keys that sent them; each is counted once however often",
        Some("Replay"),
        "How many were accepted, duplicate, rejected again; `next_after` until all have had their turn",
    ),
    (
        "/v1/score",
        "post",
        "score",
        "Score feature rows; no database on the path",
        Some("ScoreRequest"),
        "Segment (`unassigned` where none reaches so far; `nearest` is told all the same), distance, runner-up, \
         margin, confidence; `p_value`, how rare it is to be so far from everything, and `outlier`, whether that is \
         at most the configured share; `edge_p_value`, how rare it is in its segment to be so far from it; `unusual`: \
         `far_from_everything`, `edge_of_segment` or null; and the model that made them",
    ),
    (
        "/v1/customers/{id}",
        "get",
        "read",
        "Where a customer stands: segment, features, when, by which model. Any of their ids will do",
        None,
        "The customer. `segment` need not be the nearest: a customer stays in it until another is nearer by \
         `hysteresis.min_relative_advantage`, and after a move for `hysteresis.minimum_stay_seconds`. `retained_by_hysteresis` says that another is \
         nearer (as of `assigned_at`); `distance` is that to `segment` then, and `confidence` 0. It is kept under the id where they are kept; `requested_id` where that is another, `merged_ids` beside it",
    ),
    (
        "/v1/customers/{id}/features",
        "get",
        "read",
        "A customer's features, now or at an earlier instant, from their events",
        None,
        "The features. `replayed_events` says from how many events; null for the stored state",
    ),
    (
        "/v1/customers/{id}/history",
        "get",
        "read",
        "Changes of segment or model, newest first",
        None,
        "The changes",
    ),
    (
        "/v1/customers/{id}/links",
        "get",
        "read",
        "What was said about a customer's ids, and what came of it: applied, superseded (the id \
         belongs to somebody by an earlier link), not_applied (a circle, or too many ids), removed",
        None,
        "The links, at most 1000",
    ),
    (
        "/v1/customers/{id}/links/{from}",
        "delete",
        "admin",
        "Take back that `from` is this customer: both are rebuilt as if it had never been said. \
         Another link from the same id may take its place",
        None,
        "Under which ids both are kept now. The same link counts again once it is said anew, not when \
         an event comes again or late",
    ),
    (
        "/v1/changes",
        "get",
        "read",
        "Changes of segment or model of all customers, oldest first: a page, a long poll, or server-sent events",
        None,
        "The changes, and `next` to go on from. One customer's come in the order in which they were made; `merged_into` says that the id is another customer's from now on; `gap` says that some were dropped by retention. Cursors stay valid when the database is restored; 410 for one of a change that the restore has lost: ask for `after=now`, take an export, then go on from the cursor of that answer",
    ),
    (
        "/v1/assignments",
        "get",
        "read",
        "Where every customer stands, of one instant, as NDJSON, CSV or Parquet, streamed",
        None,
        "The table. In CSV, a text that a spreadsheet would run as a formula gets a `'` in front (see `escape`); the other formats have ids as they were sent. A body that is broken off is not whole",
    ),
    (
        "/v1/segments",
        "get",
        "read",
        "The live segments, their sizes and what sets them apart",
        None,
        "The segments, each with the id that it keeps; `unassigned` among them where a model leaves customers in none; `canary` with its own, where there is one",
    ),
    ("/v1/features", "get", "read", "The declared features", None, "The feature set"),
    (
        "/v1/drift",
        "get",
        "read",
        "Whether what was scored still looks like what the model was trained on: rows of /v1/score and \
         of tensors, and customers with new events, of all replicas, as of their last flush; or stored \
         customers, drawn by the hour",
        None,
        "For every feature the figures, each with what chance explains of it; for segments, distances, \
         outliers and p-values the same; of stored customers, what has moved `within` each segment; and \
         the `findings` that are left after correction for their number, the least sample and the least \
         size (`[drift]`): whose it is, how large, and what to do. \
         `stream`: detectors that compare each whole hour with the same hours of earlier weeks and add the \
         evidence up, each with its last alarm and since about when (null: none in the last 92 days); `about` is \
         `stream` in what they have found in these hours; null where `drift.detectors` is false. \
         `keys`: the part of each API key in the rows (`source=rows`, hours of the last week), the largest first. \
         A finding that is gone without the rows of one key names it in `decisive_key`; where the other keys \
         have the rows to show it and do not (`is_contradicted`), the owner of the feature is not alerted. \
         Sensitive features are not compared. 409 while there is no model",
    ),
    (
        "/v1/drift/history",
        "get",
        "read",
        "The same, each hour or day alone, oldest first",
        None,
        "Rows scored, the rates of outliers (null: too few were held out at training to tell) and of rows in \
         no segment, the number of findings and the feature with the largest PSI",
    ),
    (
        "/v1/drift/flow",
        "get",
        "read",
        "Who moves between the segments of the live model, beside a period of the same length before",
        None,
        "For all and by segment the churn: the share of customers who stand elsewhere at the end than at \
         the beginning, before and now, with the p-value of the difference (Fisher; by segment corrected \
         for their number); moves, and how many customers moved at all; who is new; changes that another \
         model, the rules or a merge made, apart; and the flow from where to where. Shares of \
         fewer than 5 movers are null, flows of fewer are told of together, and the churn before is null where \
         the history does not reach back as far. 409 while there is no model",
    ),
    (
        "/v1/drift/features/{name}/picture.svg",
        "get",
        "read",
        "A feature as it was at training and as it is now, as a picture",
        None,
        "SVG, without scripts",
    ),
    (
        "/v1/sources",
        "get",
        "read",
        "Who sends events (a key at a endpoint), and whether it is as much as usual at this hour of the week",
        None,
        "By endpoint and key: `status` (learning, usual, silent, high or low), the first and the last new \
         event, the hour in progress and the last whole one with what is usual (the median of the same \
         hour in four weeks, or in seven days while there are fewer) and how probable such a difference \
         is by chance, and when silence becomes an alert. As of the last time that replicas wrote \
         down what came (`sources.check_seconds`); revoked keys are left out",
    ),
    ("/v1/models", "get", "read", "Models, newest first", None, "The models"),
    (
        "/v1/models/{id}",
        "get",
        "read",
        "One model with its training report",
        None,
        "The model; `decisions` says who asked for which step, when and why, what the gates found, and whether it was taken",
    ),
    (
        "/v1/models/{id}/shadow",
        "get",
        "read",
        "What a model in shadow would have answered, beside what was answered",
        None,
        "For each model that answered: customers, agreement, the rates of outliers and of customers in no segment by both, and the counts by pair of segments. Some seconds old",
    ),
    (
        "/v1/models/{id}/shadow",
        "post",
        "train",
        "Let a model score live customers (lifecycle.shadow_share of them) and answer nobody",
        Some("Wish"),
        "What is live now",
    ),
    (
        "/v1/models/{id}/canary",
        "post",
        "train",
        "Let a model answer a share of the customers, always the same, if the gates let it",
        Some("Wish"),
        "What is live now; 409 with the `gates` that refuse, their figures and why",
    ),
    (
        "/v1/models/{id}/diff/{other}",
        "get",
        "read",
        "What is different in `other`: segments of the same id, added and gone, typical values, \
         features, encoder, figures",
        None,
        "The differences, from `id` to `other`; `lineage` says what became of each segment, where \
         `other` was trained while `id` was live",
    ),
    (
        "/v1/models/{id}/migration",
        "get",
        "read",
        "Who would move, and from where to where, were this model live: every stored customer is \
         scored by both, nothing is written. Both keep a customer in its segment as they would: see \
         `hysteresis.min_relative_advantage` and `hysteresis.minimum_stay_seconds`. One at a time",
        None,
        "The flows, largest first; those of fewer than 5 customers are told of together",
    ),
    (
        "/v1/segments/{id}/lineage",
        "get",
        "read",
        "What became of a segment (by its id) at each training, newest first: kept, born, died, split, \
         merged or passed (members who went elsewhere), with the shares of members both ways",
        None,
        "The lines",
    ),
    (
        "/v1/models/{id}/promote",
        "post",
        "train",
        "Make a model live, after its self-test, if the gates let it. Ends a canary",
        Some("Wish"),
        "What is live now; 409 with the `gates` that refuse, their figures and why",
    ),
    (
        "/v1/models/{id}/retire",
        "post",
        "train",
        "End a model's shadow or canary, or lay a candidate aside",
        Some("Wish"),
        "What is live now",
    ),
    (
        "/v1/models/{id}/reject",
        "post",
        "train",
        "As retire, told apart in its decisions: somebody looked and said no",
        Some("Wish"),
        "What is live now",
    ),
    (
        "/v1/models/rollback",
        "post",
        "train",
        "Put the previous model back; ends a canary",
        Some("Why"),
        "What is live now",
    ),
    (
        "/v1/models/fallback",
        "post",
        "train",
        "Take the live model out: rules answer until one is promoted; ends a canary",
        Some("Why"),
        "What is live now",
    ),
    ("/v1/training-runs", "get", "read", "Training runs, newest first", None, "The runs"),
    (
        "/v1/training-runs",
        "post",
        "train",
        "Ask for a training run; one with what_if registers a candidate and never goes live by itself",
        Some("RunRequest"),
        "The queued run. 422 when the spec asks for more than training.max_fits fits; 429 while training.max_queued_runs_per_key runs of the key, or training.max_queued_runs in all, are not over",
    ),
    (
        "/v1/training-runs/{id}/cancel",
        "post",
        "train",
        "Call a run off: a queued one never starts, a running one stops soon, on whatever replica, and leaves nothing",
        None,
        "The run, `cancelled`; once more changes nothing. 409 when it was over before",
    ),
    (
        "/v1/training-runs/{id}",
        "get",
        "read",
        "One run: stage, progress and the seconds that the rest of the stage is estimated to \
         take (null: not known yet), then its model and report (the leaderboard of all \
         candidates with figures, gates, margin over the RFM baseline and the reason for each \
         place; how alike the parts of the split are; how many customers were seen and whether \
         they were sampled; the instant that they were taken at), or its error",
        None,
        "The run",
    ),
];

const DRIFT_HOURS: &str = "The last so many hours, the one in progress included, up to 2208; \
                           drift.window_hours when left out";
const DRIFT_SOURCE: &str = "rows (as they were sent; when left out), events (customers with new \
                            ones, who are the active ones: a difference in itself), customers \
                            (stored ones, drawn by the hour, each once a day: as training looks \
                            at them) or all (rows and events together)";
const DRIFT_MODEL: &str = "What this model met while it answered; the live one when left out";

const SEGMENT_ANSWER: &str = "Counts, and why which messages were rejected; 200 even then, as \
                              with Segment. A failure has `code` and `message` too";

/// A query parameter: path, name, type, description.
pub(super) type QueryParameter = (&'static str, &'static str, &'static str, &'static str);

pub(super) const QUERY_PARAMETERS: &[QueryParameter] = &[
    ("/v1/events", "strict", "boolean", "All of the events or none, in one transaction"),
    ("/v1/events/failed", "before", "string", "The last page's `next_before`"),
    ("/v1/events/failed", "limit", "integer", "From 1 to 500; 50 when left out"),
    ("/v1/events/failed", "endpoint", "string", "events, bulk or segment"),
    ("/v1/events/failed", "key", "string", "The id of the key that sent it"),
    ("/v1/events/failed", "reason", "string", "As the summary has it"),
    (
        "/v1/events/failed",
        "raw",
        "boolean",
        "With the bodies, which hold personal data; takes the scope replay too",
    ),
    ("/v1/events/failed/summary", "since", "string", "An RFC 3339 instant; all when left out"),
    ("/v1/events/failed/summary", "limit", "integer", "From 1 to 500 groups; 50 when left out"),
    (
        "/v1/customers/{id}/features",
        "as_of",
        "string",
        "An RFC 3339 instant: from the events that had happened by then, whenever they came; what training needs. Left out: `known_by`, or now",
    ),
    (
        "/v1/customers/{id}/features",
        "known_by",
        "string",
        "An RFC 3339 instant: only from events that segmentd had received by then. Alone, it gives what the model saw; with `as_of`, what was known of that earlier instant",
    ),
    (
        "/v1/changes",
        "after",
        "string",
        "A cursor: `next` of an answer, or `cursor` of a change, or `Last-Event-ID` for events. `now`: what comes from now on. Left out: from the oldest kept",
    ),
    ("/v1/changes", "segment", "string", "Only changes into or out of this segment"),
    ("/v1/changes", "limit", "integer", "Changes a page, from 1 to 1000; 500 when left out"),
    (
        "/v1/changes",
        "wait_seconds",
        "integer",
        "How long to wait for a change where there is none yet, up to 60; 0 when left out",
    ),
    ("/v1/drift", "hours", "integer", DRIFT_HOURS),
    ("/v1/drift", "model", "string", DRIFT_MODEL),
    ("/v1/drift", "source", "string", DRIFT_SOURCE),
    ("/v1/drift/history", "hours", "integer", DRIFT_HOURS),
    ("/v1/drift/history", "model", "string", DRIFT_MODEL),
    ("/v1/drift/history", "source", "string", DRIFT_SOURCE),
    ("/v1/drift/history", "by", "string", "hour or day, in UTC; hour when left out"),
    ("/v1/drift/flow", "hours", "integer", DRIFT_HOURS),
    ("/v1/drift/features/{name}/picture.svg", "hours", "integer", DRIFT_HOURS),
    ("/v1/drift/features/{name}/picture.svg", "model", "string", DRIFT_MODEL),
    ("/v1/drift/features/{name}/picture.svg", "source", "string", DRIFT_SOURCE),
    ("/v1/assignments", "format", "string", "ndjson, csv or parquet; or by `Accept`"),
    (
        "/v1/assignments",
        "escape",
        "string",
        "Of CSV. formulas, the default: a text that begins with = + - @, a tab or a line break gets a ' in front, \
         so that a spreadsheet runs none of it; none: texts as they are, for programs",
    ),
    ("/v1/assignments", "segment", "string", "Only customers in this segment"),
];
