//! A model that has just gone live is watched, and taken back if it answers badly.
//!
//! No single caller decides: the answers must be bad whichever one API key is left out,
//! or a sample of stored customers must be bad too. Otherwise an alert names the key, and
//! the model stays ([`crate::domain::deployment::probation::answers`]).
//!
//! What it says is counted as for drift, so all replicas' answers are judged together.
//! Every replica looks; the lineup's lock makes one of them take the model back, and
//! the alert about it commits with that.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::alert::{Fact, Topic};
use crate::domain::deployment::lifecycle::{Move, Stage};
use crate::domain::deployment::policy::Probation as Rules;
use crate::domain::deployment::probation::{Answers, Observed, answers, disagreement, stored};
use crate::domain::drift::{KeyCheck, KeyChecks, KeyShare, NO_KEY, Severity, percent};
use crate::domain::id::ModelId;
use crate::domain::time::{MILLIS_PER_HOUR, Timestamp};
use crate::service::ServiceError;
use crate::service::alerts::{Alerts, Found, Voice};
use crate::service::drift::{Ask, Drift};
use crate::service::models::policy::Policies;
use crate::service::models::registry::{Change, Registry};
use crate::service::models::{gate_evidence, registry};
use crate::store::models;
use crate::store::models::policy::{Done, NewAction};
use crate::store::models::{LineupRow, policy, shadow};
use crate::telemetry::labels::PolicyAction;

/// Who changed the lineup, where the policy did.
pub const POLICY: &str = "policy";

#[derive(Debug)]
pub struct Probation {
    pub policies: Arc<Policies>,
    pub registry: Arc<Registry>,
    pub drift: Arc<Drift>,
    pub alerts: Arc<Alerts>,
}

/// How the model that is live is watched.
#[derive(Debug, Clone)]
pub struct Watched {
    pub model: ModelId,
    pub until: Timestamp,
}

/// What speaks against a model.
struct Case {
    model: ModelId,
    why: String,
    answers: KeyChecks,
    /// The key that the answers rest on.
    key: Option<KeyShare>,
    /// Whether it holds without any one key, or stored customers show it too.
    is_certain: bool,
}

/// Keys that an alert names.
const NAMED_KEYS: usize = 5;

impl Probation {
    /// The model on probation; `None`: nobody is.
    pub fn watched(&self, lineup: &LineupRow) -> Option<Watched> {
        let rules = self.policies.current().policy.probation;
        let model = lineup.active.clone()?;
        let until = lineup.changed_at.plus_millis(1000 * i64::from(rules.watch_seconds));
        let now = self.registry.clock.now();
        // A model that went live later than now, by more than replicas' clocks differ, did
        // so by a clock that was wrong.
        let length = until.millis() - lineup.changed_at.millis();
        let is_past = lineup.changed_at <= now.plus_millis(length);
        let is_on = lineup.changed_by != POLICY && now < until && is_past;
        is_on.then_some(Watched { model, until })
    }

    /// Looks once; true: the model was taken back.
    pub async fn run(&self) -> Result<bool, ServiceError> {
        let db = self.registry.db.read();
        let lineup = models::lineup(db).await?;
        let rules = self.policies.current().policy.probation;
        let Some(watched) = self.watched(&lineup) else {
            self.end_watching(&lineup).await?;
            return Ok(false);
        };
        let previous = lineup.previous.as_ref().filter(|previous| **previous != watched.model);
        if rules.disagreement < 1.0
            && let Some(previous) = previous
        {
            self.watch_from_shadow(previous).await?;
        }
        let Some(case) = self.judge(&lineup, &watched.model, previous, &rules).await? else {
            return Ok(false);
        };
        self.act(&lineup, &rules, &case).await
    }

