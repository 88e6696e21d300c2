//! Wiring of `segmentd check database`.

use std::sync::Arc;

use anyhow::Context;

use crate::app::parts::CommonParts;
use crate::app::{DatabaseServer, DatabaseUse, connection, features, parts};
use crate::config::AppConfig;
use crate::service::clock::TimeSource;
use crate::service::consistency_check::ConsistencyCheck;
use crate::service::health::database_check;
use crate::service::health::database_check::{DatabaseFinding, ServerRequirements};
use crate::service::scoring::observations::DriftCounters;
use crate::service::stored_properties;
use crate::store::DatabaseHandle;
use crate::store::database::inspect::DatabaseInspection;
use crate::telemetry::ServiceMetrics;

/// Sample size of the comparison between stored states and events.
const SAMPLED_CUSTOMERS: usize = 200;
/// Connections outside the settings: strict requests (2), rejected events (1), leases (3),
/// and the listener (1).
const FIXED_CONNECTIONS: u32 = 2 + 1 + 3 + 1;

/// Checks the configured database without changing it.
pub async fn check_database(config: &AppConfig) -> anyhow::Result<Vec<DatabaseFinding>> {
    let server = DatabaseServer::open(config, DatabaseUse::CommandOnData).await?;
    let findings = check_at(config, &server.url).await;
    server.stop().await?;
    findings
}

async fn check_at(config: &AppConfig, url: &str) -> anyhow::Result<Vec<DatabaseFinding>> {
    let clock = TimeSource::System;
    let mut inspection = DatabaseInspection::open(url, &config.database.time_limits).await?;
    let needs = ServerRequirements { connections: connections(config) };
    let checked = database_check::inspect_database(&mut inspection, &needs, &clock).await?;
    inspection.close().await?;
    let mut findings = checked.findings;
    if checked.is_usable {
        findings.push(compare_states(config, url, &clock).await?);
    }
    Ok(findings)
}

/// Maximum number of connections of this process.
fn connections(config: &AppConfig) -> i64 {
    let shared = config.database.max_connections;
    // The pool of long reads is as large as the read pool: see `DatabaseHandle::connect`.
    let long = (shared / 3).max(2);
    let shards = u32::try_from(config.ingestion.shards).unwrap_or(u32::MAX);
    i64::from(shared) + i64::from(long) + i64::from(shards) + i64::from(FIXED_CONNECTIONS)
}

async fn compare_states(
    config: &AppConfig,
    url: &str,
    clock: &TimeSource,
) -> anyhow::Result<DatabaseFinding> {
    let db = DatabaseHandle::connect(&connection(config, url)).await?;
    let metrics = Arc::new(ServiceMetrics::new(clock.now(), config.objectives).context("metrics")?);
    let drift_counters = Arc::new(DriftCounters::new(false));
    let common = CommonParts { config, db: &db, clock, metrics: &metrics };
    let features = stored_properties::load(&db, features(config)?, clock.now()).await?;
    let serving = parts::serving(&common, Arc::new(features), &drift_counters).await?;
    let interval = config.consistency_check.interval;
    let consistency_check =
        ConsistencyCheck::new(db.read().clone(), serving, interval, SAMPLED_CUSTOMERS, metrics);
    let compared = consistency_check.run_round().await;
    db.close().await;
    Ok(database_check::state_finding(compared?))
}
