//! Experiments in ingestion: records exposures, and answers which variations a customer is in.
//!
//! An exposure is recorded after the commit of its event and before the answer. If that fails, the
//! sender repeats the request: the event is a duplicate then, and its exposure is recorded all the same.

use std::collections::BTreeMap;

use crate::domain::event::CustomerEvent;
use crate::domain::experiment::spec::{CustomerContext, ExposureReport};
use crate::domain::fault::ValidationFault;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::ingestion::{IngestionOutcome, IngestionService};
use crate::service::scoring::deployment::Deployment;
use crate::store::experiments::exposures;
use crate::store::experiments::exposures::NewExposure;
use crate::telemetry::labels::ExposureOutcome;
use crate::telemetry::repeated_failures::count_failure;

/// An exposure with the index of its event among the outcomes of the request.
pub(super) type IndexedExposure = (usize, Box<ExposureReport>);

/// The exposure that an event reports, checked against the started experiments; `None` for an event
/// of another name. A fault is a warning: the event counts, the exposure does not.
pub(super) fn read_exposure(
    deployment: &Deployment,
    event: &CustomerEvent,
) -> Option<Result<Box<ExposureReport>, ValidationFault>> {
    let report = match ExposureReport::from_event(event)? {
        Ok(report) => report,
        Err(fault) => return Some(Err(fault)),
    };
    Some(check_running(deployment, &report).map(|()| Box::new(report)))
}

fn check_running(deployment: &Deployment, report: &ExposureReport) -> Result<(), ValidationFault> {
    let key = &report.experiment;
    let Some(experiment) = deployment.experiments.find(key) else {
        let problem = format!("no experiment `{key}` has started: the exposure is not counted");
        return Err(ValidationFault::new("properties.experiment_id", problem));
    };
    if !experiment.ran_at(report.exposed_at) {
        let problem = format!(
            "the experiment `{key}` did not run at {}: the exposure is not counted",
            report.exposed_at
        );
        return Err(ValidationFault::new("properties.experiment_id", problem));
    }
    if experiment.variations().iter().any(|known| **known == *report.variation) {
        return Ok(());
    }
    let problem = format!(
        "the experiment `{key}` has no variation `{}`, only {}: the exposure is not counted",
        report.variation,
        experiment.variations().join(", ")
    );
    Err(ValidationFault::new("properties.variation_id", problem))
}

/// Exposures of one customer id to one experiment, in one request.
struct MergedExposure<'r> {
    first: &'r ExposureReport,
    saw_several_variations: bool,
}

impl IngestionService {
    /// Records the exposures whose events are counted, now or earlier.
    pub(super) async fn record_exposures(
        &self,
        reports: &[IndexedExposure],
        outcomes: &[IngestionOutcome],
    ) -> Result<(), ServiceError> {
        let counted = reports.iter().filter(|(index, _)| is_counted(outcomes.get(*index)));
        let counted: Vec<&ExposureReport> = counted.map(|(_, report)| &**report).collect();
        if counted.is_empty() {
            return Ok(());
        }
        let deployment = self.core.serving.snapshot();
        let merged = merge_reports(&deployment, &counted);
        let sent: Vec<&str> = merged.keys().map(|(_, customer)| *customer).collect();
        let exposed_at: Vec<Timestamp> =
            merged.values().map(|exposure| exposure.first.exposed_at).collect();
        // Commits together: the exposures of one request, with the segments that are read here.
        let mut tx = self.core.db.begin().await?;
        let customers = exposures::find_customers(&mut tx, &sent, &exposed_at).await?;
        let mut new = Vec::with_capacity(merged.len());
        for (((experiment_id, customer_id), exposure), customer) in merged.iter().zip(&customers) {
            let MergedExposure { first, saw_several_variations } = exposure;
            let experiment = deployment.experiments.find(&first.experiment);
            let Some((experiment, customer)) = experiment.zip(customer.as_ref()) else { continue };
            let segment_id = customer.segment_id.as_deref();
            let audiences = customer.audiences.as_deref().unwrap_or_default();
            new.push(NewExposure {
                experiment_id: *experiment_id,
                customer_id,
                variation: &first.variation,
                exposed_at: first.exposed_at,
                segment_id,
                is_targeted: experiment.is_targeted(segment_id.unwrap_or_default(), audiences),
                is_as_assigned: experiment.assigns(customer.customer.as_str(), &first.variation),
                saw_several_variations: *saw_several_variations,
            });
        }
        let first_ones = exposures::record(&mut tx, &new).await?;
        tx.commit().await?;
        let recorded = &self.core.metrics.ingestion.exposures;
        recorded.add(ExposureOutcome::First, first_ones);
        recorded.add(ExposureOutcome::Repeated, (new.len() as u64).saturating_sub(first_ones));
        Ok(())
    }

    /// Adds to each accepted outcome the experiments that its customer takes part in. If exposures
    /// cannot be read, the answers have none.
    pub(super) async fn add_participations(&self, outcomes: &mut [IngestionOutcome]) {
        let deployment = self.core.serving.snapshot();
        let ids = deployment.experiments.running_ids();
        if ids.is_empty() {
            return;
        }
        let mut customers = Vec::new();
        for outcome in outcomes.iter() {
            if let IngestionOutcome::Accepted { customer, .. } = outcome {
                customers.push(customer.as_str());
            }
        }
        customers.sort_unstable();
        customers.dedup();
        let seen = match exposures::find_seen(self.core.db.read(), &customers, &ids).await {
            Ok(seen) => seen,
            Err(error) => {
                let error = error.to_string();
                if let Some(repeated) = count_failure("experiments of an answer", &error) {
                    tracing::warn!(error, "answers have no experiments{repeated}");
                }
                return;
            }
        };
        for outcome in outcomes {
            let IngestionOutcome::Accepted { customer, answer, experiments, .. } = outcome else {
                continue;
            };
            let context = CustomerContext {
                customer_id: customer.as_str(),
                segment_id: &answer.assignment.segment.id,
                audiences: answer.audiences.ids(),
                seen: seen.get(customer.as_str()).map_or(&[], Vec::as_slice),
            };
            *experiments = Some(deployment.experiments.participations(&context));
        }
    }
}

/// The first exposure of each customer id to each experiment.
fn merge_reports<'r>(
    deployment: &Deployment,
    reports: &[&'r ExposureReport],
) -> BTreeMap<(i32, &'r str), MergedExposure<'r>> {
    let mut merged: BTreeMap<(i32, &str), MergedExposure<'_>> = BTreeMap::new();
    for report in reports {
        let Some(experiment) = deployment.experiments.find(&report.experiment) else { continue };
        merged
            .entry((experiment.id, report.customer.as_str()))
            .and_modify(|known| known.add(report))
            .or_insert(MergedExposure { first: report, saw_several_variations: false });
    }
    merged
}

impl<'r> MergedExposure<'r> {
    fn add(&mut self, report: &'r ExposureReport) {
        self.saw_several_variations |= report.variation != self.first.variation;
        if report.exposed_at < self.first.exposed_at {
            self.first = report;
        }
    }
}

fn is_counted(outcome: Option<&IngestionOutcome>) -> bool {
    matches!(outcome, Some(IngestionOutcome::Accepted { .. } | IngestionOutcome::Duplicate { .. }))
}
