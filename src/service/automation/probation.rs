//! Probation: watches a newly promoted model and rolls it back if it answers badly.
//!
//! A model is judged by its answers since its promotion. No caller decides: the answers for a
//! sample of stored customers must be bad too. Where too few customers are stored, the answers
//! must be bad with any one API key left out, and the rows must resemble the training rows.
//! Otherwise an alert says so, and the model stays active
//! ([`crate::domain::deployment::probation::weigh_verdict`]).
//!
//! The evidence is the drift counts, so the answers of all replicas are judged together. Every
//! replica evaluates probation. The deployment lock lets a single replica roll back, and the
//! alert commits with the rollback.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::alert::{AlertFact, AlertTopic};
use crate::domain::deployment::lifecycle::{ModelStage, StageTransition};
use crate::domain::deployment::policy::ProbationLimits as Rules;
use crate::domain::deployment::probation::{
    EvidenceDoubt, ProbationEvidence, ProbationObservations, ProbationVerdict, SegmentAgreement,
    disagreement_reason, judge_answers, rollback_reason_in_sample, weigh_verdict,
};
use crate::domain::drift::{ApiKeyCheck, ApiKeyChecks, ApiKeyShare, NO_KEY, Severity};
use crate::domain::id::ModelId;
use crate::domain::presentation::number_format::format_percent;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::alerts::{AlertService, AnnouncementMode, NewAlert};
use crate::service::automation::AutomationDependencies;
use crate::service::clock::TimeSource;
use crate::service::drift::{DriftPeriod, DriftQuery, DriftService};
use crate::service::models::gate_evidence;
use crate::service::models::policy::AutomationPolicies;
use crate::service::models::registry::ModelRegistry;
use crate::service::models::step_request::{DeploymentChange, StepRequest};
use crate::service::scoring::serving::ServingState;
use crate::store::models::policy::{NewPolicyAction, PolicyActionKind};
use crate::store::models::{DeploymentRow, policy, shadow};
use crate::store::{DatabaseHandle, models};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::PolicyAction;

/// Author of deployment changes made by the policy.
pub(crate) const POLICY_AUTHOR: &str = "policy";

/// Probation of newly promoted models.
#[derive(Debug)]
pub struct ProbationMonitor {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    clock: TimeSource,
    policies: Arc<AutomationPolicies>,
    registry: Arc<ModelRegistry>,
    drift: Arc<DriftService>,
    alerts: Arc<AlertService>,
    metrics: Arc<ServiceMetrics>,
}

/// The model on probation and the end of the probation.
#[derive(Debug, Clone)]
pub(crate) struct ModelOnProbation {
    pub model: ModelId,
    pub until: Timestamp,
}

/// Evidence against a model, with the answers that it rests on.
struct ModelEvidence {
    model: ModelId,
    evidence: ProbationEvidence,
    answers: ApiKeyChecks,
}

/// Most keys named in an alert.
const MAX_NAMED_KEYS: usize = 5;

impl ProbationMonitor {
    pub fn new(dependencies: AutomationDependencies) -> Self {
        let AutomationDependencies {
            db,
            serving,
            clock,
            policies,
            registry,
            drift,
            alerts,
            metrics,
        } = dependencies;
        Self { db, serving, clock, policies, registry, drift, alerts, metrics }
    }

    /// The model on probation; `None`: no model is.
    pub(crate) fn model_on_probation(
        &self,
        deployment: &DeploymentRow,
    ) -> Option<ModelOnProbation> {
        let rules = self.policies.current().policy.probation;
        let model = deployment.active.clone()?;
        let until = deployment.changed_at.plus_millis(1000 * i64::from(rules.watch_seconds));
        let now = self.clock.now();
        // A promotion further in the future than replicas' clocks differ was recorded by a
        // wrong clock.
        let length = until.millis() - deployment.changed_at.millis();
        let is_past = deployment.changed_at <= now.plus_millis(length);
        let is_on = deployment.changed_by != POLICY_AUTHOR && now < until && is_past;
        is_on.then_some(ModelOnProbation { model, until })
    }

