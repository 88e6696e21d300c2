//! Gate evidence: a model's training report, the share of customers that it would assign to
//! another segment now, and its results in shadow.

use std::sync::Arc;

use crate::domain::deployment::lifecycle::{GateEvidence, SegmentCorrespondence};
use crate::domain::feature::CustomerState;
use crate::domain::model::{Model, ScoringScratch, UNASSIGNED};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::scoring::deployment::Deployment;
use crate::store::customers::StoredState;
use crate::store::customers::rebuild::StateSnapshot;
use crate::store::models::shadow::{AnswerPair, PairCount};
use crate::store::models::{ModelRow, shadow};
use crate::store::{ReadOnlyDatabase, models};

/// Customers in a sample: the standard error of the share with a changed segment is about one
/// percentage point.
const SAMPLE_SIZE: i64 = 2000;

/// Gathers the evidence on `model`, described by `row`, against the active model.
pub(crate) async fn gather_evidence(
    db: &ReadOnlyDatabase,
    deployment: &Arc<Deployment>,
    row: &ModelRow,
    model: &Arc<Model>,
    now: Timestamp,
) -> Result<GateEvidence, ServiceError> {
    let mut evidence = GateEvidence::from_report(&row.report, deployment.rules.outlier_alpha);
    let active = deployment.active.as_ref();
    let counts = shadow::list_counts(db, &row.model_id).await?;
    let beside_active =
        counts.iter().filter(|(pair, _)| pair.live.as_ref() == active.map(|a| a.id()));
    evidence.shadow_customers = total_customers(beside_active.clone());
    evidence.shadow_agreement = shadow_agreement(beside_active);
    if let Some(active) = active.filter(|active| active.id() != model.id()) {
        if let Some(row) = models::find(db, active.id()).await? {
            evidence.active_score =
                GateEvidence::from_report(&row.report, deployment.rules.outlier_alpha).score;
        }
        if model.feature_set() == deployment.features.id() {
            let states = StateSnapshot::open(db).await?.sample_states(SAMPLE_SIZE).await?;
            let (deployment, active) = (Arc::clone(deployment), Arc::clone(active));
            let model = Arc::clone(model);
            evidence.relabelled_share = tokio::task::spawn_blocking(move || {
                relabelled_share(&deployment, &active, &model, &states, now)
            })
            .await
            .map_err(ServiceError::internal)?;
        }
    }
    Ok(evidence)
}

/// Total number of customers in these counts.
pub(crate) fn total_customers<'c>(
    counts: impl Iterator<Item = &'c (AnswerPair, PairCount)>,
) -> u64 {
    counts.map(|(_, count)| count.customers.unsigned_abs()).sum()
}

/// Share of the customers with the same segment in both models, among those with comparable
/// segments.
pub(crate) fn shadow_agreement<'c>(
    counts: impl Iterator<Item = &'c (AnswerPair, PairCount)>,
) -> Option<f64> {
    let (mut same, mut comparable) = (0, 0);
    for (pair, count) in counts {
        let Some(is_same) = pair.is_same else { continue };
        comparable += count.customers;
        same += if is_same { count.customers } else { 0 };
    }
    ratio_of_counts(same, comparable)
}

/// Ratio of two counts; `None` if `all` is zero.
#[expect(clippy::cast_precision_loss, reason = "customers are far fewer than 2^53")]
pub(crate) fn ratio_of_counts(part: i64, all: i64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// Share of the stored customers that would change segment if `model` replaced `active`; `None`
/// if no segment of one model continues in the other.
pub(crate) fn relabelled_share(
    deployment: &Deployment,
    active: &Model,
    model: &Model,
    states: &[StoredState],
    now: Timestamp,
) -> Option<f64> {
    let beside = SegmentCorrespondence::new(active, model);
    let mut scratch = ScoringScratch::default();
    let (mut moved, mut comparable) = (0, 0);
    for stored in states {
        let Ok(state) = CustomerState::from_bytes(&deployment.features, &stored.state) else {
            continue;
        };
        let row = state.feature_row(&deployment.features, now);
        let assigned = active.score(&row, &mut scratch).segment();
        let live = assigned.map_or(UNASSIGNED, |index| &active.segments()[index].id);
        let is_same = beside.is_same_segment(live, model.score(&row, &mut scratch).segment())?;
        comparable += 1;
        moved += i64::from(!is_same);
    }
    ratio_of_counts(moved, comparable)
}
