//! The deployment that this process serves, replaced as a whole (`ArcSwap`).
//!
//! Readers load it once per unit of work, so no response mixes two models. A new
//! deployment is opened and self-tested before publication; if that fails, the old one
//! remains. Postgres announces changes, and polling finds changes with a lost
//! announcement. The replica that promotes a model loads it in the same way as all
//! others.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Mutex;

use crate::domain::feature::FeatureSet;
use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::service::ServiceError;
use crate::service::audiences::current as audiences;
use crate::service::experiments::current as experiments;
use crate::service::personas::current::CurrentPersonas;
use crate::service::scoring::deployment::{
    CanaryDeployment, Deployment, DeploymentContext, ScoringRules,
};
use crate::service::scoring::observations::DriftCounters;
use crate::store::audiences as stored_audiences;
use crate::store::experiments as stored_experiments;
use crate::store::models::{DeploymentRow, personas};
use crate::store::{ReadOnlyDatabase, models};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::repeated_failures::count_failure;

/// Holder of this process's deployment.
#[derive(Debug)]
pub struct ServingState {
    current: ArcSwap<Deployment>,
    /// Serialises refreshes. Otherwise an older deployment that takes longer to open
    /// could replace a newer one.
    refresh_lock: Mutex<()>,
    db: ReadOnlyDatabase,
    drift_counters: Arc<DriftCounters>,
    metrics: Arc<ServiceMetrics>,
}

impl ServingState {
    /// Starts with the fallback; `ServingState::refresh_deployment` loads the stored deployment.
    pub fn new(
        db: ReadOnlyDatabase,
        features: Arc<FeatureSet>,
        rules: ScoringRules,
        drift_counters: Arc<DriftCounters>,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        let context = DeploymentContext::default();
        let deployment = Deployment::new(-1, features, None, rules, context);
        let (current, refresh_lock) = (ArcSwap::from_pointee(deployment), Mutex::default());
        Self { current, refresh_lock, db, drift_counters, metrics }
    }

    /// The deployment for one unit of work.
    pub(crate) fn current(&self) -> Guard<Arc<Deployment>> {
        self.current.load()
    }

    /// The deployment as an `Arc`, for use across an await.
    pub fn snapshot(&self) -> Arc<Deployment> {
        self.current.load_full()
    }

    /// Publishes the stored deployment, personas, audiences and experiments if they differ from the
    /// current ones.
    pub(crate) async fn refresh_deployment(&self) -> Result<(), ServiceError> {
        // Taken before the read, so that the row read last is also published last.
        let _guard = self.refresh_lock.lock().await;
        let stored = models::current_deployment(&self.db).await?;
        let newest_persona = personas::newest_version(&self.db).await?;
        let audience_versions = stored_audiences::newest_versions(&self.db).await?;
        let experiment_version = stored_experiments::newest_version(&self.db).await?;
        let current = self.snapshot();
        // Every change has a new generation, so equal generations mean the same
        // deployment.
        let is_same_deployment = stored.generation == current.generation;
        let is_named_the_same = newest_persona == current.personas.version;
        let has_same_audiences = audience_versions == current.audience_versions;
        let has_same_experiments = experiment_version == current.experiments.version;
        if is_same_deployment && is_named_the_same && has_same_audiences && has_same_experiments {
            return Ok(());
        }
        let audiences = if has_same_audiences {
            Arc::clone(&current.audiences)
        } else {
            audiences::load(&self.db, audience_versions.newest_rule, &current.features).await?
        };
        let personas = if is_named_the_same {
            Arc::clone(&current.personas)
        } else {
            Arc::new(CurrentPersonas::load(&self.db).await?)
        };
        // Experiments name audiences.
        let experiments = if has_same_experiments && has_same_audiences {
            Arc::clone(&current.experiments)
        } else {
            experiments::load(&self.db, experiment_version, &audiences).await?
        };
        let context = DeploymentContext { personas, audiences, audience_versions, experiments };
        match self.open_deployment(&stored, &current, context).await {
            Ok(deployment) => {
                if !is_same_deployment {
                    let model =
                        deployment.active.as_ref().map(|model| model.id().short().to_owned());
                    let generation = deployment.generation;
                    tracing::info!(generation, model, "deployment published");
                    self.metrics.deployment.swaps.inc();
                }
                if !is_named_the_same {
                    tracing::info!(version = deployment.personas.version, "personas published");
                }
                if !has_same_audiences {
                    tracing::info!(version = audience_versions.newest, "audiences published");
                }
                if !has_same_experiments {
                    tracing::info!(version = experiment_version, "experiments published");
                }
                let running = deployment.experiments.running().count();
                self.metrics
                    .deployment
                    .running_experiments
                    .set(i64::try_from(running).unwrap_or(i64::MAX));
                self.metrics.deployment.generation.set(deployment.generation);
                let active = deployment.active.as_deref();
                let outdated = active.map_or(0, |model| deployment.personas.count_outdated(model));
                self.metrics
                    .deployment
                    .outdated_personas
                    .set(i64::try_from(outdated).unwrap_or(i64::MAX));
                self.current.store(Arc::new(deployment));
                Ok(())
            }
            Err(error) => {
                self.metrics.deployment.refused.inc();
                Err(error)
            }
        }
    }

