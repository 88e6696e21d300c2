//! Events on their way in.

use prometheus::{Histogram, IntCounter, IntGauge, Registry};

use crate::telemetry::Counters;
use crate::telemetry::labels::{Decision, Failed, Known, Link, Outcome, Part, Way};

/// 1-2-5 steps up to the largest default batch: is the batch full or does the
/// load not fill it?
const BATCH_EVENTS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
/// A commit waits for the disk: 0.5 ms on a good one, seconds on a sick one.
const COMMIT_SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Events, and what they did to their customers.
#[derive(Debug)]
pub struct Intake {
    pub events: Counters<Outcome>,
    /// Rejected events, by what was wrong first.
    pub rejected: Counters<Part>,
    pub failed: Counters<Failed>,
    pub commits: Counters<Way>,
    /// Customers of commits without locks.
    pub known: Counters<Known>,
    /// Held of customers that need not be read again.
    pub cache_bytes: IntGauge,
    /// Events per transaction.
    pub batch_events: Histogram,
    /// Time of one transaction, in seconds, until it is on disk.
    pub commit_seconds: Histogram,
    /// Events refused because too many were waiting.
    pub refused: IntCounter,
    /// Events that wait for a customer that another session has locked.
    pub set_aside: IntGauge,
    pub links: Counters<Link>,
    pub assignments: Counters<Decision>,
    /// Assignments flagged as outliers.
    pub outliers: IntCounter,
}

impl Intake {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            events: Counters::new(registry, "segmentd_events_total", "Events received.")?,
            rejected: Counters::new(
                registry,
                "segmentd_events_rejected_total",
                "Events rejected, by the field that was wrong first.",
            )?,
            failed: Counters::new(
                registry,
                "segmentd_failed_events_total",
                "Rejected events: kept for replay, not kept, replayed.",
            )?,
            commits: Counters::new(
                registry,
                "segmentd_intake_commits_total",
                "Transactions of intake: in one statement, with locks, following links.",
            )?,
            known: Counters::new(
                registry,
                "segmentd_intake_customers_total",
                "Customers of commits without locks: folded ahead from the cache, known from it, \
                 known in vain, read.",
            )?,
            cache_bytes: super::gauge(
                registry,
                "segmentd_intake_cache_bytes",
                "Memory taken by customers whose next events need not read them.",
            )?,
            batch_events: super::histogram(
                registry,
                "segmentd_intake_batch_events",
                "Events per transaction.",
                &BATCH_EVENTS,
            )?,
            commit_seconds: super::histogram(
                registry,
                "segmentd_intake_commit_seconds",
                "Time of one intake transaction, until it is on disk.",
                &COMMIT_SECONDS,
            )?,
            refused: super::counter(
                registry,
                "segmentd_intake_refused_events_total",
                "Events refused because too many were waiting for their commit.",
            )?,
            set_aside: super::gauge(
                registry,
                "segmentd_intake_set_aside_events",
                "Events that wait for a customer that another session has locked.",
            )?,
            links: Counters::new(
                registry,
                "segmentd_identity_links_total",
                "Links between two ids: what came of each that was new.",
            )?,
            assignments: Counters::new(
                registry,
                "segmentd_assignments_total",
                "Customers assigned to a segment: for the first time, to another than before, to the same, or held in it although another is nearer.",
            )?,
            outliers: super::counter(
                registry,
                "segmentd_outliers_total",
                "Assignments flagged as outliers.",
            )?,
        })
    }
}
