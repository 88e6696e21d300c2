//! Results of an experiment: exposures with their outcomes, analysed.

use std::collections::HashMap;

use crate::domain::experiment::spec::{
    ExperimentSpec, ExperimentStatus, MetricKind, MetricSource, OutcomeMetric,
};
use crate::domain::experiment::{
    AnalysisSettings, CustomerOutcome, ExperimentSample, ExposedCustomer, OverrideReason,
    ResultsWithheld, SampleRatioReport, SegmentationWorth, SequentialDesign, VariationAssigner,
    VariationResult,
};
use crate::domain::fault::ValidationFaults;
use crate::domain::feature::FeatureSet;
use crate::domain::model::{MINIMUM_REPORTED_CUSTOMERS, UNASSIGNED};
use crate::domain::stats::benjamini_hochberg;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::ServiceError;
use crate::service::experiments::ExperimentService;
use crate::store::experiments::ExperimentVersion;
use crate::store::experiments::outcomes::{
    self, CustomerExposure, CustomerSums, EventSum, SharedExperiment,
};
use crate::store::{audiences, experiments};

/// Customers up to which the worth of the segmentation is computed: some seconds.
const MAX_WORTH_CUSTOMERS: usize = 100_000;
/// Seed of the random splits for the worth of the segmentation: results that are read again are the
/// same.
const WORTH_SEED: u64 = 1;

/// All that the results of an experiment are computed from.
#[derive(Debug)]
pub(crate) struct ExperimentData {
    pub experiment: ExperimentVersion,
    pub read_at: Timestamp,
    /// Planned shares of the variations.
    pub expected_shares: Vec<f64>,
    exposures: Vec<CustomerExposure>,
    /// By metric of the definition.
    outcomes: Vec<MetricOutcomes>,
    context: ExperimentContext,
}

/// Outcomes of one metric, by customer id. Customers without events are left out.
#[derive(Debug)]
struct MetricOutcomes {
    numerator: HashMap<String, CustomerSums>,
    denominator: Option<HashMap<String, CustomerSums>>,
    minus: Option<HashMap<String, CustomerSums>>,
}

/// What else happened during the experiment.
#[derive(Debug)]
struct ExperimentContext {
    /// Earlier versions of the definition since the start, newest first.
    versions: Vec<ExperimentVersion>,
    shared: Vec<SharedExperiment>,
    model_changes: Vec<Timestamp>,
    /// When the rule of the target audience changed.
    rule_changes: Vec<Timestamp>,
    /// Parts of metrics that are not stored any more, in words.
    unstored: Vec<String>,
}

/// Results of an experiment.
#[derive(Debug)]
pub(crate) struct ExperimentResults {
    /// All exposed customers whose results are comparable, without outcomes.
    pub sample: ExperimentSample,
    pub checks: ExposureChecks,
    pub sample_ratio: SampleRatioReport,
    /// Why the results are withheld; `None` if they are not.
    pub withheld: Option<ResultsWithheld>,
    /// Effects by metric; empty if they are withheld.
    pub metrics: Vec<MetricResults>,
    /// Other causes that may explain a difference, in words.
    pub confounders: Vec<String>,
}

/// Numbers of exposed customers that were left out, or that need an explanation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ExposureChecks {
    /// Left out: they saw several variations.
    pub several_variations: u64,
    /// Left out: the definition has no such variation.
    pub unknown_variation: u64,
    /// Included: they saw another variation than the hash assigns.
    pub not_as_assigned: u64,
    /// Included: they were not in the target of the experiment.
    pub not_targeted: u64,
    /// Not in the effects yet: the days in which their outcomes count are not over.
    pub incomplete: u64,
}

/// Effects on one metric.
#[derive(Debug)]
pub(crate) struct MetricResults {
    pub metric: OutcomeMetric,
    /// Value at which outcomes are capped; `None` if they are not.
    pub cap: Option<f64>,
    pub effects: Vec<VariationEffects>,
}

/// Effects of one variation on one metric.
#[derive(Debug)]
pub(crate) struct VariationEffects {
    pub result: VariationResult,
    /// P-value of the difference, adjusted over all metrics and variations (Benjamini and Hochberg
    /// 1995).
    pub adjusted_p_value: f64,
    /// Whether treating by segment is worth it. `None` if it was not asked for, for a ratio, and for
    /// too few customers.
    pub worth: Option<SegmentationWorth>,
}