    async fn open_deployment(
        &self,
        stored: &DeploymentRow,
        current: &Deployment,
        context: DeploymentContext,
    ) -> Result<Deployment, ServiceError> {
        let (features, rules) = (&current.features, current.rules);
        let counters = &self.drift_counters;
        let active = match &stored.active {
            None => None,
            Some(id) => self.find_or_load(id, current, &context.personas).await?,
        };
        let features_now = Arc::clone(features);
        let deployment =
            Deployment::new(stored.generation, features_now, active, rules, context.clone());
        let mut deployment = deployment.with_counter(counters, stored.changed_at);
        deployment.stored = Some(stored.clone());
        if let Some(row) = &stored.canary {
            let model = self.find_or_load(&row.model, current, &context.personas).await?;
            if let Some(model) = model {
                let features = Arc::clone(features);
                let canary = Deployment::new(row.generation, features, Some(model), rules, context);
                let canary = canary.with_counter(counters, stored.changed_at);
                deployment.canary =
                    Some(CanaryDeployment { share: row.share, deployment: Arc::new(canary) });
            }
        }
        Ok(deployment)
    }

    /// The model with the names of `personas`; opened only if it is not in use with them already.
    async fn find_or_load(
        &self,
        id: &ModelId,
        current: &Deployment,
        personas: &CurrentPersonas,
    ) -> Result<Option<Arc<Model>>, ServiceError> {
        let canary = current.canary.as_ref().and_then(|canary| canary.deployment.active.as_ref());
        let known = current.active.iter().chain(canary).find(|model| model.id() == id);
        match known {
            Some(model) if personas.version == current.personas.version => {
                Ok(Some(Arc::clone(model)))
            }
            _ => {
                let model = self.open_model(id).await?;
                Ok(model.map(|model| Arc::new(personas.name_segments(model))))
            }
        }
    }

    /// Loads a model with the names of its document. `None` as for [`Self::open_model`].
    pub(crate) async fn load_model(
        &self,
        id: &ModelId,
    ) -> Result<Option<Arc<Model>>, ServiceError> {
        Ok(self.open_model(id).await?.map(Arc::new))
    }

    /// Loads a model. `None` for a model of another feature set: the fallback answers
    /// until a model of this feature set is trained.
    async fn open_model(&self, id: &ModelId) -> Result<Option<Model>, ServiceError> {
        let bytes = models::artifact(&self.db, id)
            .await?
            .ok_or_else(|| ServiceError::internal(format!("model {id} is live but not stored")))?;
        let model = Model::open_addressed(&bytes, id).map_err(ServiceError::internal)?;
        if model.feature_set() != self.snapshot().features.id() {
            if let Some(repeated) = count_failure("feature set of a model", id.short()) {
                tracing::warn!(
                    model = id.short(),
                    "the model was trained with another feature set and cannot serve{repeated}"
                );
            }
            return Ok(None);
        }
        Ok(Some(model))
    }
}
