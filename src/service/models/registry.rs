//! The life of models: who answers, who only watches, and who decided it.
//!
//! Every step is taken with the lineup locked, and written down with its figures;
//! so is every step that a gate refuses.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config;
use crate::domain::deployment::lifecycle::{Gate, Move, Refusal, Stage, Thresholds};
use crate::domain::fault::Faults;
use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS};
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::service::error::Chain;
use crate::service::models::gate_evidence;
use crate::service::models::policy::Policies;
use crate::service::models::shadow::{MAX_SHADOWS, Shadows};
use crate::service::scoring::deployment::{Lineup, Live};
use crate::store::models::decisions::Decision;
use crate::store::models::{CanaryRow, LineupRow, decisions};
use crate::store::{Db, ReadDb, Tx, models};

/// Looks again at figures that another change of the lineup made stale.
const ATTEMPTS: usize = 5;

/// Who changes the lineup, and why: kept with each generation.
#[derive(Debug, Clone)]
pub struct Change {
    pub by: String,
    pub reason: String,
}

impl Change {
    /// A change that a person asks for, whose reason is bounded free text.
    pub fn requested(by: String, reason: Option<&str>) -> Result<Self, ServiceError> {
        let reason = text::free_text("reason", reason.unwrap_or_default(), MAX_FREE_TEXT_CHARS)?;
        let reason = if reason.is_empty() { "requested".into() } else { reason };
        Ok(Self { by, reason })
    }
}

/// A step asked of a model.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub step: Move,
    /// Of the customers, for a canary; `None`: as configured.
    pub share: Option<f64>,
    /// Whatever the gates say.
    pub force: bool,
    /// Whether a refusal is written down.
    pub record_refusal: bool,
}

impl Ask {
    pub fn to(step: Move) -> Self {
        Self { step, share: None, force: false, record_refusal: true }
    }
}

#[derive(Debug)]
pub struct Registry {
    pub db: Db,
    pub live: Arc<Live>,
    pub shadows: Arc<Shadows>,
    pub clock: Clock,
    pub gates: Thresholds,
    pub life: config::Life,
    pub policies: Arc<Policies>,
    /// Previews of what a promotion would do, one at a time.
    pub previews: Semaphore,
}

/// A stored model, opened and self-tested beside the async threads.
pub async fn open(db: &ReadDb, id: &ModelId) -> Result<Model, ServiceError> {
    let bytes = models::artifact(db, id)
        .await?
        .ok_or_else(|| ServiceError::NotFound(format!("model `{id}`")))?;
    tokio::task::spawn_blocking(move || Model::open(&bytes))
        .await
        .map_err(ServiceError::internal)?
        .map_err(|error| ServiceError::Conflict(format!("the model fails its self-test: {error}")))
}

impl Registry {
    /// Makes a stored model the live one, after its self-test, if the gates let it.
    /// Promoting the live model changes nothing. On return this replica has
    /// published it.
    pub async fn promote(
        &self,
        model: &ModelId,
        change: Change,
    ) -> Result<LineupRow, ServiceError> {
        self.carry_out(model, Ask::to(Move::Promote), change).await
    }

    /// The first step of a model that goes live by itself. The first model of all
    /// goes there at once. While promotion is frozen it stays a candidate.
    pub async fn advance(&self, model: &ModelId, change: Change) -> Result<(), ServiceError> {
        let step = match (&self.live.lineup().active, &self.life) {
            (Some(_), life) if life.through_shadow => Move::Shadow,
            (Some(_), life) if life.through_canary => Move::Canary,
            _ => Move::Promote,
        };
        let Some(why) = self.frozen().await? else {
            self.carry_out(model, Ask::to(step), change).await?;
            return Ok(());
        };
        tracing::warn!(model = model.short(), why, "the model stays a candidate");
        let change = Change { by: change.by, reason: why };
        let decision = self.decision(step.as_str(), (Stage::Candidate, None), &change, &[]);
        // Commits alone: that the model does not go on, and why.
        let mut tx = self.db.begin_critical().await?;
        decisions::insert(&mut tx, model, &decision).await?;
        Ok(tx.commit().await?)
    }

    /// Why no model goes live by itself now.
    pub(crate) async fn frozen(&self) -> Result<Option<String>, ServiceError> {
        let keeping = self.policies.frozen_by(self.db.critical_read()).await?;
        Ok(keeping.map(|(alert, title)| {
            format!("promotion is frozen while alert {alert} fires ({title}): promote by hand")
        }))
    }

