//! OpenAPI description of scores, segments and features.

use super::Operation;

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/score",
        "post",
        "score",
        "Score feature rows without a database",
        Some("ScoreRequest"),
        "Segment (`unassigned` if the row is in no segment's radius; `nearest` is the nearest \
         segment in any case), distance, runner-up, margin, confidence, and the model. `p_value` \
         is the share of customers at least as far from all segments; `outlier` means that it is \
         at most the configured share. `edge_p_value` is the share of the segment's customers at \
         least as far from the segment. `unusual` is `far_from_everything`, `edge_of_segment` or \
         null",
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
