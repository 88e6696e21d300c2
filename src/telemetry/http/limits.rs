//! Metrics of limits: the memory budget and refused requests.

use prometheus::{IntGauge, IntGaugeVec, Opts};

use crate::telemetry::LabelledCounters;
use crate::telemetry::labels::RefusingLimit;
use crate::telemetry::registry::MetricRegistry;

/// The memory budget, and the refusals by limit.
#[derive(Debug)]
pub struct LimitMetrics {
    /// Refused requests, lines or training runs, by limit.
    pub refusals: LabelledCounters<RefusingLimit>,
    pub budget: MemoryBudgetGauges,
    /// Bytes reserved for requests.
    pub requests_used_bytes: IntGauge,
    /// Bytes in use by the customer cache.
    pub cache_used_bytes: IntGauge,
}

/// Gauges of the parts of the memory budget, in bytes.
#[derive(Debug)]
pub struct MemoryBudgetGauges {
    pub requests: IntGauge,
    pub customer_cache: IntGauge,
    /// For models, connections and the runtime.
    pub rest: IntGauge,
}

const REQUESTS: &str = "requests";
const CACHE: &str = "customer_cache";
const REST: &str = "rest";

impl LimitMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        let budget = by_part(
            registry,
            "segmentd_memory_budget_bytes",
            "Parts of the memory budget of the process.",
        )?;
        let used = by_part(
            registry,
            "segmentd_memory_budget_used_bytes",
            "Memory that is reserved or in use, by part of the budget.",
        )?;
        Ok(Self {
            refusals: LabelledCounters::new(
                registry,
                "segmentd_limit_refusals_total",
                "Requests, or parts of requests, that a limit refused.",
            )?,
            budget: MemoryBudgetGauges {
                requests: budget.get_metric_with_label_values(&[REQUESTS])?,
                customer_cache: budget.get_metric_with_label_values(&[CACHE])?,
                rest: budget.get_metric_with_label_values(&[REST])?,
            },
            requests_used_bytes: used.get_metric_with_label_values(&[REQUESTS])?,
            cache_used_bytes: used.get_metric_with_label_values(&[CACHE])?,
        })
    }

    /// Shows the planned size of each part.
    pub(crate) fn set_budget(
        &self,
        memory_bytes: usize,
        requests_bytes: usize,
        cache_bytes: usize,
    ) {
        let rest = memory_bytes.saturating_sub(requests_bytes).saturating_sub(cache_bytes);
        self.budget.requests.set(gauge_value(requests_bytes));
        self.budget.customer_cache.set(gauge_value(cache_bytes));
        self.budget.rest.set(gauge_value(rest));
    }
}

fn by_part(registry: &MetricRegistry, name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
    registry.register(IntGaugeVec::new(Opts::new(name, help), &["part"])?)
}

/// Converts a number of bytes to a gauge value.
pub(crate) fn gauge_value(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
