//! Every customer's features at one instant: what a model is trained on.

use std::pin::pin;

use futures_util::TryStreamExt;

use crate::domain::feature::{CustomerState, FeatureRow, FeatureSet};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::rebuild;
use crate::store::rebuild::Snapshot;
use crate::store::{ReadDb, customers};

/// Rows in order of customer id, so that a run depends on the data alone.
pub(super) async fn take(
    db: &ReadDb,
    features: &FeatureSet,
    as_of: Timestamp,
) -> Result<Vec<FeatureRow>, ServiceError> {
    let mut rows = Vec::new();
    let mut stream = pin!(customers::stream(db));
    while let Some(stored) = stream.try_next().await? {
        let state = if let Ok(state) = CustomerState::from_bytes(features, &stored.state) {
            state
        } else {
            rebuild::state(&mut Snapshot::open(db).await?, features, &stored.customer).await?
        };
        rows.push(state.row(features, as_of));
    }
    Ok(rows)
}
