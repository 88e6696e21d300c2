//! File descriptors: the process limit, and the number of connections it permits.
//!
//! A process without a free descriptor can open neither a connection to Postgres nor a
//! file. The listeners therefore get fewer connections than descriptors exist.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::AppConfig;

/// Descriptors not for Postgres: outbound connections, files, pipes, and connections being
/// closed.
const OTHER_DESCRIPTORS: usize = 160;
/// Connections outside the shared pools: leases, the listener, all-or-nothing requests,
/// deliveries, critical work, the health check of Postgres, training and previews.
const OTHER_DATABASE_CONNECTIONS: usize = 32;
/// With fewer descriptors the process fails at any limit.
const FEWEST_CONNECTIONS: usize = 16;

/// Raises the soft limit on open files to the hard limit, which needs no privilege. Returns the
/// limit in force, which is the old one if raising failed; `None` if unlimited.
pub(super) fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files could not be raised");
            current
        }
    }
}

/// Connection limit of the API: as configured, or lower if the limit on open files requires
/// it.
pub(super) fn connections_within(limit: Option<u64>, config: &AppConfig) -> usize {
    let configured = config.http.connections.max_connections;
    let Some(limit) = limit else { return configured };
    let database = config.database.max_connections as usize
        + config.ingestion.shards
        + OTHER_DATABASE_CONNECTIONS;
    let reserved = database + config.admin.max_connections + OTHER_DESCRIPTORS;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let left = limit.saturating_sub(reserved).max(FEWEST_CONNECTIONS);
    if left < configured {
        tracing::warn!(
            open_files = limit,
            connections = left,
            configured,
            "http.max_connections lowered: the limit on open files is too low"
        );
    }
    configured.min(left)
}
