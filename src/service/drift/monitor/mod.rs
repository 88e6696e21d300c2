//! Drift monitor: periodic checks that raise and resolve alarms.
//!
//! One replica checks for all. The alarm states, the alerts and the messages about them commit
//! together with the time of the check, so each check counts once, whichever replica is killed.

mod alert_changes;
mod alert_content;
mod alert_facts;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config;

use crate::config::DriftCheckSources;
use crate::domain::alert::AlertTopic;
use crate::domain::drift::{
    AlarmRecord, CheckedAlarm, DriftAlertKey, FiringAlert, FiringAlerts, ScoreSource,
    announcement_of, assign_alerts, step_alarms, step_alarms_without_findings,
};
use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::alerts::AlertService;
use crate::service::clock::TimeSource;
use crate::service::drift::{
    DriftHistory, DriftPeriod, DriftQuery, DriftReport, DriftService, HistoryInterval as Each,
};
use crate::service::scoring::serving::ServingState;
use crate::store::alerting::alarms::{AlarmRow, Job};
use crate::store::alerting::{AlertRow, alarms};
use crate::store::database::lease::{LeaseGuard, LeaseName};
use crate::store::{DatabaseHandle, alerting};
use crate::telemetry::ServiceMetrics;

use alert_changes::{AlarmChange, AlertAction, AlertChange, CheckChanges, is_of_source, mode_of};
use alert_content::AlertGroup;

/// A week: a finding that has lasted longer has no start worth reporting.
const LOOK_BACK_HOURS: u32 = 168;

/// What the drift monitor depends on.
#[derive(Debug)]
pub struct DriftMonitorDependencies {
    pub db: DatabaseHandle,
    pub clock: TimeSource,
    pub settings: config::AlertSettings,
    pub alerts: Arc<AlertService>,
    pub drift: Arc<DriftService>,
    pub serving: Arc<ServingState>,
    pub metrics: Arc<ServiceMetrics>,
}

/// Periodic drift check with alarms and alerts.
#[derive(Debug)]
pub struct DriftMonitor {
    db: DatabaseHandle,
    clock: TimeSource,
    settings: config::AlertSettings,
    alerts: Arc<AlertService>,
    drift: Arc<DriftService>,
    serving: Arc<ServingState>,
    metrics: Arc<ServiceMetrics>,
}

/// The report of one source.
struct SourceCheck {
    source: ScoreSource,
    report: DriftReport,
    /// Checks by hour; empty without findings.
    history: DriftHistory,
}

/// What is known of a source before its check.
struct SourceState<'f> {
    records: Vec<AlarmRecord>,
    /// The alerts that fire.
    known: BTreeMap<DriftAlertKey, &'f AlertRow>,
}

impl DriftMonitor {
    pub fn new(dependencies: DriftMonitorDependencies) -> Self {
        let DriftMonitorDependencies { db, clock, settings, alerts, drift, serving, metrics } =
            dependencies;
        Self { db, clock, settings, alerts, drift, serving, metrics }
    }

    /// The service in which the monitor raises its alerts.
    pub(crate) fn alerts(&self) -> &Arc<AlertService> {
        &self.alerts
    }

    /// Runs a check if it is due and no other replica is running it.
    pub async fn check_if_due(&self) -> Result<(), ServiceError> {
        let db = &self.db;
        let now = self.clock.now();
        let last = alarms::last_run_at(db.read(), Job::Check).await?;
        self.show_last_check(last);
        if !self.is_due(last, now) {
            return Ok(());
        }
        let Some(mut lease) = db.try_lease(LeaseName::Alerts).await? else { return Ok(()) };
        let outcome = async {
            // Read again under the lease: another replica may have checked meanwhile.
            let last = alarms::last_run_at(db.read(), Job::Check).await?;
            if self.is_due(last, now) {
                self.check(&mut lease, last, now).await?;
            }
            Ok(())
        };
        let outcome = outcome.await;
        lease.release().await;
        outcome
    }

