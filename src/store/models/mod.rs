//! Model artifacts, their stages, and the deployment.

pub mod decisions;
pub mod feature_sets;
pub mod lineage;
pub(crate) mod list;
pub(crate) mod personas;
pub mod policy;
pub mod runs;
pub mod shadow;
pub mod stored_properties;

use std::collections::HashMap;

use crate::domain::deployment::lifecycle::ModelStage;
use crate::domain::id::{FeatureSetId, ModelId};
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::database::connect::ChangeTopic;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, model_id, to_sql};

/// A model's row without its artifact.
#[derive(Debug, Clone)]
pub(crate) struct ModelRow {
    pub model_id: ModelId,
    pub feature_set: String,
    pub stage: String,
    pub run_id: Option<String>,
    pub report: serde_json::Value,
    pub created_at: Timestamp,
}

/// The current deployment: the newest row of its table.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentRow {
    pub generation: i64,
    pub active: Option<ModelId>,
    pub previous: Option<ModelId>,
    pub canary: Option<CanaryRow>,
    pub changed_at: Timestamp,
    pub changed_by: String,
    pub reason: String,
}

/// The canary model and its share of customers.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryRow {
    /// Generation of the canary; the deployment's own is greater.
    pub generation: i64,
    pub model: ModelId,
    pub share: f64,
}

/// A trained model to register.
#[derive(Debug)]
pub struct NewModel<'a> {
    pub model_id: &'a ModelId,
    pub feature_set: &'a FeatureSetId,
    pub artifact: &'a [u8],
    pub run_id: Option<&'a str>,
    pub report: &'a serde_json::Value,
}