    /// Evaluates probation once; returns whether the model was rolled back.
    pub(crate) async fn evaluate_probation(&self) -> Result<bool, ServiceError> {
        let db = self.db.read();
        let deployment = models::current_deployment(db).await?;
        let rules = self.policies.current().policy.probation;
        let Some(watched) = self.model_on_probation(&deployment) else {
            self.end_probation(&deployment).await?;
            return Ok(false);
        };
        let previous = deployment.previous.as_ref().filter(|previous| **previous != watched.model);
        if rules.disagreement < 1.0
            && let Some(previous) = previous
        {
            // The previous model keeps scoring in shadow while the policy compares the two.
            self.put_in_shadow(previous).await?;
        }
        let Some(evidence) =
            self.find_evidence(&deployment, &watched.model, previous, &rules).await?
        else {
            return Ok(false);
        };
        self.roll_back_or_alert(&deployment, &rules, &evidence).await
    }

    /// Evidence against the model: its answers since its promotion, weighed against a sample of
    /// stored customers.
    async fn find_evidence(
        &self,
        deployment: &DeploymentRow,
        model: &ModelId,
        previous: Option<&ModelId>,
        rules: &Rules,
    ) -> Result<Option<ModelEvidence>, ServiceError> {
        let since = DriftPeriod::Since(deployment.changed_at);
        let answers = self.key_checks(model, since, rules).await?;
        let before = match previous {
            Some(previous) => {
                Some(self.key_checks(previous, DriftPeriod::ConfiguredHours, rules).await?)
            }
            None => None,
        };
        let agreement = match previous {
            Some(previous) => self.shadow_agreement(previous, model).await?,
            None => None,
        };
        let disagreement = disagreement_reason(rules, agreement);
        let verdict = judge_answers(rules, &answers, before.as_ref());
        if verdict == ProbationVerdict::Good && disagreement.is_none() {
            return Ok(None);
        }
        let sample = self.drift.sample_customers(model, previous).await?;
        let observed = ProbationObservations {
            now: &sample.now,
            before: sample.before.as_ref(),
            agreement: sample.agreement.filter(|_| disagreement.is_some()),
        };
        let evidence = weigh_verdict(rules, verdict, &answers.all, &observed).or_else(|| {
            // Customers with new events may belong to one caller, so stored customers must
            // agree.
            let confirmed =
                disagreement.filter(|_| rollback_reason_in_sample(rules, &observed).is_some());
            confirmed.map(|why| ProbationEvidence { why, doubt: None })
        });
        Ok(evidence.map(|evidence| ModelEvidence { model: model.clone(), evidence, answers }))
    }

    /// Rolls the model back if nothing speaks against the evidence and the policy allows it; raises the
    /// alert. Returns whether the model was rolled back.
    async fn roll_back_or_alert(
        &self,
        deployment: &DeploymentRow,
        rules: &Rules,
        found: &ModelEvidence,
    ) -> Result<bool, ServiceError> {
        let ModelEvidence { model, evidence, .. } = found;
        let now = self.clock.now();
        let reason = format!("model {}: {}", model.short(), evidence.why);
        let change = DeploymentChange { author: POLICY_AUTHOR.into(), reason };
        // Commits together: the next generation, the stages, the decision, the record of the
        // action, the alert, the announcement.
        let mut tx = self.db.begin_critical().await?;
        let mut next = None;
        if rules.rollback && evidence.doubt.is_none() {
            let (subject, reason) = (model.as_str(), &*change.reason);
            let action = NewPolicyAction { action: PolicyActionKind::Rollback, subject, reason };
            policy::begin_action(&mut tx, action, now, now).await?;
            let current = models::lock_deployment(&mut tx).await?;
            // The deployment changed after the evidence was gathered: the next run evaluates again.
            if current.generation != deployment.generation {
                return Ok(false);
            }
            let to = deployment.previous.clone().filter(|previous| previous != model);
            next = Some(self.registry.replace_active(&mut tx, current, to, &change).await?);
        }
        let alert = probation_alert(found, next.as_ref());
        self.alerts.raise_alert(&mut tx, &alert, AnnouncementMode::Normal).await?;
        tx.commit().await?;
        if next.is_none() {
            return Ok(false);
        }
        self.metrics.policy_actions.add(PolicyAction::Rollback, 1);
        tracing::warn!(model = model.short(), why = evidence.why, "new model rolled back");
        self.serving.refresh_deployment().await?;
        Ok(true)
    }