    fn is_due(&self, last: Option<Timestamp>, now: Timestamp) -> bool {
        let every =
            i64::try_from(self.settings.drift_check_interval.as_millis()).unwrap_or(i64::MAX);
        // A last check in the future was recorded by a wrong clock.
        last.is_none_or(|last| now.millis() - last.millis() >= every || last > now)
    }

    async fn check(
        &self,
        lease: &mut LeaseGuard,
        last: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let model = self.serving.snapshot().active.as_ref().map(|model| model.id().clone());
        let rows = alarms::list(self.db.read()).await?;
        let (rows, outdated): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|row| model.as_ref().is_some_and(|model| row.model == model.as_str()));
        let (rows, unchecked): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| {
            self.sources().iter().any(|source| is_of_source(&row.record.key, *source))
        });
        let mut changes = CheckChanges::default();
        changes.forget(outdated, &other_model(model.as_ref()));
        changes.forget(unchecked, "it is no longer checked");
        let mut firing = alerting::firing(self.db.read()).await?;
        firing.retain(|alert| {
            let is_ended = changes.alerts.iter().any(|change| change.key == alert.state.key);
            alert.state.topic == AlertTopic::Drift && !is_ended
        });
        if let Some(model) = &model {
            for source in self.sources() {
                let rows = rows.iter().filter(|row| is_of_source(&row.record.key, *source));
                let records = rows.map(|row| row.record.clone()).collect();
                let checked = self.check_source(model, *source).await?;
                let state = SourceState::of(&checked, records, &firing);
                self.add_source_changes(&mut changes, &checked, state, now).await?;
            }
        }
        // One order of alert keys in all transactions prevents deadlocks. The sort is stable: an
        // alert that ends comes before a new one of its key.
        changes.alerts.sort_by(|a, b| a.key.cmp(&b.key));
        // Checked before the commit, as the lease may have expired during long checks.
        lease.verify().await?;
        self.commit(&changes, last, now).await
    }

    async fn commit(
        &self,
        changes: &CheckChanges,
        last: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        // Commits together: the time of the check, the alarm states, the alerts, and the
        // messages about them.
        let mut tx = self.db.begin().await?;
        if !alarms::record_run(&mut tx, Job::Check, last, now).await? {
            // Another replica has checked: this one had lost the lease.
            return Ok(());
        }
        for AlertChange { key, action } in &changes.alerts {
            match action {
                AlertAction::Raise(found, mode) => {
                    self.alerts.raise_alert(&mut tx, found, *mode).await?;
                }
                AlertAction::Resolve(why) => self.alerts.resolve_alert(&mut tx, key, why).await?,
            }
        }
        for AlarmChange { row, is_forgotten } in &changes.alarms {
            if *is_forgotten || row.record.alarm.is_idle(now, &self.settings.alarm_rules) {
                alarms::delete(&mut tx, &row.record.key).await?;
            } else {
                alarms::save(&mut tx, row, now).await?;
            }
        }
        tx.commit().await?;
        self.show_last_check(Some(now));
        Ok(())
    }

    fn sources(&self) -> &'static [ScoreSource] {
        match self.settings.drift_check_sources {
            DriftCheckSources::Rows => &[ScoreSource::Rows, ScoreSource::Customers],
            DriftCheckSources::Events => &[ScoreSource::Events, ScoreSource::Customers],
            DriftCheckSources::Both => &ScoreSource::ALL,
        }
    }

    fn show_last_check(&self, last: Option<Timestamp>) {
        if let Some(last) = last {
            self.metrics.alerts.set_last_drift_check(last);
        }
    }

    async fn check_source(
        &self,
        model: &ModelId,
        source: ScoreSource,
    ) -> Result<SourceCheck, ServiceError> {
        let period = DriftPeriod::ConfiguredHours;
        let ask = DriftQuery { model: Some(model.clone()), source: Some(source), period };
        let report = self.drift.report(&ask).await?;
        let history = if report.check.findings.is_empty() {
            Vec::new()
        } else {
            let ask = DriftQuery { period: DriftPeriod::Hours(LOOK_BACK_HOURS), ..ask };
            self.drift.history(&ask, Each::Hour).await?.1
        };
        Ok(SourceCheck { source, report, history })
    }

    async fn add_source_changes(
        &self,
        changes: &mut CheckChanges,
        checked: &SourceCheck,
        state: SourceState<'_>,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let (report, rules) = (&checked.report, &self.settings.alarm_rules);
        let SourceState { records, known } = state;
        let mut alarms = if report.check.is_enough {
            step_alarms(&report.check.findings, checked.source, records, rules, now)
        } else {
            step_alarms_without_findings(records, rules, now)
        };
        let mut firing = FiringAlerts::new(self.drift.window_millis(), now);
        for (key, alert) in &known {
            let subjects =
                alert.parts.iter().map(|part| part.feature.as_ref().unwrap_or(&part.about));
            let alert = FiringAlert {
                severity: alert.state.severity,
                announced_at: alert.state.announced_at,
                subjects: subjects.map(|subject| subject.as_str().into()).collect(),
            };
            firing.insert(key.clone(), alert);
        }
        let inputs = self.serving.snapshot().features.inputs();
        assign_alerts(&mut alarms, checked.source, &inputs, &mut firing, now);
        let mut groups: BTreeMap<DriftAlertKey, Vec<&CheckedAlarm<'_>>> =
            known.keys().map(|key| (key.clone(), Vec::new())).collect();
        for alarm in alarms.iter().filter(|alarm| alarm.record.alarm.is_firing()) {
            if let Some(key) = alarm.alert_key() {
                groups.entry(key).or_default().push(alarm);
            }
        }
        for (key, parts) in &groups {
            let group = AlertGroup { key, alarms: parts.clone(), known: known.get(key).copied() };
            let action = if parts.is_empty() {
                let left = Some(key.to_string());
                let moved = alarms.iter().find(|alarm| alarm.left == left);
                let moved_to = moved.and_then(CheckedAlarm::alert_key);
                Some(AlertAction::Resolve(self.resolution_of(report, moved_to.as_ref())))
            } else {
                self.announcement(&group, checked, now).await?
            };
            if let Some(action) = action {
                changes.alerts.push(AlertChange { key: key.to_string(), action });
            }
        }
        for CheckedAlarm { record, .. } in alarms {
            let row = AlarmRow { model: report.model.to_string(), record };
            changes.alarms.push(AlarmChange { row, is_forgotten: false });
        }
        Ok(())
    }

    async fn announcement(
        &self,
        group: &AlertGroup<'_>,
        checked: &SourceCheck,
        now: Timestamp,
    ) -> Result<Option<AlertAction>, ServiceError> {
        let announcement = announcement_of(&group.alarms, group.known.is_some());
        let Some(mode) = announcement.map(mode_of) else { return Ok(None) };
        let content = self.alert_content(group, checked, now).await?;
        Ok(content.map(|content| AlertAction::Raise(Box::new(content), mode)))
    }

    /// The reason for which an alert without a firing part is resolved.
    fn resolution_of(&self, report: &DriftReport, moved_to: Option<&DriftAlertKey>) -> String {
        let DriftReport { since, check, .. } = report;
        let checks = self.settings.alarm_rules.recovery_checks;
        match (check.is_enough, check.scored, moved_to) {
            (true, _, Some(alert)) => {
                format!("what remains of it follows from other features: see the alert {alert}")
            }
            (true, _, None) => format!("it was not found in the last {checks} checks"),
            (false, 0, _) => format!("no data since {since}"),
            (false, rows, _) => format!("too few rows to judge since {since}: {rows}"),
        }
    }
}

/// Reason for which an alarm of a model that is no longer active ends.
fn other_model(serving: Option<&ModelId>) -> String {
    match serving {
        Some(model) => format!("model {} became active", model.short()),
        None => "no model is active".into(),
    }
}

impl<'f> SourceState<'f> {
    fn of(checked: &SourceCheck, records: Vec<AlarmRecord>, firing: &'f [AlertRow]) -> Self {
        let known = firing.iter().filter_map(|alert| {
            let key = DriftAlertKey::parse(&alert.state.key)?;
            (key.source == checked.source).then_some((key, alert))
        });
        Self { records, known: known.collect() }
    }
}
