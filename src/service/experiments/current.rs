//! The started experiments, loaded with a deployment.

use std::sync::Arc;

use crate::domain::audience::AudienceSet;
use crate::domain::experiment::spec::running::TargetAudience;
use crate::domain::experiment::spec::{ExperimentPeriod, ExperimentSet, StartedExperiment};
use crate::store::experiments;
use crate::store::{ReadOnlyDatabase, StoreError};

/// Loads and compiles the started experiments. `version` is the number of the latest change.
pub(crate) async fn load(
    db: &ReadOnlyDatabase,
    version: i64,
    audiences: &AudienceSet,
) -> Result<Arc<ExperimentSet>, StoreError> {
    let in_force = experiments::list_in_force(db).await?;
    let mut started = Vec::new();
    for stored in in_force {
        let Some(started_at) = stored.started_at else { continue };
        let period = ExperimentPeriod { started_at, stopped_at: stored.stopped_at };
        let audience = match stored.spec.target.audience.as_deref() {
            None => TargetAudience::All,
            Some(name) => target_audience(name, audiences),
        };
        let (id, key, spec) = (stored.experiment_id, &stored.key, &stored.spec);
        let compiled = StartedExperiment::new(id, key, spec, audience, period);
        started.push(compiled.map_err(|faults| StoreError::Corrupt {
            what: "experiment",
            why: faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })?);
    }
    Ok(Arc::new(ExperimentSet { version, started }))
}

fn target_audience(name: &str, audiences: &AudienceSet) -> TargetAudience {
    let found = audiences.audiences().find(|(_, known)| *known == name);
    found.map_or(TargetAudience::Deleted, |(id, _)| TargetAudience::Audience(id))
}
