//! Drift monitor: periodic checks that raise and resolve alarms.
//!
//! One replica checks for all. The alarm states, the alerts and the messages about them commit
//! together with the time of the check, so each check counts once, whichever replica is killed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config;

use crate::config::DriftCheckSources;
use crate::domain::alert::{AlertChart, AlertFact, AlertTopic, ChartBar};
use crate::domain::drift::{
    AlarmTransition, ComparedQuantity, DECISIVE_KEY_FACT, DriftAlarm, DriftAlarmRules,
    DriftFinding, ScoreSource, Severity, finding_facts, finding_title, lasting_change_facts,
};
use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::alerts::{AlertService, AnnouncementMode, NewAlert};
use crate::service::clock::TimeSource;
use crate::service::drift::alert_facts::{compared_rows, found_since, worst_facts};
use crate::service::drift::{
    DriftHistory, DriftPeriod, DriftQuery, DriftReport, DriftService, HistoryInterval as Each,
};
use crate::service::scoring::deployment::ServingState;
use crate::store::DatabaseHandle;
use crate::store::alerting::alarms;
use crate::store::alerting::alarms::{AlarmRow, Job};
use crate::store::database::lease::{LeaseGuard, LeaseName};
use crate::telemetry::ServiceMetrics;

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

/// The effect of a check on one alarm.
struct AlarmChange {
    row: AlarmRow,
    action: AlertAction,
}