    /// Takes a step; a step to where the model stands already changes nothing.
    pub async fn carry_out(
        &self,
        model: &ModelId,
        ask: Ask,
        change: Change,
    ) -> Result<LineupRow, ServiceError> {
        if let Some(share) = ask.share.filter(|share| !(0.0..=1.0).contains(share)) {
            let problem = format!("must be from 0 to 1: is {share}");
            return Err(ServiceError::Invalid(Faults::one("share", problem)));
        }
        let row = models::find(self.db.critical_read(), model).await?;
        let row = row.ok_or_else(|| ServiceError::NotFound(format!("model `{model}`")))?;
        let opened = match ask.step {
            Move::Shadow | Move::Canary | Move::Promote => {
                Some(Arc::new(open(self.db.critical_read(), model).await?))
            }
            Move::Retire | Move::Reject => None,
        };
        for _ in 0..ATTEMPTS {
            self.live.refresh().await?;
            let lineup = self.live.snapshot();
            let is_compared = matches!(ask.step, Move::Shadow | Move::Canary);
            if is_compared && row.feature_set != lineup.features.id().as_str() {
                let why = "the model was trained on other features than those of this server";
                return Err(ServiceError::Conflict(why.into()));
            }
            let gates = match &opened {
                Some(opened) if ask.step.is_gated() && row.stage != Stage::Active.as_str() => {
                    let evidence = gate_evidence::gather(
                        self.db.critical_read(),
                        &lineup,
                        &row,
                        opened,
                        self.clock.now(),
                    )
                    .await?;
                    self.gates.gates(&evidence, lineup.rules.outlier_alpha)
                }
                _ => Vec::new(),
            };
            if let Some(next) = self.step(&lineup, model, ask, &change, &gates).await? {
                self.live.refresh().await?;
                self.shadows.refresh().await?;
                return Ok(next);
            }
        }
        Err(ServiceError::Conflict("what is live keeps changing: try again".into()))
    }

    /// Puts the previous model back: a promotion in the other direction, which no
    /// gate keeps. Ends a canary.
    pub async fn roll_back(&self, change: Change) -> Result<LineupRow, ServiceError> {
        // Commits together: the next generation, the stages, the decision, the
        // announcement.
        let mut tx = self.db.begin_critical().await?;
        let current = models::lock_lineup(&mut tx).await?;
        let Some(previous) = current.previous.clone() else {
            let why = "there is no previous model to roll back to";
            return Err(ServiceError::Conflict(why.into()));
        };
        let next = self.put_back(&mut tx, current, Some(previous), &change).await?;
        tx.commit().await?;
        self.publish_committed().await?;
        Ok(next)
    }

    /// Takes the live model out: rules answer until another is promoted. Ends a canary.
    pub async fn fall_back(&self, change: Change) -> Result<LineupRow, ServiceError> {
        // Commits together: the next generation, the stages, the decision, the
        // announcement.
        let mut tx = self.db.begin_critical().await?;
        let current = models::lock_lineup(&mut tx).await?;
        if current.active.is_none() {
            return Err(ServiceError::Conflict("no model is live: rules answer already".into()));
        }
        let next = self.put_back(&mut tx, current, None, &change).await?;
        tx.commit().await?;
        self.publish_committed().await?;
        Ok(next)
    }

    /// Publishes what has just been committed. A database that is away by now is no
    /// failure of the caller's change: the next poll takes the change up.
    async fn publish_committed(&self) -> Result<(), ServiceError> {
        match self.live.refresh().await {
            Err(error @ ServiceError::Unavailable(_)) => {
                tracing::warn!(error = %Chain(&error), "a committed change will be published later");
                Ok(())
            }
            published => published,
        }
    }

    /// Has a model answer instead of the `current` one, or rules (`None`), whatever the
    /// gates would say; in the transaction of the caller, who has locked the lineup and
    /// publishes it afterwards.
    pub(crate) async fn put_back(
        &self,
        tx: &mut Tx,
        current: LineupRow,
        by: Option<ModelId>,
        change: &Change,
    ) -> Result<LineupRow, ServiceError> {
        if let Some(model) = &by {
            let stage = models::stage(tx, model).await?.unwrap_or(Stage::Retired);
            self.end_canary(tx, &current, model, change).await?;
            let decision = self.decision("rollback", (stage, Some(Stage::Active)), change, &[]);
            decisions::insert(tx, model, &decision).await?;
        } else if let Some(model) = &current.active {
            self.end_canary(tx, &current, model, change).await?;
            let stages = (Stage::Active, Some(Stage::Retired));
            let decision = self.decision("fall_back", stages, change, &[]);
            decisions::insert(tx, model, &decision).await?;
        }
        let next = LineupRow {
            generation: current.generation + 1,
            active: by,
            previous: current.active,
            canary: None,
            ..self.changed(change)
        };
        models::change_lineup(tx, &next).await?;
        Ok(next)
    }

