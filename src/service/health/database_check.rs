//! Checks of a database for `segmentd check database`: after a restore or an upgrade, or
//! when an operator suspects a fault.

use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::consistency_check::ConsistencyCounts;
use crate::store::database::inspect::{ChangeFeedEpoch, DatabaseInspection, SchemaVersions};

/// Tolerated difference between the clocks of the machine and of the database.
const CLOCK_TOLERANCE_MILLIS: i64 = 5000;

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFinding {
    pub is_problem: bool,
    /// Check, result, and remedy of a problem.
    pub text: String,
}

/// Requirements of the settings on the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerRequirements {
    pub connections: i64,
}

/// Result of an inspection.
#[derive(Debug)]
pub(crate) struct InspectionReport {
    pub findings: Vec<DatabaseFinding>,
    /// Whether schema and change feed fit this program, so that it can start on the
    /// database.
    pub is_usable: bool,
}

impl DatabaseFinding {
    fn ok(text: impl Into<String>) -> Self {
        Self { is_problem: false, text: text.into() }
    }

    fn problem(text: impl Into<String>) -> Self {
        Self { is_problem: true, text: text.into() }
    }
}

/// Inspects a database without changing it.
pub(crate) async fn inspect_database(
    inspection: &mut DatabaseInspection,
    needs: &ServerRequirements,
    clock: &TimeSource,
) -> Result<InspectionReport, ServiceError> {
    let mut findings = vec![check_schema(inspection.schema_versions().await?)];
    // The other statements only work on the schema they were written for.
    let is_current = findings.iter().all(|finding| !finding.is_problem);
    let mut is_usable = is_current;
    if is_current {
        let epoch = check_epoch(inspection.current_epoch().await?);
        is_usable = !epoch.is_problem;
        findings.push(epoch);
        // Feed positions have no meaning before an epoch has begun.
        if is_usable {
            findings.push(check_positions(inspection).await?);
        }
        findings.push(check_sequences(inspection).await?);
        findings.push(check_partitions(inspection, clock.now()).await?);
    }
    findings.push(check_clocks(inspection, clock).await?);
    findings.push(check_connections(inspection, needs).await?);
    Ok(InspectionReport { findings, is_usable })
}

fn check_schema(versions: SchemaVersions) -> DatabaseFinding {
    let SchemaVersions { stored, needed } = versions;
    match stored {
        Some(stored) if stored == needed => {
            DatabaseFinding::ok(format!("schema: version {stored}"))
        }
        Some(stored) if stored < needed => DatabaseFinding::problem(format!(
            "schema: version {stored}, and this program needs {needed}: run `segmentd migrate`"
        )),
        Some(stored) => DatabaseFinding::problem(format!(
            "schema: version {stored} is of a newer segmentd (this one knows {needed}): \
             run that one"
        )),
        None => DatabaseFinding::problem(
            "schema: there are no tables of segmentd: restore a backup, or run \
             `segmentd migrate` for a new database",
        ),
    }
}

fn check_epoch(epoch: Option<ChangeFeedEpoch>) -> DatabaseFinding {
    match epoch {
        Some(ChangeFeedEpoch { epoch, begun_at, reason, ended: None }) => DatabaseFinding::ok(
            format!("change feed: epoch {epoch}, begun at {begun_at} ({reason})"),
        ),
        Some(ChangeFeedEpoch { ended: Some(reason), .. }) => DatabaseFinding::problem(format!(
            "change feed: {reason}, and no new epoch has begun: run `segmentd migrate`"
        )),
        None => DatabaseFinding::problem("change feed: no epoch has begun: run `segmentd migrate`"),
    }
}

async fn check_positions(
    inspection: &mut DatabaseInspection,
) -> Result<DatabaseFinding, ServiceError> {
    let counts = inspection.count_changes().await?;
    Ok(match counts.unreachable {
        0 => DatabaseFinding::ok(format!("positions: {} changes can be read", counts.changes)),
        unreachable => DatabaseFinding::problem(format!(
            "positions: {unreachable} of {} changes are behind the end of the feed: begin a new \
             epoch with `segmentd postgres -- psql -c \"select begin_change_epoch('by hand')\"`",
            counts.changes
        )),
    })
}

async fn check_sequences(
    inspection: &mut DatabaseInspection,
) -> Result<DatabaseFinding, ServiceError> {
    let behind = inspection.sequences_behind().await?;
    if behind.is_empty() {
        return Ok(DatabaseFinding::ok("sequences: every next number is free"));
    }
    let behind: Vec<String> = behind
        .into_iter()
        .map(|one| {
            let (next, greatest) = (one.next_value, one.greatest_value);
            format!("{} is at {next}, {greatest} is stored", one.sequence)
        })
        .collect();
    Ok(DatabaseFinding::problem(format!(
        "sequences: {}: restore the backup anew, whole, or advance them with `setval`",
        behind.join("; ")
    )))
}

async fn check_partitions(
    inspection: &mut DatabaseInspection,
    now: Timestamp,
) -> Result<DatabaseFinding, ServiceError> {
    let missing = inspection.missing_partitions(now).await?;
    if missing.is_empty() {
        return Ok(DatabaseFinding::ok(
            "partitions: the history has those of this month and the next",
        ));
    }
    // Not a problem: a default partition stores these rows meanwhile.
    Ok(DatabaseFinding::ok(format!(
        "partitions: the history has none of {}; the service makes them when it starts",
        missing.join(" and ")
    )))
}

async fn check_clocks(
    inspection: &mut DatabaseInspection,
    clock: &TimeSource,
) -> Result<DatabaseFinding, ServiceError> {
    let before = clock.now().millis();
    let database = inspection.clock().await?.millis();
    let after = clock.now().millis();
    // The reading lies between `before` and `after`; outside, the clocks certainly
    // differ.
    let difference = if database < before { before - database } else { (database - after).max(0) };
    Ok(if difference <= CLOCK_TOLERANCE_MILLIS {
        DatabaseFinding::ok("clock: the database's clock agrees with this machine's")
    } else {
        DatabaseFinding::problem(format!(
            "clock: the database's clock and this machine's are {} s apart: set both by NTP",
            difference / 1000
        ))
    })
}

async fn check_connections(
    inspection: &mut DatabaseInspection,
    needs: &ServerRequirements,
) -> Result<DatabaseFinding, ServiceError> {
    let server = inspection.connections().await?;
    let free = server.allowed - server.in_use;
    let needed = needs.connections;
    let figures = format!(
        "{} of {} in use; a process of these settings makes up to {needed}",
        server.in_use, server.allowed
    );
    Ok(if free >= needed {
        DatabaseFinding::ok(format!("connections: {figures}"))
    } else {
        DatabaseFinding::problem(format!(
            "connections: {figures}: lower `database.max_connections`, end other sessions, or \
             raise `max_connections` of Postgres"
        ))
    })
}

/// The finding of a comparison of stored states with their events.
pub(crate) fn state_finding(result: ConsistencyCounts) -> DatabaseFinding {
    let ConsistencyCounts { compared, mismatched } = result;
    match mismatched {
        0 => {
            DatabaseFinding::ok(format!("states: {compared} compared with their events, all equal"))
        }
        _ => DatabaseFinding::problem(format!(
            "states: {mismatched} of {compared} differ from their events: run \
             `segmentd backfill --all`"
        )),
    }
}