enum AlertAction {
    Nothing,
    Raise(Box<NewAlert>, AnnouncementMode),
    Resolve(String),
    /// Resolves the alert and deletes the alarm state.
    Forget(String),
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
        let (alarms, outdated): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|row| model.as_ref().is_some_and(|model| row.model == model.as_str()));
        let mut changes: Vec<AlarmChange> =
            outdated.into_iter().map(|row| end_of_other_model(row, model.as_ref())).collect();
        if let Some(model) = &model {
            let mut alarms: BTreeMap<String, AlarmRow> =
                alarms.into_iter().map(|row| (row.key.clone(), row)).collect();
            for source in self.sources() {
                let checked = self.check_source(model, *source).await?;
                if checked.report.check.is_enough {
                    changes.extend(self.source_changes(&checked, &mut alarms, now).await?);
                } else {
                    changes.extend(self.changes_with_too_few_rows(&checked, &alarms, now));
                }
            }
            // Alarms of a source that the settings no longer check.
            for row in alarms.into_values() {
                if !self.sources().iter().any(|source| is_of_source(&row.key, *source)) {
                    let action = AlertAction::Forget("it is no longer checked".into());
                    changes.push(AlarmChange { row, action });
                }
            }
        }
        // One order of alert keys in all transactions prevents deadlocks.
        changes.sort_by(|a, b| a.row.key.cmp(&b.row.key));
        // Checked before the commit, as the lease may have expired during long checks.
        lease.verify().await?;
        self.commit(&changes, last, now).await
    }

    async fn commit(
        &self,
        changes: &[AlarmChange],
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
        for AlarmChange { row, action } in changes {
            match action {
                AlertAction::Nothing => {}
                AlertAction::Raise(found, voice) => {
                    self.alerts.raise_alert(&mut tx, found, *voice).await?;
                }
                AlertAction::Resolve(why) | AlertAction::Forget(why) => {
                    self.alerts.resolve_alert(&mut tx, &row.key, why).await?;
                }
            }
            let is_idle = row.alarm.is_idle(now, &self.settings.alarm_rules);
            if is_idle || matches!(action, AlertAction::Forget(_)) {
                alarms::delete(&mut tx, &row.key).await?;
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

    /// Updates every alarm with a present finding or a remembered state.
    async fn source_changes(
        &self,
        checked: &SourceCheck,
        alarms: &mut BTreeMap<String, AlarmRow>,
        now: Timestamp,
    ) -> Result<Vec<AlarmChange>, ServiceError> {
        let findings = checked.report.check.findings.iter();
        let found: BTreeMap<String, &DriftFinding> =
            findings.map(|finding| (alarm_key(finding, checked.source), finding)).collect();
        for key in found.keys() {
            alarms.entry(key.clone()).or_insert_with(|| AlarmRow {
                key: key.clone(),
                model: checked.report.model.to_string(),
                alarm: DriftAlarm::default(),
            });
        }
        let mut changes = Vec::new();
        for row in alarms.values().filter(|row| is_of_source(&row.key, checked.source)) {
            let finding = found.get(&row.key).copied();
            changes.push(self.alarm_change(row.clone(), checked, finding, now).await?);
        }
        Ok(changes)
    }

    /// With too few rows for a judgement no alarm rises. One that fires ends as if its finding
    /// were gone, or it would fire for as long as nothing comes in.
    fn changes_with_too_few_rows(
        &self,
        checked: &SourceCheck,
        alarms: &BTreeMap<String, AlarmRow>,
        now: Timestamp,
    ) -> Vec<AlarmChange> {
        let DriftReport { since, check, .. } = &checked.report;
        let why = match check.scored {
            0 => format!("no data since {since}"),
            rows => format!("too few rows to judge since {since}: {rows}"),
        };
        let firing = alarms
            .values()
            .filter(|row| is_of_source(&row.key, checked.source) && row.alarm.is_firing());
        let mut changes = Vec::new();
        for row in firing {
            let mut row = row.clone();
            let step = row.alarm.apply_check(None, now, &self.settings.alarm_rules);
            let action = match step {
                AlarmTransition::Resolve => AlertAction::Resolve(why.clone()),
                _ => AlertAction::Nothing,
            };
            changes.push(AlarmChange { row, action });
        }
        changes
    }

    async fn alarm_change(
        &self,
        mut row: AlarmRow,
        checked: &SourceCheck,
        finding: Option<&DriftFinding>,
        now: Timestamp,
    ) -> Result<AlarmChange, ServiceError> {
        let rules = self.settings.alarm_rules;
        // A sequential detector reports once, after many hours of accumulated evidence: no
        // second check has to confirm it.
        let is_sequential =
            finding.is_some_and(|finding| finding.about == ComparedQuantity::Stream);
        let rules = if is_sequential { DriftAlarmRules { findings: 1, ..rules } } else { rules };
        let step = row.alarm.apply_check(finding.map(alert_severity), now, &rules);
        if let Some(finding) = finding {
            row.alarm.record_finding(finding, alert_severity(finding), now);
        }
        let action = match (step, finding) {
            (AlarmTransition::Resolve, _) => {
                let checks = rules.recovery_checks;
                AlertAction::Resolve(format!("it was not found in the last {checks} checks"))
            }
            (AlarmTransition::StayQuiet, _) | (_, None) => AlertAction::Nothing,
            (step, Some(finding)) => {
                let (severity, voice) = match step {
                    AlarmTransition::ReopenSilently(severity) => {
                        (severity, AnnouncementMode::ReopenSilently)
                    }
                    AlarmTransition::ReopenAndNotify(severity)
                    | AlarmTransition::Notify(severity) => {
                        (severity, AnnouncementMode::ReopenAndNotify)
                    }
                    AlarmTransition::Fire(severity) => (severity, AnnouncementMode::Normal),
                    _ => (alert_severity(finding), AnnouncementMode::Normal),
                };
                let found = self.alert_content(&row, checked, finding, severity, now).await?;
                AlertAction::Raise(Box::new(found), voice)
            }
        };
        Ok(AlarmChange { row, action })
    }

    async fn alert_content(
        &self,
        row: &AlarmRow,
        checked: &SourceCheck,
        finding: &DriftFinding,
        severity: Severity,
        now: Timestamp,
    ) -> Result<NewAlert, ServiceError> {
        let (model, source) = (&checked.report.model, checked.source);
        let mut subject = BTreeMap::from([
            ("about".to_owned(), finding.about.name().to_owned()),
            ("source".to_owned(), source.name().to_owned()),
        ]);
        let mut picture = None;
        if let Some(feature) = &finding.feature {
            subject.insert("feature".into(), feature.to_string());
        }
        if let Some(segment) = &finding.segment {
            subject.insert("segment_id".into(), segment.id.to_string());
        }
        // The picture shows all customers, so a finding within one segment has none.
        if let (Some(feature), None) = (&finding.feature, &finding.segment) {
            let period = DriftPeriod::ConfiguredHours;
            let ask = DriftQuery { model: Some(model.clone()), source: Some(source), period };
            picture = Some(self.picture(&ask, feature).await?);
        }
        let report = &checked.report;
        let named_values = match (finding.about, &report.detectors) {
            (ComparedQuantity::Stream, Some(stream)) => lasting_change_facts(stream, report.since),
            _ => finding_facts(&report.check, finding),
        };
        // The severity of an alert is its highest; the description and the figures are the latest.
        let worst = row.alarm.worst().filter(|worst| worst.found_at != now);
        let mut facts: Vec<AlertFact> = worst_facts(worst, alert_severity(finding))
            .into_iter()
            .chain(named_values)
            .map(|(name, value)| AlertFact { name: name.into(), value })
            .collect();
        if let (ComparedQuantity::Stream, Some(decisive_key)) =
            (finding.about, &finding.decisive_key)
        {
            facts
                .push(AlertFact { name: DECISIVE_KEY_FACT.into(), value: decisive_key.describe() });
        }
        if let Some(since) = found_since(&checked.history, finding) {
            facts.push(AlertFact { name: "Found since".into(), value: since.to_string() });
        }
        facts.push(AlertFact { name: "Compared".into(), value: compared_rows(source).into() });
        facts.push(AlertFact { name: "Model".into(), value: model.to_string() });
        Ok(NewAlert {
            key: row.key.clone(),
            topic: AlertTopic::Drift,
            severity,
            owner: finding
                .owner
                .as_deref()
                .filter(|_| !decisive_key_one_key(finding))
                .map(str::to_owned),
            subject,
            title: finding_title(finding),
            description: finding.description.clone(),
            advice: finding.advice.clone(),
            facts,
            picture,
        })
    }

    async fn picture(&self, ask: &DriftQuery, feature: &str) -> Result<AlertChart, ServiceError> {
        let drawn = self.drift.draw_picture(ask, feature).await?;
        let bars: Vec<ChartBar> = drawn.bars;
        Ok(AlertChart { svg: drawn.svg, bars })
    }
}

/// Ends an alarm of a model that is no longer active.
fn end_of_other_model(row: AlarmRow, serving: Option<&ModelId>) -> AlarmChange {
    let why = match serving {
        Some(model) => format!("model {} became active", model.short()),
        None => "no model is active".into(),
    };
    AlarmChange { row, action: AlertAction::Forget(why) }
}

/// Alarm key: one alarm per kind of finding, feature, source and, where it applies, segment.
/// Findings that rest on one API key have a separate alarm.
fn alarm_key(finding: &DriftFinding, source: ScoreSource) -> String {
    let (mut about, source) = (finding.about.name().to_owned(), source.name());
    if decisive_key_one_key(finding) {
        about.push_str(":one_key");
    }
    let feature = finding.feature.as_deref().unwrap_or("-");
    match &finding.segment {
        None => format!("drift:{about}:{feature}:{source}"),
        Some(segment) => format!("drift:{about}:{feature}:{}:{source}", segment.id),
    }
}

/// Whether the finding depends on one API key and the rows of the other keys, though sufficient,
/// contradict it.
fn decisive_key_one_key(finding: &DriftFinding) -> bool {
    finding.decisive_key.as_ref().is_some_and(|decisive_key| decisive_key.is_contradicted)
}

/// Severity of the alert. A finding of one caller among several is no fault of the feature, so
/// only operators are notified, at the lowest severity.
fn alert_severity(finding: &DriftFinding) -> Severity {
    if decisive_key_one_key(finding) { Severity::Notice } else { finding.severity }
}

/// Whether an alarm key belongs to this source.
fn is_of_source(key: &str, source: ScoreSource) -> bool {
    key.rsplit(':').next() == Some(source.name())
}