/// Registers a candidate. Content-addressed: inserting the same bytes again changes
/// nothing.
pub async fn insert(
    tx: &mut DatabaseTransaction,
    model: &NewModel<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into model
             (workspace_id, model_id, feature_set_id, artifact, stage, run_id, report, created_at)
         values ($1, $2, $3, $4, 'candidate', $5, $6, $7)
         on conflict (workspace_id, model_id) do nothing",
        tx.workspace_id(),
        model.model_id.as_str(),
        model.feature_set.as_str(),
        model.artifact,
        model.run_id,
        model.report,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub async fn artifact(
    db: &ReadOnlyDatabase,
    model: &ModelId,
) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = sqlx::query_scalar!(
        "select artifact from model where workspace_id = $1 and model_id = $2",
        db.workspace_id(),
        model.as_str(),
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(bytes)
}

pub(crate) async fn find(
    db: &ReadOnlyDatabase,
    model: &ModelId,
) -> Result<Option<ModelRow>, StoreError> {
    let row = sqlx::query_as!(
        RawModel,
        "select model_id, feature_set_id, stage, run_id, report, created_at
         from model where workspace_id = $1 and model_id = $2",
        db.workspace_id(),
        model.as_str()
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// The part of a model that decides which version to use.
#[derive(Debug)]
pub(crate) struct ModelVersionRow {
    pub model_id: ModelId,
    pub feature_set: String,
    pub stage: String,
}

/// Every model, newest first.
pub(crate) async fn list_versions(
    db: &ReadOnlyDatabase,
) -> Result<Vec<ModelVersionRow>, StoreError> {
    let rows = sqlx::query!(
        "select model_id, feature_set_id, stage from model where workspace_id = $1
         order by created_at desc, model_id",
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let versions = rows.into_iter().map(|row| {
        Ok(ModelVersionRow {
            model_id: model_id(row.model_id)?,
            feature_set: row.feature_set_id,
            stage: row.stage,
        })
    });
    versions.collect()
}

pub(crate) async fn current_deployment(db: &ReadOnlyDatabase) -> Result<DeploymentRow, StoreError> {
    let row = sqlx::query_as!(
        RawDeployment,
        r#"select live.generation, live.active_model_id, live.previous_model_id,
                  live.canary_generation, live.canary_share,
                  canary.active_model_id as "canary_model_id?",
                  live.changed_at, live.changed_by, live.reason
           from deployment as live left join deployment as canary
                on canary.workspace_id = live.workspace_id
                   and canary.generation = live.canary_generation
           where live.workspace_id = $1
           order by live.generation desc limit 1"#,
        db.workspace_id(),
    )
    .fetch_one(&db.pool)
    .await?;
    row.try_into()
}

/// The live model of each of these generations; `None` for the fallback.
pub(crate) async fn models_of_generations(
    tx: &mut DatabaseTransaction,
    generations: &[i64],
) -> Result<HashMap<i64, Option<ModelId>>, StoreError> {
    let rows = sqlx::query!(
        "select generation, active_model_id from deployment
         where workspace_id = $1 and generation = any($2)",
        tx.workspace_id(),
        generations,
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter()
        .map(|row| Ok((row.generation, row.active_model_id.map(model_id).transpose()?)))
        .collect()
}

/// The deployment, locked against other changes until this transaction ends.
pub(crate) async fn lock_deployment(
    tx: &mut DatabaseTransaction,
) -> Result<DeploymentRow, StoreError> {
    sqlx::query!("lock table deployment in share row exclusive mode")
        .execute(&mut *tx.inner)
        .await?;
    let row = sqlx::query_as!(
        RawDeployment,
        r#"select live.generation, live.active_model_id, live.previous_model_id,
                  live.canary_generation, live.canary_share,
                  canary.active_model_id as "canary_model_id?",
                  live.changed_at, live.changed_by, live.reason
           from deployment as live left join deployment as canary
                on canary.workspace_id = live.workspace_id
                   and canary.generation = live.canary_generation
           where live.workspace_id = $1
           order by live.generation desc limit 1"#,
        tx.workspace_id(),
    )
    .fetch_one(&mut *tx.inner)
    .await?;
    row.try_into()
}

/// Writes the next generation, updates the stages, and notifies every replica on commit.
pub(crate) async fn insert_deployment(
    tx: &mut DatabaseTransaction,
    next: &DeploymentRow,
) -> Result<(), StoreError> {
    let active = next.active.as_ref().map(ModelId::as_str);
    let canary = next.canary.as_ref().map(|canary| canary.model.as_str());
    sqlx::query!(
        "update model set stage = 'retired'
         where workspace_id = $3
           and ((stage = 'active' and model_id is distinct from $1)
                or (stage = 'canary' and model_id is distinct from $2))",
        active,
        canary,
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    for (stage, model) in [(ModelStage::Active, active), (ModelStage::Canary, canary)] {
        sqlx::query!(
            "update model set stage = $2 where workspace_id = $3 and model_id = $1",
            model,
            stage.as_str(),
            tx.workspace_id(),
        )
        .execute(&mut *tx.inner)
        .await?;
    }
    if let Some(canary) = &next.canary {
        sqlx::query!(
            "insert into deployment
                 (workspace_id, generation, active_model_id, changed_at, changed_by, reason)
             values ($1, $2, $3, $4, $5, $6)",
            tx.workspace_id(),
            canary.generation,
            canary.model.as_str(),
            to_sql(next.changed_at),
            next.changed_by,
            next.reason,
        )
        .execute(&mut *tx.inner)
        .await?;
    }
    sqlx::query!(
        "insert into deployment
             (workspace_id, generation, active_model_id, previous_model_id, canary_generation,
              canary_share, changed_at, changed_by, reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tx.workspace_id(),
        next.generation,
        active,
        next.previous.as_ref().map(ModelId::as_str),
        next.canary.as_ref().map(|canary| canary.generation),
        next.canary.as_ref().map(|canary| canary.share),
        to_sql(next.changed_at),
        next.changed_by,
        next.reason,
    )
    .execute(&mut *tx.inner)
    .await?;
    tx.notify_replicas(ChangeTopic::Deployment).await
}

/// A model's stage. With the deployment locked it cannot change.
pub(crate) async fn find_stage(
    tx: &mut DatabaseTransaction,
    model: &ModelId,
) -> Result<Option<ModelStage>, StoreError> {
    let found = sqlx::query_scalar!(
        "select stage from model where workspace_id = $1 and model_id = $2",
        tx.workspace_id(),
        model.as_str(),
    )
    .fetch_optional(&mut *tx.inner)
    .await?;
    found.map(|text| parse_stage(&text)).transpose()
}

/// Sets the stage of a model outside the deployment, and notifies every replica on commit.
pub(crate) async fn set_stage(
    tx: &mut DatabaseTransaction,
    model: &ModelId,
    stage: ModelStage,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update model set stage = $3 where workspace_id = $1 and model_id = $2",
        tx.workspace_id(),
        model.as_str(),
        stage.as_str(),
    )
    .execute(&mut *tx.inner)
    .await?;
    tx.notify_replicas(ChangeTopic::Deployment).await
}

/// Models at this stage, by id.
pub(crate) async fn list_at_stage(
    db: &ReadOnlyDatabase,
    stage: ModelStage,
) -> Result<Vec<ModelId>, StoreError> {
    at_stage_of(&db.pool, db.workspace, stage).await
}

/// Like [`list_at_stage`], within a transaction: needs no second connection.
pub(crate) async fn list_at_stage_in_transaction(
    tx: &mut DatabaseTransaction,
    stage: ModelStage,
) -> Result<Vec<ModelId>, StoreError> {
    at_stage_of(&mut *tx.inner, tx.workspace, stage).await
}

async fn at_stage_of(
    executor: impl sqlx::PgExecutor<'_>,
    workspace: WorkspaceId,
    stage: ModelStage,
) -> Result<Vec<ModelId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select model_id from model where workspace_id = $1 and stage = $2 order by model_id",
        workspace.number(),
        stage.as_str(),
    )
    .fetch_all(executor)
    .await?;
    ids.into_iter().map(model_id).collect()
}

pub(crate) fn parse_stage(text: &str) -> Result<ModelStage, StoreError> {
    ModelStage::parse(text).ok_or_else(|| StoreError::Corrupt {
        what: "stage",
        why: format!("unknown value `{text}`"),
    })
}

struct RawModel {
    model_id: String,
    feature_set_id: String,
    stage: String,
    run_id: Option<String>,
    report: serde_json::Value,
    created_at: chrono::DateTime<chrono::Utc>,
}

impl TryFrom<RawModel> for ModelRow {
    type Error = StoreError;

    fn try_from(raw: RawModel) -> Result<Self, StoreError> {
        Ok(Self {
            model_id: model_id(raw.model_id)?,
            feature_set: raw.feature_set_id,
            stage: raw.stage,
            run_id: raw.run_id,
            report: raw.report,
            created_at: from_sql(raw.created_at),
        })
    }
}

struct RawDeployment {
    generation: i64,
    active_model_id: Option<String>,
    previous_model_id: Option<String>,
    canary_generation: Option<i64>,
    canary_share: Option<f64>,
    canary_model_id: Option<String>,
    changed_at: chrono::DateTime<chrono::Utc>,
    changed_by: String,
    reason: String,
}

impl TryFrom<RawDeployment> for DeploymentRow {
    type Error = StoreError;

    fn try_from(raw: RawDeployment) -> Result<Self, StoreError> {
        let canary = match (raw.canary_generation, raw.canary_share, raw.canary_model_id) {
            (Some(generation), Some(share), Some(model)) => {
                Some(CanaryRow { generation, model: model_id(model)?, share })
            }
            _ => None,
        };
        Ok(Self {
            generation: raw.generation,
            active: raw.active_model_id.map(model_id).transpose()?,
            previous: raw.previous_model_id.map(model_id).transpose()?,
            canary,
            changed_at: from_sql(raw.changed_at),
            changed_by: raw.changed_by,
            reason: raw.reason,
        })
    }
}