    /// Resolves the alerts about earlier models once a model promoted by a user has completed
    /// its probation, and then retires the previous model from shadow.
    async fn end_probation(&self, deployment: &DeploymentRow) -> Result<(), ServiceError> {
        let firing = crate::store::alerting::firing(self.db.read()).await?;
        let mut keys: Vec<String> = firing
            .into_iter()
            .filter(|alert| alert.state.topic == AlertTopic::Rollback)
            .map(|alert| alert.state.key)
            .collect();
        keys.sort();
        if !keys.is_empty() && deployment.changed_by != POLICY_AUTHOR {
            // Commits together: the resolutions and the messages about them.
            let mut tx = self.db.begin().await?;
            for key in keys {
                let why = "the active model has completed its probation";
                self.alerts.resolve_alert(&mut tx, &key, why).await?;
            }
            tx.commit().await?;
        }
        if let Some(previous) = &deployment.previous
            && self.is_in_shadow_by_policy(previous).await?
        {
            let change = policy_change("the probation of its successor is over");
            let ask = StepRequest::new(StageTransition::Retire);
            self.registry.take_step(previous, ask, change).await?;
        }
        Ok(())
    }

    /// Puts the previous model in shadow, so that its answers can be compared.
    async fn put_in_shadow(&self, previous: &ModelId) -> Result<(), ServiceError> {
        let row = models::find(self.db.read(), previous).await?;
        if row.is_some_and(|row| row.stage == ModelStage::Retired.as_str()) {
            let ask =
                StepRequest { record_refusal: false, ..StepRequest::new(StageTransition::Shadow) };
            let change = policy_change("compared with its successor on probation");
            match self.registry.take_step(previous, ask, change).await {
                // Another replica was first, or the limit of shadow models is reached.
                Ok(_) | Err(ServiceError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn is_in_shadow_by_policy(&self, model: &ModelId) -> Result<bool, ServiceError> {
        let db = self.db.read();
        let row = models::find(db, model).await?;
        if row.is_none_or(|row| row.stage != ModelStage::Shadow.as_str()) {
            return Ok(false);
        }
        let last = crate::store::models::decisions::list_of_model(db, model, 1).await?;
        Ok(last.first().is_some_and(|decision| decision.decided_by == POLICY_AUTHOR))
    }

    async fn shadow_agreement(
        &self,
        previous: &ModelId,
        model: &ModelId,
    ) -> Result<Option<SegmentAgreement>, ServiceError> {
        let counts = shadow::list_counts(self.db.read(), previous).await?;
        let beside = counts.iter().filter(|(pair, _)| pair.live.as_ref() == Some(model));
        let customers = gate_evidence::total_customers(beside.clone());
        Ok(gate_evidence::shadow_agreement(beside)
            .map(|share| SegmentAgreement { customers, share }))
    }

    async fn key_checks(
        &self,
        model: &ModelId,
        period: DriftPeriod,
        rules: &Rules,
    ) -> Result<ApiKeyChecks, ServiceError> {
        let ask = DriftQuery { model: Some(model.clone()), source: None, period };
        self.drift.check_by_key(&ask, rules.minimum_rows).await
    }
}

fn policy_change(reason: &str) -> DeploymentChange {
    DeploymentChange { author: POLICY_AUTHOR.into(), reason: reason.into() }
}

fn probation_alert(found: &ModelEvidence, next: Option<&DeploymentRow>) -> NewAlert {
    let ModelEvidence { model, evidence: ProbationEvidence { why, doubt }, answers } = found;
    let (title, advice) = match next {
        Some(DeploymentRow { active: Some(_), .. }) => (
            "A new model was rolled back to the previous model",
            "No immediate action is needed. See the model's report and GET /v1/drift?model_id= for \
             the rows it scored. Promote another model, or this one again once the cause is fixed.",
        ),
        Some(_) => (
            "A new model was rolled back to the rule-based fallback",
            "There was no previous model. Promote a model that answered well before, or train one.",
        ),
        None => alert_of_doubt(doubt.as_ref()),
    };
    let answers_now = match next {
        None => "unchanged".into(),
        Some(next) => {
            next.active.as_ref().map_or_else(|| "rule-based fallback".into(), ToString::to_string)
        }
    };
    let mut facts = vec![
        fact("Model", model.to_string()),
        fact("Serving now", answers_now),
        fact("Scored since the promotion", total_rows(answers).to_string()),
        fact("Evidence", key_shares_text(answers)),
    ];
    if let Some(outliers) = answers.all.outliers {
        facts.push(fact("Outliers", format_percent(outliers.now)));
    }
    if let Some(unassigned) = answers.all.unassigned {
        facts.push(fact("Unassigned", format_percent(unassigned.now)));
    }
    let doubt_text = doubt.as_ref().map_or_else(String::new, describe_doubt);
    NewAlert {
        key: format!("rollback:{}", model.short()),
        topic: AlertTopic::Rollback,
        severity: if doubt.is_none() { Severity::Critical } else { Severity::Warning },
        owner: None,
        subject: BTreeMap::from([("model".to_owned(), model.to_string())]),
        title: title.into(),
        description: format!("Model {}: {why}.{doubt_text}", model.short()),
        advice: advice.into(),
        facts,
        parts: vec![],
        picture: None,
    }
}

/// Title and advice of an alert about a model that stays active.
fn alert_of_doubt(doubt: Option<&EvidenceDoubt>) -> (&'static str, &'static str) {
    match doubt {
        None => (
            "A new model gives bad answers; automatic rollback is off",
            "The model stays active because policy.probation.rollback is false. Roll back with \
             POST /v1/deployment/rollback, or see GET /v1/drift for the rows it scores.",
        ),
        Some(EvidenceDoubt::OneKey(_)) => (
            "A new model gives bad answers to one API key; it stays active",
            "A sample of stored customers and the other keys do not confirm it. Check the rows of \
             this key. If the model is at fault, roll back with POST /v1/deployment/rollback.",
        ),
        Some(EvidenceDoubt::StoredCustomers(_)) => (
            "A new model gives bad answers to callers, not to stored customers; it stays active",
            "Check the rows that callers send, with GET /v1/drift. If the model is at fault, roll \
             back with POST /v1/deployment/rollback.",
        ),
        Some(EvidenceDoubt::DriftedRows(_)) => (
            "A new model scores rows that differ from its training; it stays active",
            "Check the rows that callers send, with GET /v1/drift. If they are right, the model \
             was trained on other customers: roll back with POST /v1/deployment/rollback.",
        ),
    }
}

fn describe_doubt(doubt: &EvidenceDoubt) -> String {
    match doubt {
        EvidenceDoubt::OneKey(ApiKeyShare { key, share, .. }) => format!(
            " This depends on {}, the source of {} of its rows.",
            key_name(key),
            format_percent(*share)
        ),
        EvidenceDoubt::StoredCustomers(customers) => {
            format!(" A sample of {customers} stored customers does not confirm it.")
        }
        EvidenceDoubt::DriftedRows(features) => {
            format!(" These features of the rows differ from training: {}.", features.join(", "))
        }
    }
}

fn total_rows(answers: &ApiKeyChecks) -> u64 {
    answers.keys.iter().map(|one| one.key.rows).sum()
}

/// The keys with the most rows, as text for an alert.
fn key_shares_text(answers: &ApiKeyChecks) -> String {
    let largest = answers.keys.iter().take(MAX_NAMED_KEYS);
    largest.map(key_share_text).collect::<Vec<_>>().join("; ")
}

fn key_share_text(check: &ApiKeyCheck) -> String {
    format!(
        "{} of the rows came from {}",
        format_percent(check.key.share),
        key_name(&check.key.key)
    )
}

fn key_name(key: &str) -> String {
    if key == NO_KEY { "events".into() } else { format!("key {key}") }
}

fn fact(name: &str, value: String) -> AlertFact {
    AlertFact { name: name.into(), value }
}