    /// What speaks against the model: its answers, and, where they rest on one key or
    /// are compared with the model before, a sample of stored customers.
    async fn judge(
        &self,
        lineup: &LineupRow,
        model: &ModelId,
        previous: Option<&ModelId>,
        rules: &Rules,
    ) -> Result<Option<Case>, ServiceError> {
        let since = self.registry.clock.now().millis() - lineup.changed_at.millis();
        let hours = u32::try_from(since / MILLIS_PER_HOUR).unwrap_or(0) + 2;
        let now = self.key_checks(model, Some(hours), rules).await?;
        let before = match previous {
            Some(previous) => Some(self.key_checks(previous, None, rules).await?),
            None => None,
        };
        let model = model.clone();
        let found = match answers(rules, &now, before.as_ref()) {
            Answers::Bad { why } => {
                return Ok(Some(Case { model, why, answers: now, key: None, is_certain: true }));
            }
            Answers::BadOfOneKey { key, why } => Some((key, why)),
            Answers::Good => None,
        };
        let agreement = match previous {
            Some(previous) => self.agreement(previous, &model).await?,
            None => None,
        };
        let apart = disagreement(rules, agreement);
        if found.is_none() && apart.is_none() {
            return Ok(None);
        }
        let sample = self.drift.sample(&model, previous).await?;
        let observed = Observed {
            now: &sample.now,
            before: sample.before.as_ref(),
            agreement: sample.agreement.filter(|_| apart.is_some()),
        };
        let Some((key, why)) = found else {
            // Customers with new events may be those of one caller: the others must agree.
            let why = apart.filter(|_| stored(rules, &observed).is_some());
            let case = |why| Case { model, why, answers: now, key: None, is_certain: true };
            return Ok(why.map(case));
        };
        let case = match stored(rules, &observed) {
            Some(of_stored) => {
                let why = format!("{why}; of {} stored customers: {of_stored}", sample.now.scored);
                Case { model, why, answers: now, key: None, is_certain: true }
            }
            None => Case { model, why, answers: now, key: Some(key), is_certain: false },
        };
        Ok(Some(case))
    }

    /// Takes the model back if the case is certain and the policy says so; raises the
    /// alert. True: the model was taken back.
    async fn act(
        &self,
        lineup: &LineupRow,
        rules: &Rules,
        case: &Case,
    ) -> Result<bool, ServiceError> {
        let (registry, model) = (&self.registry, &case.model);
        let now = registry.clock.now();
        let reason = format!("model {}: {}", model.short(), case.why);
        let change = Change { by: POLICY.into(), reason };
        // Commits together: the next generation, the stages, the decision, that it was
        // done, the alert, the announcement.
        let mut tx = registry.db.begin_critical().await?;
        let mut next = None;
        if rules.rollback && case.is_certain {
            let (about, reason) = (model.as_str(), &*change.reason);
            let action = NewAction { action: Done::RollBack, about, reason };
            policy::begin(&mut tx, action, now, now).await?;
            let current = models::lock_lineup(&mut tx).await?;
            if current.generation != lineup.generation {
                return Ok(false);
            }
            let to = lineup.previous.clone().filter(|previous| previous != model);
            next = Some(registry.put_back(&mut tx, current, to, &change).await?);
        }
        let found = found(case, next.as_ref());
        self.alerts.raise(&mut tx, &found, Voice::Plain).await?;
        tx.commit().await?;
        if next.is_none() {
            return Ok(false);
        }
        self.alerts.metrics.policy_actions.add(PolicyAction::RollBack, 1);
        tracing::warn!(model = model.short(), why = case.why, "the model was taken back");
        registry.live.refresh().await?;
        Ok(true)
    }

    /// What was told of a model's answers is over once the one that somebody has put
    /// live has done its time, and then the one before it need not watch any more.
    async fn end_watching(&self, lineup: &LineupRow) -> Result<(), ServiceError> {
        let registry = &self.registry;
        let firing = crate::store::alerting::firing(registry.db.read()).await?;
        let mut keys: Vec<String> = firing
            .into_iter()
            .filter(|alert| alert.standing.topic == Topic::Rollback)
            .map(|alert| alert.standing.key)
            .collect();
        keys.sort();
        if !keys.is_empty() && lineup.changed_by != POLICY {
            // Commits together: the ends, and the messages about them.
            let mut tx = registry.db.begin().await?;
            for key in keys {
                let why = "the model that is live has done its time on probation";
                self.alerts.resolve(&mut tx, &key, why).await?;
            }
            tx.commit().await?;
        }
        if let Some(previous) = &lineup.previous
            && self.is_ours_in_shadow(previous).await?
        {
            let change = change("the probation of the model after it is over");
            registry.carry_out(previous, registry::Ask::to(Move::Retire), change).await?;
        }
        Ok(())
    }