impl ExperimentService {
    /// Reads everything that the results of an experiment need.
    pub(crate) async fn read_results(&self, key: &str) -> Result<ExperimentData, ServiceError> {
        let db = self.db.read();
        let versions = experiments::list_versions(db, key, None, MAX_VERSIONS).await?;
        let Some(experiment) = versions.first().cloned() else {
            return Err(ServiceError::NotFound(format!("experiment `{key}`")));
        };
        let Some(started_at) = experiment.started_at else {
            return Err(ServiceError::Conflict(
                "the experiment was never started: it has no results".into(),
            ));
        };
        let read_at = self.clock.now();
        let features = self.serving.snapshot().features.clone();
        let assigner = VariationAssigner::new(&experiment.spec.assignment(key));
        let expected_shares = assigner.map(|one| one.expected_shares()).unwrap_or_default();
        let id = experiment.experiment_id;
        let exposures = outcomes::list_exposed(db, id).await?;
        let mut by_metric = Vec::with_capacity(experiment.spec.metrics.len());
        for metric in &experiment.spec.metrics {
            let numerator = self.sum(&experiment, &metric.source, &features).await?;
            let mut others = [None, None];
            for (other, source) in others.iter_mut().zip([&metric.denominator, &metric.minus]) {
                if let Some(source) = source {
                    *other = Some(self.sum(&experiment, source, &features).await?);
                }
            }
            let [denominator, minus] = others;
            by_metric.push(MetricOutcomes { numerator, denominator, minus });
        }
        let until = experiment.stopped_at.unwrap_or(read_at);
        let context = ExperimentContext {
            versions,
            shared: outcomes::list_shared(db, id, experiment.spec.outcome_days).await?,
            rule_changes: self.target_changes(&experiment, started_at).await?,
            unstored: self.unstored_metrics(&experiment.spec),
            model_changes: outcomes::list_model_changes(db, started_at, until).await?,
        };
        let outcomes = by_metric;
        Ok(ExperimentData { experiment, read_at, expected_shares, exposures, outcomes, context })
    }

    /// When the rule of the target audience changed after the start of the experiment.
    async fn target_changes(
        &self,
        experiment: &ExperimentVersion,
        started_at: Timestamp,
    ) -> Result<Vec<Timestamp>, ServiceError> {
        let Some(name) = experiment.spec.target.audience.as_deref() else {
            return Ok(Vec::new());
        };
        let versions = audiences::list_versions(self.db.read(), name, None, MAX_VERSIONS).await?;
        let mut changes = Vec::new();
        for pair in versions.windows(2) {
            let [after, before] = pair else { continue };
            if after.changed_at >= started_at && after.expression != before.expression {
                changes.push(after.changed_at);
            }
        }
        Ok(changes)
    }

    /// Events and properties of the metrics that the present features do not store.
    fn unstored_metrics(&self, spec: &ExperimentSpec) -> Vec<String> {
        let mut faults = ValidationFaults::default();
        self.find_storage_faults(spec, &self.serving.snapshot(), &mut faults);
        faults.0.iter().map(ToString::to_string).collect()
    }

    async fn sum(
        &self,
        experiment: &ExperimentVersion,
        source: &MetricSource,
        features: &FeatureSet,
    ) -> Result<HashMap<String, CustomerSums>, ServiceError> {
        let property = source.property.as_deref();
        let stored = property.and_then(|name| features.stored_number(&source.event, name));
        let sum = EventSum {
            event: &source.event,
            property,
            is_money: stored.is_some_and(|number| number.is_money),
            days_before: experiment.spec.pre_exposure_days,
            days_after: experiment.spec.outcome_days,
        };
        Ok(outcomes::sum_events(self.db.read(), experiment.experiment_id, sum).await?)
    }
}

/// Versions of a definition that are compared.
const MAX_VERSIONS: i64 = 100;

