//! `/v1/models…`: list and show models, change their life-cycle stage, roll back.

pub(crate) mod diff;
pub(crate) mod policy;
pub(crate) mod shadow;
pub(crate) mod training_runs;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::api::request::{Body, Caller, Page, Path, Read, Train, json};
use crate::api::{ApiError, ApiState};
use crate::domain::access::Scope;
use crate::domain::deployment::lifecycle::Move;
use crate::domain::fault::Faults;
use crate::domain::id::{BadId, ModelId};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::models::registry::{Ask, Change};
use crate::store::models::decisions::Decision;
use crate::store::models::{self, LineupRow, ModelRow, decisions};

/// Most decisions in the response for one model; the latest.
const MOST_DECISIONS: i64 = 100;

#[derive(Debug, Serialize)]
pub(crate) struct ModelBody {
    model: String,
    feature_set: String,
    stage: String,
    training_run: Option<String>,
    created_at: Timestamp,
    report: serde_json::Value,
}

impl ModelBody {
    fn new(row: ModelRow) -> Self {
        Self {
            model: row.model_id.into(),
            feature_set: row.feature_set,
            stage: row.stage,
            training_run: row.run_id,
            created_at: row.created_at,
            report: row.report,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ModelsBody {
    models: Vec<ModelBody>,
    next_before: Option<Timestamp>,
}

pub(crate) async fn get_models(
    State(state): State<ApiState>,
    _: Caller<Read>,
    page: Page,
) -> Result<Json<ModelsBody>, ApiError> {
    let rows = models::list(&state.db, page.before, page.limit).await?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count == page.limit);
    let next_before = rows.last().filter(|_| full).map(|row| row.created_at);
    Ok(Json(ModelsBody { models: rows.into_iter().map(ModelBody::new).collect(), next_before }))
}

/// One model with the decisions about it.
#[derive(Debug, Serialize)]
pub(crate) struct ToldModelBody {
    #[serde(flatten)]
    model: ModelBody,
    /// Newest first.
    decisions: Vec<DecisionBody>,
}

#[derive(Debug, Serialize)]
struct DecisionBody {
    step: String,
    from_stage: String,
    /// Null if the transition was refused.
    to_stage: Option<String>,
    /// The transition was made although gates refused it.
    forced: bool,
    decided_at: Timestamp,
    decided_by: String,
    reason: String,
    gates: serde_json::Value,
}

impl From<Decision> for DecisionBody {
    fn from(decision: Decision) -> Self {
        Self {
            step: decision.step,
            from_stage: decision.from_stage,
            to_stage: decision.to_stage,
            forced: decision.forced,
            decided_at: decision.decided_at,
            decided_by: decision.decided_by,
            reason: decision.reason,
            gates: decision.gates,
        }
    }
}

pub(crate) async fn get_model(
    State(state): State<ApiState>,
    _: Caller<Read>,
    Path(id): Path<String>,
) -> Result<Json<ToldModelBody>, ApiError> {
    let row = found(&state, &id).await?;
    let decisions = decisions::of_model(&state.db, &row.model_id, MOST_DECISIONS).await?;
    let decisions = decisions.into_iter().map(Into::into).collect();
    Ok(Json(ToldModelBody { model: ModelBody::new(row), decisions }))
}

pub(crate) async fn found(state: &ApiState, id: &str) -> Result<ModelRow, ApiError> {
    let row = models::find(&state.db, &model_id(id)?).await?;
    row.ok_or_else(|| ApiError::not_found(&format!("model `{id}`")))
}

/// The deployment after a change.
#[derive(Debug, Serialize)]
pub(crate) struct LineupBody {
    generation: i64,
    active_model: Option<String>,
    previous_model: Option<String>,
    canary: Option<CanaryBody>,
    changed_at: Timestamp,
    changed_by: String,
    reason: String,
}

/// The canary model and its share of the customers.
#[derive(Debug, Serialize)]
struct CanaryBody {
    model: String,
    generation: i64,
    share: f64,
}

impl LineupBody {
    fn new(row: LineupRow) -> Self {
        Self {
            canary: row.canary.map(|canary| CanaryBody {
                model: canary.model.into(),
                generation: canary.generation,
                share: canary.share,
            }),
            generation: row.generation,
            active_model: row.active.map(Into::into),
            previous_model: row.previous.map(Into::into),
            changed_at: row.changed_at,
            changed_by: row.changed_by,
            reason: row.reason,
        }
    }
}

/// Optional body with the reason of a change, which is stored with the change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    reason: Option<String>,
}

/// Optional body of a life-cycle transition: reason, override of gates, canary share.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    reason: Option<String>,
    #[serde(default)]
    force: bool,
    share: Option<f64>,
}

/// Defines one handler for each life-cycle transition.
macro_rules! steps {
    ($($handler:ident: $step:ident,)+) => {$(
        pub(crate) async fn $handler(
            State(state): State<ApiState>,
            caller: Caller<Train>,
            Path(id): Path<String>,
            body: Body,
        ) -> Result<Json<LineupBody>, ApiError> {
            carry_out(&state, &caller, &id, Move::$step, &body).await
        }
    )+};
}
steps! {
    post_shadow: Shadow,
    post_canary: Canary,
    post_promote: Promote,
    post_retire: Retire,
    post_reject: Reject,
}

async fn carry_out(
    state: &ApiState,
    caller: &Caller<Train>,
    id: &str,
    step: Move,
    Body(body): &Body,
) -> Result<Json<LineupBody>, ApiError> {
    let wish: Wish = if body.is_empty() { Wish::default() } else { json(body)? };
    if wish.force {
        if !caller.principal.may(Scope::Admin) {
            let why = format!("`force` requires a key with the scope `{}`", Scope::Admin);
            return Err(ApiError::forbidden(why));
        }
        if wish.reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
            let problem = "is required with `force`: state why the gates are overridden";
            return Err(ServiceError::Invalid(Faults::one("reason", problem)).into());
        }
    }
    if wish.share.is_some() && step != Move::Canary {
        let problem = "applies only to a canary";
        return Err(ServiceError::Invalid(Faults::one("share", problem)).into());
    }
    let ask = Ask { share: wish.share, force: wish.force, ..Ask::to(step) };
    let change = change(caller, wish.reason.as_deref())?;
    let row = state.registry.carry_out(&model_id(id)?, ask, change).await?;
    Ok(Json(LineupBody::new(row)))
}

pub(crate) async fn post_rollback(
    State(state): State<ApiState>,
    caller: Caller<Train>,
    Body(body): Body,
) -> Result<Json<LineupBody>, ApiError> {
    let why: Why = if body.is_empty() { Why::default() } else { json(&body)? };
    let row = state.registry.roll_back(change(&caller, why.reason.as_deref())?).await?;
    Ok(Json(LineupBody::new(row)))
}

pub(crate) async fn post_fall_back(
    State(state): State<ApiState>,
    caller: Caller<Train>,
    Body(body): Body,
) -> Result<Json<LineupBody>, ApiError> {
    let why: Why = if body.is_empty() { Why::default() } else { json(&body)? };
    let row = state.registry.fall_back(change(&caller, why.reason.as_deref())?).await?;
    Ok(Json(LineupBody::new(row)))
}

fn change(caller: &Caller<Train>, reason: Option<&str>) -> Result<Change, ServiceError> {
    Change::requested(format!("key {}", caller.principal.key_id), reason)
}

pub(crate) fn model_id(text: &str) -> Result<ModelId, ApiError> {
    text.parse()
        .map_err(|why: BadId| ServiceError::Invalid(Faults::one("model", why.to_string())).into())
}