    /// `None`: the gates were asked about another lineup than there is now.
    async fn step(
        &self,
        lineup: &Lineup,
        model: &ModelId,
        ask: Ask,
        change: &Change,
        gates: &[Gate],
    ) -> Result<Option<LineupRow>, ServiceError> {
        // Commits together: the next generation, the stages, the decision, the
        // announcement; or a refusal alone.
        let mut tx = self.db.begin_critical().await?;
        let current = models::lock_lineup(&mut tx).await?;
        if current.generation != lineup.generation {
            return Ok(None);
        }
        let stage = models::stage(&mut tx, model).await?;
        let stage = stage.ok_or_else(|| ServiceError::NotFound(format!("model `{model}`")))?;
        let next_stage = match stage.after(ask.step, gates) {
            Ok(next) => next,
            Err(Refusal::Illegal(why)) => return Err(ServiceError::Conflict(why)),
            Err(Refusal::Gates(_)) if ask.force => stage
                .after_any(ask.step)
                .map_err(|_| ServiceError::Conflict("no such step".into()))?,
            Err(Refusal::Gates(refusing)) => {
                if ask.record_refusal {
                    let decision = self.decision(ask.step.as_str(), (stage, None), change, gates);
                    decisions::insert(&mut tx, model, &decision).await?;
                    tx.commit().await?;
                }
                return Err(ServiceError::Refused { step: ask.step, gates: refusing });
            }
        };
        let canary_share = current.canary.as_ref().map(|canary| canary.share);
        let is_other_share =
            ask.share.zip(canary_share).is_some_and(|(a, b)| a.total_cmp(&b).is_ne());
        if stage == next_stage && !is_other_share {
            return Ok(Some(current));
        }
        let next = match ask.step {
            Move::Promote => {
                self.end_canary(&mut tx, &current, model, change).await?;
                let next = LineupRow {
                    generation: current.generation + 1,
                    active: Some(model.clone()),
                    previous: current.active,
                    canary: None,
                    ..self.changed(change)
                };
                models::change_lineup(&mut tx, &next).await?;
                next
            }
            Move::Canary => {
                let next = self.with_canary(current, model, ask.share, change)?;
                models::change_lineup(&mut tx, &next).await?;
                next
            }
            Move::Retire | Move::Reject if stage == Stage::Canary => {
                let next = LineupRow {
                    generation: current.generation + 1,
                    active: current.active,
                    previous: current.previous,
                    canary: None,
                    ..self.changed(change)
                };
                models::change_lineup(&mut tx, &next).await?;
                next
            }
            Move::Shadow => {
                if models::at_stage_now(&mut tx, Stage::Shadow).await?.len() >= MAX_SHADOWS {
                    let why = format!("{MAX_SHADOWS} models are in shadow: retire one first");
                    return Err(ServiceError::Conflict(why));
                }
                models::set_stage(&mut tx, model, Stage::Shadow).await?;
                current
            }
            Move::Retire | Move::Reject => {
                models::set_stage(&mut tx, model, Stage::Retired).await?;
                current
            }
        };
        let mut decision =
            self.decision(ask.step.as_str(), (stage, Some(next_stage)), change, gates);
        decision.forced = gates.iter().any(|gate| !gate.passed);
        decisions::insert(&mut tx, model, &decision).await?;
        tx.commit().await?;
        Ok(Some(next))
    }

    fn with_canary(
        &self,
        current: LineupRow,
        model: &ModelId,
        share: Option<f64>,
        change: &Change,
    ) -> Result<LineupRow, ServiceError> {
        if current.active.is_none() {
            let why = "no model is live that would answer the others: promote this one";
            return Err(ServiceError::Conflict(why.into()));
        }
        if let Some(other) = current.canary.filter(|canary| canary.model != *model) {
            let why = format!("model `{}` is in canary: promote or retire it first", other.model);
            return Err(ServiceError::Conflict(why));
        }
        let generation = current.generation + 1;
        let share = share.unwrap_or(self.life.canary_share);
        Ok(LineupRow {
            generation: generation + 1,
            active: current.active,
            previous: current.previous,
            canary: Some(CanaryRow { generation, model: model.clone(), share }),
            ..self.changed(change)
        })
    }

    /// Writes down that a canary ends because of `model`.
    async fn end_canary(
        &self,
        tx: &mut Tx,
        current: &LineupRow,
        model: &ModelId,
        change: &Change,
    ) -> Result<(), ServiceError> {
        if let Some(canary) = current.canary.as_ref().filter(|canary| canary.model != *model) {
            let reason = format!("model {model} went live: {}", change.reason);
            let change = Change { by: change.by.clone(), reason };
            let stages = (Stage::Canary, Some(Stage::Retired));
            let decision = self.decision(Move::Retire.as_str(), stages, &change, &[]);
            decisions::insert(tx, &canary.model, &decision).await?;
        }
        Ok(())
    }

    fn changed(&self, change: &Change) -> LineupRow {
        LineupRow {
            generation: 0,
            active: None,
            previous: None,
            canary: None,
            changed_at: self.clock.now(),
            changed_by: change.by.clone(),
            reason: change.reason.clone(),
        }
    }

    fn decision(
        &self,
        step: &str,
        (from, to): (Stage, Option<Stage>),
        change: &Change,
        gates: &[Gate],
    ) -> Decision {
        Decision {
            step: step.to_owned(),
            from_stage: from.as_str().to_owned(),
            to_stage: to.map(|stage| stage.as_str().to_owned()),
            forced: false,
            decided_at: self.clock.now(),
            decided_by: change.by.clone(),
            reason: change.reason.clone(),
            // Texts and numbers always serialise.
            gates: serde_json::to_value(gates).unwrap_or_default(),
        }
    }
}