impl ExperimentData {
    /// Analyses the experiment: some seconds for a million customers. `with_worth`: also whether treating
    /// by segment is worth it, for the first metric.
    pub(crate) fn analyse(&self, with_worth: bool) -> ExperimentResults {
        let mut checks = ExposureChecks::default();
        let (sample, rows) = self.exposed_sample(&mut checks);
        let sample_ratio = sample.check_sample_ratio(&self.expected_shares);
        let mut results = ExperimentResults {
            sample,
            checks,
            sample_ratio,
            withheld: None,
            metrics: Vec::new(),
            confounders: self.confounders(),
        };
        for index in 0..self.experiment.spec.metrics.len() {
            match self.analyse_metric(&results, &rows, index, with_worth && index == 0) {
                Ok(found) => results.metrics.push(found),
                Err(withheld) => {
                    results.withheld = Some(withheld);
                    return results;
                }
            }
        }
        adjust_p_values(&mut results.metrics);
        results
    }

    /// The comparable customers with their rows among the exposures.
    fn exposed_sample(&self, checks: &mut ExposureChecks) -> (ExperimentSample, Vec<usize>) {
        let mut sample = ExperimentSample::default();
        for variation in &self.experiment.spec.variations {
            sample.variations.index_of(&variation.key);
        }
        let mut rows = Vec::with_capacity(self.exposures.len());
        for (row, exposure) in self.exposures.iter().enumerate() {
            if exposure.saw_several_variations {
                checks.several_variations += 1;
                continue;
            }
            let Some(variation) = sample.variations.find(&exposure.variation) else {
                checks.unknown_variation += 1;
                continue;
            };
            checks.not_as_assigned += u64::from(!exposure.is_as_assigned);
            checks.not_targeted += u64::from(!exposure.is_targeted);
            checks.incomplete += u64::from(!self.is_complete(exposure));
            let segment = exposure.segment_id.as_deref().unwrap_or(UNASSIGNED);
            let segment = sample.segments.index_of(segment);
            let day = sample.days.index_of(&day_of(exposure.exposed_at));
            let outcome = CustomerOutcome::new(0.0, 0.0);
            sample.customers.push(ExposedCustomer { variation, segment, day, outcome });
            rows.push(row);
        }
        (sample, rows)
    }

    /// The days in which the outcomes of a customer count are over.
    fn is_complete(&self, exposure: &CustomerExposure) -> bool {
        let days = i64::from(self.experiment.spec.outcome_days);
        exposure.exposed_at.plus_millis(days * MILLIS_PER_DAY) <= self.read_at
    }

    fn analyse_metric(
        &self,
        all: &ExperimentResults,
        rows: &[usize],
        index: usize,
        with_worth: bool,
    ) -> Result<MetricResults, ResultsWithheld> {
        let metric = &self.experiment.spec.metrics[index];
        let mut sample = ExperimentSample { customers: Vec::new(), ..all.sample.clone() };
        for (customer, row) in all.sample.customers.iter().zip(rows) {
            let exposure = &self.exposures[*row];
            if self.is_complete(exposure) {
                let outcome = self.outcomes[index].of(metric.kind, &exposure.customer_id);
                sample.customers.push(ExposedCustomer { outcome, ..*customer });
            }
        }
        let cap = metric.cap_quantile.and_then(|quantile| sample.cap_outcomes(quantile));
        let gated = sample.analyse(&self.settings(), all.sample_ratio.clone());
        let found = match self.override_reason() {
            Some(reason) => gated.override_mismatch(reason).results,
            None => gated.read()?.clone(),
        };
        let mut effects = Vec::with_capacity(found.len());
        for result in found.into_iter().filter(is_reportable) {
            let is_evaluated = with_worth
                && metric.kind != MetricKind::Ratio
                && sample.customers.len() <= MAX_WORTH_CUSTOMERS
                && sample.segments.names().len() > 1;
            let worth = if is_evaluated {
                let variation = result.variation;
                let shares = &self.expected_shares;
                sample.evaluate_segmentation(variation, shares, WORTH_SEED).ok().flatten()
            } else {
                None
            };
            let adjusted_p_value = result.overall.best().difference.p_value();
            effects.push(VariationEffects { result, adjusted_p_value, worth });
        }
        Ok(MetricResults { metric: metric.clone(), cap, effects })
    }

    fn override_reason(&self) -> Option<OverrideReason> {
        OverrideReason::new(self.experiment.mismatch_override.as_deref()?).ok()
    }

