//! Metrics of event ingestion.

use prometheus::{Histogram, IntCounter, IntGauge};

use crate::telemetry::LabelledCounters;
use crate::telemetry::labels::{
    AssignmentEffect, CommitPath, CustomerLookup, EventOutcome, ExposureOutcome,
    FailedEventOutcome, LinkOutcomeLabel, RejectedField,
};
use crate::telemetry::registry::MetricRegistry;

/// Steps of 1, 2 and 5 up to the largest default batch, to show whether batches are full.
const BATCH_EVENTS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
/// From 0.5 ms for a commit to a fast disk, to seconds for one to a faulty disk.
const COMMIT_SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Ingested events, and their effects on customers.
#[derive(Debug)]
pub struct IngestionMetrics {
    pub events: LabelledCounters<EventOutcome>,
    /// Rejected events, by the first invalid field.
    pub rejected: LabelledCounters<RejectedField>,
    /// Parts of accepted events that were left out, by field.
    pub warnings: LabelledCounters<RejectedField>,
    /// Anonymous ids that logged in too many people.
    pub shared_ids: IntCounter,
    pub failed_events: LabelledCounters<FailedEventOutcome>,
    /// Reported exposures to experiments.
    pub exposures: LabelledCounters<ExposureOutcome>,
    pub commits: LabelledCounters<CommitPath>,
    /// Customers of commits without locks.
    pub customer_lookups: LabelledCounters<CustomerLookup>,
    /// Memory of the customer cache.
    pub cache_bytes: IntGauge,
    /// Events per batch.
    pub batch_events: Histogram,
    /// Duration of committing one batch, in seconds, from its start until it is on disk:
    /// reads, scoring and repeated attempts included; failed batches not counted.
    pub commit_seconds: Histogram,
    /// Events refused because the queue was full.
    pub refused_events: IntCounter,
    /// Events in the queue for a customer that is locked by another session.
    pub deferred_events: IntGauge,
    pub links: LabelledCounters<LinkOutcomeLabel>,
    pub assignments: LabelledCounters<AssignmentEffect>,
    /// Assignments flagged as outliers.
    pub outliers: IntCounter,
}

impl IngestionMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            events: LabelledCounters::new(registry, "segmentd_events_total", "Received events.")?,
            rejected: LabelledCounters::new(
                registry,
                "segmentd_events_rejected_total",
                "Rejected events, by the first invalid field.",
            )?,
            warnings: LabelledCounters::new(
                registry,
                "segmentd_event_warnings_total",
                "Parts of accepted events that were left out, by field.",
            )?,
            shared_ids: super::counter(
                registry,
                "segmentd_identity_shared_ids_total",
                "Anonymous ids that logged in more people than ingestion.max_people_per_device.",
            )?,
            failed_events: LabelledCounters::new(
                registry,
                "segmentd_failed_events_total",
                "Rejected events, by whether they were stored, not stored, or replayed.",
            )?,
            exposures: LabelledCounters::new(
                registry,
                "segmentd_experiment_exposures_total",
                "Reported exposures to experiments: first of a customer, repeated, or refused.",
            )?,
            commits: LabelledCounters::new(
                registry,
                "segmentd_ingestion_commits_total",
                "Ingestion transactions, by commit path: lock-free, with locks, or merging identities.",
            )?,
            customer_lookups: LabelledCounters::new(
                registry,
                "segmentd_ingestion_customer_lookups_total",
                "Customers in lock-free commits, by source: precomputed from the cache, cached, \
                 stale in the cache, or read from the database.",
            )?,
            cache_bytes: super::gauge(
                registry,
                "segmentd_ingestion_cache_bytes",
                "Memory in use by the customer cache.",
            )?,
            batch_events: super::histogram(
                registry,
                "segmentd_ingestion_batch_events",
                "Events per batch.",
                &BATCH_EVENTS,
            )?,
            commit_seconds: super::histogram(
                registry,
                "segmentd_ingestion_commit_duration_seconds",
                "Duration of committing one batch of events, until it is on disk, repeated attempts included.",
                &COMMIT_SECONDS,
            )?,
            refused_events: super::counter(
                registry,
                "segmentd_ingestion_refused_events_total",
                "Events refused because the commit queue was full.",
            )?,
            deferred_events: super::gauge(
                registry,
                "segmentd_ingestion_deferred_events",
                "Events in the queue for a customer that is locked by another session.",
            )?,
            links: LabelledCounters::new(
                registry,
                "segmentd_identity_links_total",
                "New links between two ids, by outcome.",
            )?,
            assignments: LabelledCounters::new(
                registry,
                "segmentd_assignments_total",
                "Assignments of customers to segments: first, moved to another segment, kept, or retained by \
                 hysteresis although another segment is nearer.",
            )?,
            outliers: super::counter(
                registry,
                "segmentd_outliers_total",
                "Assignments flagged as outliers.",
            )?,
        })
    }
}
