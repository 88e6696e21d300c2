//! The real program on port 0, on a database of its own, used as a user would.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod admission;
mod alert_chaos;
mod alert_receivers;
mod alerts;
mod backfill;
mod bad_input;
mod cache;
mod canary;
mod changes;
mod crash;
mod deliveries_pool;
mod drift;
mod durable;
mod export;
mod failed;
mod flow;
mod hold;
mod identity;
#[path = "../pure/identity_oracle.rs"]
mod identity_oracle;
mod inference;
mod lasting;
mod law;
mod life;
mod lineage;
mod mail;
mod main_job;
#[path = "../pure/notices.rs"]
mod notices;
mod openapi;
mod prometheus;
mod outbound;
mod policy;
mod recheck;
mod past;
mod replicas;
mod segment;
mod segment_clients;
mod skew;
mod sources;
mod supervision;
mod support;
mod training;
mod unassigned;
mod waiting;
mod within;