    fn settings(&self) -> AnalysisSettings {
        let default = SequentialDesign::default();
        let planned = self.experiment.spec.planned_customers.map(f64::from);
        AnalysisSettings {
            sequential: SequentialDesign {
                tuned_customers: planned.unwrap_or(default.tuned_customers),
                ..default
            },
            ..AnalysisSettings::default()
        }
    }

    fn confounders(&self) -> Vec<String> {
        let mut found = Vec::new();
        for shared in self
            .context
            .shared
            .iter()
            .filter(|one| one.customers.unsigned_abs() >= MINIMUM_REPORTED_CUSTOMERS)
        {
            found.push(format!(
                "{} customers were also exposed to the experiment `{}`: its effect may depend on \
                 the variation here. A common namespace makes experiments exclusive.",
                shared.customers, shared.key
            ));
        }
        if !self.context.model_changes.is_empty() {
            let days: Vec<String> =
                self.context.model_changes.iter().map(|at| day_of(*at)).collect();
            found.push(format!(
                "Another model became active during the experiment ({}): segments before and after \
                 that are those of different models.",
                days.join(", ")
            ));
        }
        for at in &self.context.rule_changes {
            found.push(format!(
                "The rule of the target audience was changed on {}: customers exposed before and \
                 after that are of different kinds.",
                day_of(*at)
            ));
        }
        for problem in &self.context.unstored {
            found.push(format!("Present events are not counted, because {problem}"));
        }
        found.extend(self.definition_changes());
        found
    }

    /// Changes of the definition after the start.
    fn definition_changes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pair in self.context.versions.windows(2) {
            let [after, before] = pair else { continue };
            if before.status == ExperimentStatus::Draft {
                break;
            }
            let (spec, old) = (&after.spec, &before.spec);
            let fields = [
                ("metrics", spec.metrics != old.metrics),
                ("outcome_days", spec.outcome_days != old.outcome_days),
                ("pre_exposure_days", spec.pre_exposure_days != old.pre_exposure_days),
                ("planned_customers", spec.planned_customers != old.planned_customers),
                ("coverage", spec.coverage > old.coverage),
            ];
            let fields: Vec<&str> =
                fields.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect();
            if !fields.is_empty() {
                found.push(format!(
                    "The definition was changed on {} after the start ({}): a choice that follows \
                     first results finds effects that are not there.",
                    day_of(after.changed_at),
                    fields.join(", ")
                ));
            }
        }
        found
    }
}

impl MetricOutcomes {
    /// Outcome of one customer; 0 without events.
    fn of(&self, kind: MetricKind, customer_id: &str) -> CustomerOutcome {
        let sums = self.numerator.get(customer_id).copied().unwrap_or_default();
        match (kind, &self.denominator) {
            (MetricKind::Proportion, _) => {
                let happened = if sums.after > 0.0 { 1.0 } else { 0.0 };
                CustomerOutcome::new(happened, sums.before)
            }
            (_, Some(denominator)) => CustomerOutcome {
                metric: sums.after,
                denominator: denominator.get(customer_id).map_or(0.0, |below| below.after),
                covariate: sums.before,
            },
            (_, None) => {
                let minus = self.minus.as_ref().and_then(|minus| minus.get(customer_id));
                let minus = minus.copied().unwrap_or_default();
                CustomerOutcome::new(sums.after - minus.after, sums.before - minus.before)
            }
        }
    }
}

/// Whether both variations have enough customers to report their means: a mean of fewer than
/// [`MINIMUM_REPORTED_CUSTOMERS`] customers discloses single outcomes.
fn is_reportable(result: &VariationResult) -> bool {
    let means = &result.overall.unadjusted.means;
    means.treatment.customers.min(means.control.customers) >= MINIMUM_REPORTED_CUSTOMERS
}

/// The day (UTC), such as `2026-05-03`.
fn day_of(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// Adjusts the p-values over all metrics and variations.
fn adjust_p_values(metrics: &mut [MetricResults]) {
    let effects = metrics.iter().flat_map(|metric| &metric.effects);
    let p_values: Vec<f64> = effects.map(|effect| effect.adjusted_p_value).collect();
    let adjusted = benjamini_hochberg(&p_values);
    let effects = metrics.iter_mut().flat_map(|metric| &mut metric.effects);
    for (effect, adjusted) in effects.zip(adjusted) {
        effect.adjusted_p_value = adjusted;
    }
}
