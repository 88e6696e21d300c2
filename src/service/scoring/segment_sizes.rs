//! Periodic counts of the customers in each segment and audience, and the newest back-test, for the
//! metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::audience::AudienceSet;
use crate::domain::id::RunId;
use crate::domain::model::{ModelSegment, NamedSegment};
use crate::domain::train::backtest::BacktestReport;
use crate::service::ServiceError;
use crate::service::error::ErrorChain;
use crate::service::scoring::serving::ServingState;
use crate::store::ReadOnlyDatabase;
use crate::store::audiences;
use crate::store::customers::assignments;
use crate::store::customers::assignments::SegmentCount;
use crate::store::models::runs;
use crate::telemetry::repeated_failures::count_failure;
use crate::telemetry::{SegmentGauges, ServiceMetrics, TrainingFigures};

/// Shortest pause between two counts: the default interval of a scrape.
const SHORTEST_PAUSE: Duration = Duration::from_secs(15);
/// Pause as a multiple of the duration of the last count. A count reads one index entry for
/// each customer: about 0.1 s for a million. So counting takes at most a hundredth of one
/// connection's time, with any number of customers.
const PAUSE_RATIO: u32 = 99;

/// Counts the customers of each segment and audience.
#[derive(Debug)]
pub(crate) struct SegmentSizeMonitor {
    db: ReadOnlyDatabase,
    serving: Arc<ServingState>,
    metrics: Arc<ServiceMetrics>,
}

impl SegmentSizeMonitor {
    pub(crate) fn new(
        db: ReadOnlyDatabase,
        serving: Arc<ServingState>,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        Self { db, serving, metrics }
    }

    /// Counts for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut shown_run = None;
        loop {
            let started = Instant::now();
            if let Err(error) = self.update_backtest(&mut shown_run).await {
                let error = ErrorChain(&error).to_string();
                if let Some(repeated) = count_failure("back-test", &error) {
                    tracing::warn!(error, "reading the newest back-test failed{repeated}");
                }
            }
            if let Err(error) = self.update_metrics().await {
                let error = ErrorChain(&error).to_string();
                if let Some(repeated) = count_failure("segment sizes", &error) {
                    tracing::warn!(
                        error,
                        "counting the customers of segments and audiences failed{repeated}"
                    );
                }
            }
            let pause = started.elapsed().saturating_mul(PAUSE_RATIO);
            tokio::time::sleep(pause.max(SHORTEST_PAUSE)).await;
        }
    }

    /// Shows the back-test of the newest run, unless that is `shown_run`. Every replica reads it
    /// from the database: only one of them has trained.
    async fn update_backtest(&self, shown_run: &mut Option<RunId>) -> Result<(), ServiceError> {
        if let Some(newest) = runs::find_newest_backtest(&self.db, shown_run.as_ref()).await? {
            let report = newest.backtest.map(serde_json::from_value::<BacktestReport>);
            let report = report.transpose().map_err(ServiceError::internal)?;
            self.metrics.backtest.set(report.as_ref());
            *shown_run = Some(newest.run_id);
        }
        Ok(())
    }

    async fn update_metrics(&self) -> Result<(), ServiceError> {
        let deployment = self.serving.snapshot();
        let model = deployment.active.as_ref();
        let counted =
            assignments::count_by_segment(&self.db, model.map(|model| model.id())).await?;
        // A segment without customers is shown as 0.
        let mut gauges: Vec<SegmentGauges> = Vec::new();
        if let Some(model) = model {
            for segment in model.segments() {
                let at_training = training_figures(segment);
                gauges.push(SegmentGauges { at_training, ..SegmentGauges::empty(segment.into()) });
            }
            if model.decision_function().has_radius() {
                gauges.push(SegmentGauges::empty(NamedSegment::unassigned()));
            }
        }
        for SegmentCount { segment_id, customers, .. } in counted {
            if let Some(known) = gauges.iter_mut().find(|one| *one.segment.id == *segment_id) {
                known.customers = customers;
            } else {
                let segment = NamedSegment::of_rules(&segment_id);
                gauges.push(SegmentGauges { customers, ..SegmentGauges::empty(segment) });
            }
        }
        self.metrics.segments.set(&gauges);
        self.update_audiences(&deployment.audiences).await
    }

    async fn update_audiences(&self, audiences: &AudienceSet) -> Result<(), ServiceError> {
        let counts = match audiences.audiences().len() {
            0 => BTreeMap::new(),
            _ => audiences::count_members(&self.db).await?,
        };
        let sizes: Vec<(String, i64)> = audiences
            .audiences()
            .map(|(id, name)| (name.to_owned(), counts.get(&id).copied().unwrap_or(0)))
            .collect();
        self.metrics.audiences.set_sizes(&sizes);
        let faulty = i64::try_from(audiences.faults().count()).unwrap_or(i64::MAX);
        self.metrics.audiences.faulty.set(faulty);
        Ok(())
    }
}

fn training_figures(segment: &ModelSegment) -> TrainingFigures {
    let value = segment.value.as_ref();
    TrainingFigures {
        revenue_share: segment.revenue.as_ref().map(|revenue| revenue.share.value),
        churn_probability: value.map(|value| value.churn_probability.value),
        predicted_spend: value.map(|value| value.spend.value),
        value_at_risk: value.map(|value| value.value_at_risk.value),
    }
}
