//! Influence of single API keys on drift evidence: checks with each key left out, and a random
//! sample of stored customers, which no caller chooses. No single caller can decide a check.

use crate::domain::deployment::probation::{MINIMUM_STORED_CUSTOMERS, SegmentAgreement};
use crate::domain::drift;
use crate::domain::drift::{
    ApiKeyChecks, ApiKeyShare, ComparedQuantity, DecisiveKey, DriftCheck, DriftLimits, NO_KEY,
    ScoreSource, check_by_key, lasting_change_finding,
};
use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::service::ServiceError;
use crate::service::drift::{DriftQuery, DriftReport, DriftService, MIN_HOURS_BY_KEY, sampling};
use crate::service::models::gate_evidence;
use crate::store::customers::rebuild::StateSnapshot;

/// Customers in a sample: their share of outliers has a standard error below half a percentage
/// point.
const SAMPLE_SIZE: i64 = 2000;
/// Largest keys for which the detectors are replayed without the key's rows.
const MAX_REPLAYS: usize = 3;

/// Stored customers drawn at random and scored in their present state.
#[derive(Debug)]
pub struct CustomerSample {
    pub now: DriftCheck,
    /// The same customers, scored by the previous model.
    pub before: Option<DriftCheck>,
    /// Agreement of both models on the segments of these customers.
    pub agreement: Option<SegmentAgreement>,
}

impl DriftService {
    /// Checks the requested hours with each key left out. A key's rows are weighted down to at
    /// most the number of all others together, or to `floor` rows.
    pub(crate) async fn check_by_key(
        &self,
        ask: &DriftQuery,
        floor: u64,
    ) -> Result<ApiKeyChecks, ServiceError> {
        let observed = self.observed(ask).await?;
        self.run_blocking(move |limits| {
            let over_time = observed.over_time(observed.length());
            check_by_key(&observed.model, &observed.by_key()?, over_time, floor, limits)
                .map_err(ServiceError::internal)
        })
        .await
    }

    /// Scores a random sample of stored customers by `model` and by the previous model.
    pub(crate) async fn sample_customers(
        &self,
        model: &ModelId,
        before: Option<&ModelId>,
    ) -> Result<CustomerSample, ServiceError> {
        let deployment = self.serving.snapshot();
        let model = self.model_or_active(Some(model)).await?;
        let before = match before {
            Some(before) => Some(self.model_or_active(Some(before)).await?),
            None => None,
        };
        // States can be read only with the declared feature set: a model of another one has no
        // sample.
        let features = deployment.features.id();
        let before = before.filter(|before| before.feature_set() == features);
        let states = if model.feature_set() == features {
            StateSnapshot::open(self.db.read()).await?.sample_states(SAMPLE_SIZE).await?
        } else {
            Vec::new()
        };
        let now = self.clock.now();
        self.run_blocking(move |limits| {
            let minimum_rows = limits.minimum_rows.min(MINIMUM_STORED_CUSTOMERS);
            // The configured minimum counts scores; a shop may have fewer customers than that.
            let limits = &DriftLimits { minimum_rows, ..*limits };
            let counted = sampling::count_states(&deployment, &model, &states, now);
            let check = check_window(&model, &counted.window, limits)?;
            let Some(before) = before else {
                return Ok(CustomerSample { now: check, before: None, agreement: None });
            };
            let counted = sampling::count_states(&deployment, &before, &states, now);
            let check_before = check_window(&before, &counted.window, limits)?;
            let moved = gate_evidence::relabelled_share(&deployment, &before, &model, &states, now);
            let agreement = moved.map(|moved| SegmentAgreement {
                customers: states.len() as u64,
                share: 1.0 - moved,
            });
            Ok(CustomerSample { now: check, before: Some(check_before), agreement })
        })
        .await
    }

    /// Marks the API key without which the detectors report nothing.
    pub(super) async fn mark_detector_influence(
        &self,
        report: &mut DriftReport,
        model: &Model,
        sources: &[ScoreSource],
    ) -> Result<(), ServiceError> {
        let (since, until) = (report.since, report.until);
        let findings = &mut report.check.findings;
        let Some(finding) = findings.iter_mut().find(|one| one.about == ComparedQuantity::Stream)
        else {
            return Ok(());
        };
        let keys = report.key_shares.iter().filter(|key| *key.key != *NO_KEY).take(MAX_REPLAYS);
        for key in keys {
            let stream = self.replay_detectors(model, sources, &key.key).await?;
            let others = stream.as_ref().filter(|stream| stream.steps > 0);
            if others.and_then(|stream| lasting_change_finding(stream, since, until)).is_none() {
                let is_contradicted = others.is_some() && key.share < 1.0;
                finding.decisive_key =
                    Some(DecisiveKey { key: ApiKeyShare::clone(key), is_contradicted });
                break;
            }
        }
        Ok(())
    }

    /// Hours for which counts are stored by API key.
    pub(super) fn hours_by_key(&self) -> i64 {
        i64::from(self.settings.window_hours.max(MIN_HOURS_BY_KEY))
    }
}

fn check_window(
    model: &Model,
    window: &drift::DriftWindow,
    limits: &DriftLimits,
) -> Result<DriftCheck, ServiceError> {
    drift::check_window(model, window, limits).map_err(ServiceError::internal)
}
