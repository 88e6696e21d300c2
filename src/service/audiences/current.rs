//! The audiences in force, loaded with a deployment.

use std::sync::Arc;

use crate::domain::audience::{AudienceDefinition, AudienceSet};
use crate::domain::feature::FeatureSet;
use crate::store::audiences;
use crate::store::audiences::AudienceVersion;
use crate::store::{ReadOnlyDatabase, StoreError};
use crate::telemetry::repeated_failures::count_failure;

/// Loads the audiences and compiles their rules. A rule that the feature set does not support is
/// logged, and its memberships do not change.
pub(crate) async fn load(
    db: &ReadOnlyDatabase,
    version: i64,
    features: &FeatureSet,
) -> Result<Arc<AudienceSet>, StoreError> {
    let in_force = audiences::list_in_force(db).await?;
    let definitions: Vec<AudienceDefinition> = in_force.iter().map(definition).collect();
    let set = AudienceSet::compile(version, &definitions, features);
    for (audience, fault) in set.faults() {
        let fault = fault.to_string();
        if let Some(repeated) = count_failure("rule of an audience", &fault) {
            tracing::warn!(
                audience,
                fault,
                "the rule of an audience cannot be evaluated; its memberships do not change{repeated}"
            );
        }
    }
    Ok(set)
}

/// The definition in a stored version.
pub(crate) fn definition(stored: &AudienceVersion) -> AudienceDefinition {
    AudienceDefinition {
        id: stored.audience_id,
        name: stored.name.as_str().into(),
        expression: stored.expression.clone(),
    }
}
