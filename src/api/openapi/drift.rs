//! OpenAPI description of event sources.

use super::Operation;

pub(super) const OPERATIONS: &[Operation] = &[(
    "/v1/sources",
    "get",
    "read",
    "List event sources with their usual volume",
    None,
    "A source is an API key at an endpoint. `status` is learning, usual, silent, high or low. \
         With the times of the first and last new event, the hour in progress, the last complete \
         hour with its usual volume (the median of the same hour in four weeks, or in seven days \
         with less history) and the probability of such a difference by chance, and the time at \
         which silence raises an alert. As of the last write of all replicas \
         (`sources.check_seconds`); without revoked keys",
)];
