//! File descriptors: the process's limit, and how many connections it leaves.
//!
//! A process without a free descriptor can open neither a connection to Postgres nor a
//! file. So listeners together get fewer connections than there are descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Beside connections to Postgres: connections to other people's servers, files, pipes,
/// and connections that are being closed.
const OTHER_DESCRIPTORS: usize = 160;
/// Beside the shared pools: leases, news, requests that are all or none, deliveries,
/// critical work, the check whether Postgres answers, training and previews.
const OTHER_DATABASE_CONNECTIONS: usize = 32;
/// With fewer descriptors the process does not work whatever the limit.
const FEWEST_CONNECTIONS: usize = 16;

/// Raises the soft limit on open files to the hard limit, which needs no privilege, and
/// returns it; `None`: there is no limit.
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

/// Connections that the API may have: as configured, or what the limit on open files
/// leaves.
pub(super) fn connections_within(limit: Option<u64>, config: &Config) -> usize {
    let configured = config.http.connections.max_connections;
    let Some(limit) = limit else { return configured };
    let database = config.database.max_connections as usize
        + config.intake.shards
        + OTHER_DATABASE_CONNECTIONS;
    let kept_back = database + config.admin.max_connections + OTHER_DESCRIPTORS;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let left = limit.saturating_sub(kept_back).max(FEWEST_CONNECTIONS);
    if left < configured {
        tracing::warn!(
            open_files = limit,
            connections = left,
            configured,
            "http.max_connections is lowered: the limit on open files is too small for it"
        );
    }
    configured.min(left)
}