    /// The model before watches from the shadow, so that it is known what it would say.
    async fn watch_from_shadow(&self, previous: &ModelId) -> Result<(), ServiceError> {
        let registry = &self.registry;
        let row = models::find(registry.db.read(), previous).await?;
        if row.is_some_and(|row| row.stage == Stage::Retired.as_str()) {
            let ask = registry::Ask { record_refusal: false, ..registry::Ask::to(Move::Shadow) };
            match registry.carry_out(previous, ask, change("watches the model after it")).await {
                // Another replica was first, or there are shadows enough.
                Ok(_) | Err(ServiceError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn is_ours_in_shadow(&self, model: &ModelId) -> Result<bool, ServiceError> {
        let db = self.registry.db.read();
        let row = models::find(db, model).await?;
        if row.is_none_or(|row| row.stage != Stage::Shadow.as_str()) {
            return Ok(false);
        }
        let last = crate::store::models::decisions::of_model(db, model, 1).await?;
        Ok(last.first().is_some_and(|decision| decision.decided_by == POLICY))
    }

    async fn agreement(
        &self,
        previous: &ModelId,
        model: &ModelId,
    ) -> Result<Option<(u64, f64)>, ServiceError> {
        let counts = shadow::counts(self.registry.db.read(), previous).await?;
        let beside = counts.iter().filter(|(pair, _)| pair.live.as_ref() == Some(model));
        let customers = gate_evidence::customers(beside.clone());
        Ok(gate_evidence::agreement(beside).map(|share| (customers, share)))
    }

    async fn key_checks(
        &self,
        model: &ModelId,
        hours: Option<u32>,
        rules: &Rules,
    ) -> Result<KeyChecks, ServiceError> {
        let ask = Ask { model: Some(model.clone()), source: None, hours };
        self.drift.key_checks(&ask, rules.minimum_rows).await
    }
}

fn change(reason: &str) -> Change {
    Change { by: POLICY.into(), reason: reason.into() }
}

fn found(case: &Case, next: Option<&LineupRow>) -> Found {
    let Case { model, why, answers, key, is_certain } = case;
    let (title, advice) = match next {
        Some(LineupRow { active: Some(_), .. }) => (
            "A new model was taken back; the one before it answers again",
            "Nothing has to be done at once. See the model's report and GET /v1/drift?model= for \
             what it met; put another live, or this one again once its cause is mended.",
        ),
        Some(_) => (
            "A new model was taken back; rules answer until another is live",
            "Promote a model that answered well before, or train one: there was none to go back to.",
        ),
        None if *is_certain => (
            "A new model answers badly",
            "It stays live, as policy.probation.rollback says. Roll back by \
             POST /v1/models/rollback, or see GET /v1/drift for what it meets.",
        ),
        None => (
            "A new model answers the rows of one API key badly; it stays live",
            "A sample of stored customers and the other keys do not show it. Check what this key \
             sends. If the model is at fault, roll back by POST /v1/models/rollback.",
        ),
    };
    let answers_now = match next {
        None => "the same".into(),
        Some(next) => next.active.as_ref().map_or_else(|| "the rules".into(), ToString::to_string),
    };
    let mut facts = vec![
        fact("Model", model.to_string()),
        fact("Answers now", answers_now),
        fact("Scored", answers.keys.iter().map(|one| one.key.rows).sum::<u64>().to_string()),
        fact("Evidence", evidence(answers)),
    ];
    if let Some(outliers) = answers.all.outliers {
        facts.push(fact("Outliers", percent(outliers.now)));
    }
    if let Some(unassigned) = answers.all.unassigned {
        facts.push(fact("In no segment", percent(unassigned.now)));
    }
    let rests_on = key.as_ref().map_or_else(String::new, |key| {
        let KeyShare { key, share, .. } = key;
        format!(" This rests on {}, {} of what it scored.", key_name(key), percent(*share))
    });
    Found {
        key: format!("rollback:{}", model.short()),
        topic: Topic::Rollback,
        severity: if *is_certain { Severity::Critical } else { Severity::Warning },
        owner: None,
        subject: BTreeMap::from([("model".to_owned(), model.to_string())]),
        title: title.into(),
        what: format!("Model {}: {why}.{rests_on}", model.short()),
        advice: advice.into(),
        facts,
        picture: None,
    }
}

/// The keys with the most rows, for people.
fn evidence(answers: &KeyChecks) -> String {
    let name = |one: &KeyCheck| {
        format!("{} of the rows came from {}", percent(one.key.share), key_name(&one.key.key))
    };
    answers.keys.iter().take(NAMED_KEYS).map(name).collect::<Vec<_>>().join("; ")
}

fn key_name(key: &str) -> String {
    if key == NO_KEY { "events".into() } else { format!("key {key}") }
}

fn fact(name: &str, value: String) -> Fact {
    Fact { name: name.into(), value }
}
