//! OpenAPI description of models, deployments and training runs.

use super::Operation;

pub(super) const OPERATIONS: &[Operation] = &[
    ("/v1/models", "get", "read", "List models, newest first", None, "The models"),
    (
        "/v1/models/{id}",
        "get",
        "read",
        "Get a model with its training report",
        None,
        "The model; `decisions` are the requested steps with author, the name of the author's key, time, reason, gate results \
         and whether the step was taken",
    ),
    (
        "/v1/models/{id}/shadow",
        "get",
        "read",
        "Compare a shadow model with the serving models",
        None,
        "For each serving model, the number of customers, the agreement, the rates of outliers \
         and of customers in no segment by both models, and the counts by pair of segments. The \
         counts are some seconds old",
    ),
    (
        "/v1/models/{id}/shadow",
        "post",
        "train",
        "Start scoring with a model in shadow",
        Some("TransitionRequest"),
        "The current deployment. The model scores lifecycle.shadow_share of the customers with \
         new events, and its scores are only compared",
    ),
    (
        "/v1/models/{id}/canary",
        "post",
        "train",
        "Start serving a fixed share of customers with a model",
        Some("TransitionRequest"),
        "The current deployment; 409 with `gates`, each with its threshold, the measured value \
         and the reason, if they refuse",
    ),
    (
        "/v1/models/{id}/diff/{other}",
        "get",
        "read",
        "Compare two models",
        None,
        "The differences from `id` to `other`: segments of the same id, added and removed \
         segments, typical values, features, encoder, figures. `lineage` has the relation of each \
         segment if `other` was trained while `id` was active",
    ),
    (
        "/v1/models/{id}/migration",
        "get",
        "read",
        "Preview the moves of customers under a model",
        None,
        "The flows between segments, largest first; flows of fewer than 5 customers are combined. \
         Every stored customer is scored by both models with hysteresis (see \
         `hysteresis.min_relative_advantage` and `hysteresis.minimum_stay_seconds`), and nothing \
         is written. One preview runs at a time",
    ),
    (
        "/v1/segments/{id}/lineage",
        "get",
        "read",
        "List the lineage of a segment, newest first",
        None,
        "A relation per training: kept, born, died, split, merged or moved (other flows of \
         members), with the shares of members in both directions",
    ),
    (
        "/v1/models/{id}/promote",
        "post",
        "train",
        "Promote a model to active",
        Some("TransitionRequest"),
        "The current deployment; 409 with `gates`, each with its threshold, the measured value \
         and the reason, if they refuse. The model is self-tested first; a canary ends",
    ),
    (
        "/v1/models/{id}/retire",
        "post",
        "train",
        "Retire a shadow, canary or candidate model",
        Some("TransitionRequest"),
        "The current deployment",
    ),
    (
        "/v1/models/{id}/reject",
        "post",
        "train",
        "Reject a model",
        Some("TransitionRequest"),
        "The current deployment. Like retire, but recorded as a rejection",
    ),
    (
        "/v1/models/rollback",
        "post",
        "train",
        "Roll back to the previous model",
        Some("ReasonRequest"),
        "The current deployment. A canary ends",
    ),
    (
        "/v1/models/fallback",
        "post",
        "train",
        "Replace the active model by the rule-based fallback",
        Some("ReasonRequest"),
        "The current deployment. The rules answer until a model is promoted; a canary ends",
    ),
    ("/v1/training-runs", "get", "read", "List training runs, newest first", None, "The runs"),
    (
        "/v1/training-runs",
        "post",
        "train",
        "Request a training run",
        Some("TrainingRunRequest"),
        "The queued run. With what_if, its model is only registered as a candidate. 422 if the \
         spec requires more than training.max_fits fits; 429 if training.max_queued_runs_per_key \
         runs of the key, or training.max_queued_runs in all, have not ended",
    ),
    (
        "/v1/training-runs/{id}/cancel",
        "post",
        "train",
        "Cancel a training run",
        None,
        "The run, `cancelled`; a repeated request changes nothing. A queued run never starts; a \
         running one stops soon, on any replica, and registers no model. 409 if the run has ended",
    ),
    (
        "/v1/training-runs/{id}",
        "get",
        "read",
        "Get a training run",
        None,
        "The run: stage, progress and the estimated seconds left in the stage (null if unknown), \
         then its model and report, or its error. The report has the leaderboard of all \
         candidates (figures, gates, margin over the RFM baseline, reason of each rank), the \
         similarity of the parts of the split, the number of customers, whether they were \
         sampled, and the instant of the snapshot",
    ),
];
