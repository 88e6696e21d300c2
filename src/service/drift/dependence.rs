//! Dependence of scored rows over time, estimated once an hour for each model and selection of
//! sources: four weeks of counts are too many to read for each report.

use std::sync::Arc;

use crate::domain::drift::{
    DEPENDENCE_HOURS, HourCounts, ScoreSource, TimeDependence, WindowLayout,
};
use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::domain::time::{MILLIS_PER_HOUR, Timestamp};
use crate::service::ServiceError;
use crate::service::drift::{DriftService, HistoryInterval};
use crate::store::TimeRange;
use crate::store::drift::{self as windows, DriftWindowQuery};

/// An estimate and what it is of.
#[derive(Debug)]
pub(super) struct KnownDependence {
    model: ModelId,
    sources: Box<[ScoreSource]>,
    /// The hour in which it was estimated.
    hour: Timestamp,
    dependence: Arc<TimeDependence>,
}

impl DriftService {
    /// The dependence of a model's rows of these sources, estimated in the hour of `now`.
    pub(super) async fn time_dependence(
        &self,
        model: &Model,
        sources: &[ScoreSource],
        now: Timestamp,
    ) -> Result<Arc<TimeDependence>, ServiceError> {
        let hour = HistoryInterval::Hour.start_of(now);
        let is_of = |known: &&KnownDependence| {
            known.hour == hour && known.model == *model.id() && *known.sources == *sources
        };
        if let Some(known) = self.dependences.lock().await.iter().find(is_of) {
            return Ok(Arc::clone(&known.dependence));
        }
        let layout = WindowLayout::of(model);
        let since = hour.plus_millis(-MILLIS_PER_HOUR * i64::from(DEPENDENCE_HOURS));
        let query = DriftWindowQuery {
            model: model.id(),
            sources,
            width: layout.width(),
            period: TimeRange { since, until: now },
        };
        let hours = windows::list_hours(self.db.read(), &query, 0).await?;
        let estimated = tokio::task::spawn_blocking(move || {
            let counts: Vec<HourCounts<'_>> = hours
                .iter()
                .map(|hour| HourCounts { hour: hour.started_at.hour(), window: &hour.window })
                .collect();
            TimeDependence::of(&layout, &counts)
        });
        let estimated = estimated.await.map_err(ServiceError::internal)?;
        let dependence = Arc::new(estimated.map_err(ServiceError::internal)?);
        let mut known = self.dependences.lock().await;
        known.retain(|known| known.hour == hour);
        known.push(KnownDependence {
            model: model.id().clone(),
            sources: sources.into(),
            hour,
            dependence: Arc::clone(&dependence),
        });
        Ok(dependence)
    }
}
