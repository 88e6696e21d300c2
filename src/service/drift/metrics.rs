//! Drift metrics: findings, PSI (population stability index) by feature, and the model's
//! service-level objectives.

use std::sync::Arc;

use crate::domain::drift::{ComparedQuantity, DriftCheck, DriftFinding, ScoreSource};
use crate::service::ServiceError;
use crate::service::drift::{DriftPeriod, DriftQuery, DriftReport, DriftService};
use crate::telemetry::labels::ObjectiveName;

impl DriftService {
    /// Updates the drift metrics.
    pub async fn update_metrics(&self) -> Result<(), ServiceError> {
        let (shown, now) = (&self.metrics.drift, self.clock.now());
        let deployment = self.serving.snapshot();
        if deployment.active.is_none() {
            for source in ScoreSource::ALL {
                shown.set_source_findings(source, 0);
                shown.set_source_rows(source, 0, 0.0);
                shown.set_detector_state(source, None, now);
            }
            deployment
                .features
                .features()
                .iter()
                .for_each(|def| shown.set_feature_psi(&def.name, None));
            shown.set_churn_ratio(None);
            return Ok(());
        }
        for source in ScoreSource::ALL {
            let ask = DriftQuery {
                model: None,
                source: Some(source),
                period: DriftPeriod::ConfiguredHours,
            };
            let DriftReport { check, detectors: stream, since, .. } = self.report(&ask).await?;
            let findings = check.findings.iter().filter(|one| concerns_model(one)).count();
            shown.set_source_findings(source, findings);
            let sample_size = check.dependence.segments.effective_sample_size(check.scored);
            shown.set_source_rows(source, check.scored, sample_size);
            shown.set_detector_state(source, stream.as_ref(), since);
            if source == ScoreSource::Rows {
                self.record_objectives(&check);
                self.update_psi(&check);
            }
        }
        self.update_churn().await
    }

    /// Updates the PSI (population stability index) gauges from requested rows: their content
    /// is what an operator can correct.
    fn update_psi(&self, check: &DriftCheck) {
        let (features, shown) = (Arc::clone(&self.serving.current().features), &self.metrics.drift);
        for def in features.features() {
            let checked = check.features.iter().find(|one| one.feature == def.name);
            shown.set_feature_psi(&def.name, checked.and_then(|one| one.psi).map(|psi| psi.value));
        }
    }

    /// Records the model's service-level objectives; no judgement below the minimum number of
    /// rows.
    fn record_objectives(&self, check: &DriftCheck) {
        if !check.is_enough {
            return;
        }
        let (now, objectives) = (self.clock.now(), &self.metrics.objectives);
        let is_calibrated =
            has_no_finding(check, &[ComparedQuantity::Outliers, ComparedQuantity::PValues]);
        objectives.record_minute(ObjectiveName::Calibration, now, is_calibrated);
        let is_stable =
            has_no_finding(check, &[ComparedQuantity::Segments, ComparedQuantity::Distances]);
        objectives.record_minute(ObjectiveName::Stability, now, is_stable);
    }
}

/// Whether the finding concerns the model. A finding contradicted by the other API keys does
/// not.
fn concerns_model(finding: &DriftFinding) -> bool {
    finding.decisive_key.as_ref().is_none_or(|key| !key.is_contradicted)
}

/// Whether no finding about the model is of one of these kinds.
fn has_no_finding(check: &DriftCheck, kinds: &[ComparedQuantity]) -> bool {
    let mut findings = check.findings.iter().filter(|finding| concerns_model(finding));
    findings.all(|finding| !kinds.contains(&finding.about))
}
