//! Gate evidence: a model's training report, the share of customers that it would assign to
//! another segment now, and its results in shadow.

use std::sync::Arc;

use crate::domain::deployment::lifecycle::{Beside, Evidence};
use crate::domain::feature::CustomerState;
use crate::domain::model::{Model, Scratch, UNASSIGNED};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::scoring::deployment::Deployment;
use crate::store::customers::StoredState;
use crate::store::customers::rebuild::StateSnapshot;
use crate::store::models::shadow::{Count, Pair};
use crate::store::models::{ModelRow, shadow};
use crate::store::{ReadDb, models};

/// Customers in a sample: the standard error of the share with a changed segment is about one
/// percentage point.
const SAMPLE_SIZE: i64 = 2000;

/// Gathers the evidence on `model`, described by `row`, against the active model.
pub async fn gather(
    db: &ReadDb,
    lineup: &Arc<Deployment>,
    row: &ModelRow,
    model: &Arc<Model>,
    now: Timestamp,
) -> Result<Evidence, ServiceError> {
    let mut evidence = Evidence::from_report(&row.report, lineup.rules.outlier_alpha);
    let active = lineup.active.as_ref();
    let counts = shadow::counts(db, &row.model_id).await?;
    let beside_active =
        counts.iter().filter(|(pair, _)| pair.live.as_ref() == active.map(|a| a.id()));
    evidence.shadow_customers = customers(beside_active.clone());
    evidence.shadow_agreement = agreement(beside_active);
    if let Some(active) = active.filter(|active| active.id() != model.id()) {
        if let Some(row) = models::find(db, active.id()).await? {
            evidence.active_silhouette =
                Evidence::from_report(&row.report, lineup.rules.outlier_alpha).silhouette;
        }
        if model.feature_set() == lineup.features.id() {
            let states = StateSnapshot::open(db).await?.sample_states(SAMPLE_SIZE).await?;
            let (lineup, active) = (Arc::clone(lineup), Arc::clone(active));
            let model = Arc::clone(model);
            evidence.relabelled = tokio::task::spawn_blocking(move || {
                relabelled(&lineup, &active, &model, &states, now)
            })
            .await
            .map_err(ServiceError::internal)?;
        }
    }
    Ok(evidence)
}

/// Total number of customers in these counts.
pub fn customers<'c>(counts: impl Iterator<Item = &'c (Pair, Count)>) -> u64 {
    counts.map(|(_, count)| count.customers.unsigned_abs()).sum()
}

/// Share of the customers with the same segment in both models, among those with comparable
/// segments.
pub fn agreement<'c>(counts: impl Iterator<Item = &'c (Pair, Count)>) -> Option<f64> {
    let (mut same, mut comparable) = (0, 0);
    for (pair, count) in counts {
        let Some(is_same) = pair.is_same else { continue };
        comparable += count.customers;
        same += if is_same { count.customers } else { 0 };
    }
    share(same, comparable)
}

/// Ratio of two counts; `None` if `all` is zero.
#[expect(clippy::cast_precision_loss, reason = "customers are far fewer than 2^53")]
pub fn share(part: i64, all: i64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// Share of the stored customers that would change segment if `model` replaced `active`; `None`
/// if no segment of one model continues in the other.
pub fn relabelled(
    lineup: &Deployment,
    active: &Model,
    model: &Model,
    states: &[StoredState],
    now: Timestamp,
) -> Option<f64> {
    let beside = Beside::new(active, model);
    let mut scratch = Scratch::default();
    let (mut moved, mut comparable) = (0, 0);
    for stored in states {
        let Ok(state) = CustomerState::from_bytes(&lineup.features, &stored.state) else {
            continue;
        };
        let row = state.row(&lineup.features, now);
        let assigned = active.score(&row, &mut scratch).segment();
        let key = assigned.map_or(UNASSIGNED, |index| &active.segments()[index].key);
        let is_same = beside.is_same(key, model.score(&row, &mut scratch).segment())?;
        comparable += 1;
        moved += i64::from(!is_same);
    }
    share(moved, comparable)
}
