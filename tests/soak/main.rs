//! Soak tests: `make soak`; `ONLY=kills` for one scenario.
//!
//! Each runs the release binary as a process with a private Postgres, misuses it for a
//! bounded time from another process or address, and fails when a promise of the
//! service is broken. Traffic stays on the loopback interface.
//!
//! | scenario | misuse | bound |
//! |---|---|---|
//! | `siege` | floods, half-sent bodies, bombs, stalled streams, all together | `SOAK_SECONDS`, 60 |
//! | `kills` | `kill -9` of service, postmaster and backends, at random | `SOAK_KILLS`, 1000 |
//! | `disk` | the disk is full, and has room again | 3 times |
//! | `storm` | 60 alert channels: 20 good, 20 failing, 20 hanging | `SOAK_SECONDS`, 60 |
//! | `conflicts` | resends with and without changes through three replicas | `SOAK_RESENDS`, 1,000,000 |
//! | `fuzz` | mutated bodies for every endpoint that reads one | `SOAK_BODIES`, 1,000,000 |
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a soak test reports, and may fail")]

mod attack;
mod caller;
mod conflicts;
mod disk;
mod fuzz;
mod kills;
mod service;
mod siege;
mod storm;

use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == attack::ARGUMENT) {
        return attack::main(&arguments[1..]);
    }
    // Cargo adds `--bench`.
    let only = arguments.iter().find(|argument| !argument.starts_with("--"));
    let scenarios: [(&str, fn()); 6] = [
        ("siege", siege::run),
        ("kills", kills::run),
        ("disk", disk::run),
        ("storm", storm::run),
        ("conflicts", conflicts::run),
        ("fuzz", fuzz::run),
    ];
    for (name, run) in scenarios {
        if only.is_none_or(|only| only == name) {
            println!("== {name}");
            run();
        }
    }
}

/// A bound from the environment, or its default.
#[expect(clippy::disallowed_methods, reason = "bounds of a soak test, not settings of the program")]
fn bound(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn soak_seconds() -> Duration {
    Duration::from_secs(bound("SOAK_SECONDS", 60))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The value below which `percent` of the sorted values lie; zero of none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}
