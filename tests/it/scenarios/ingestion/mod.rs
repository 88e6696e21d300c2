//! Ingestion: exactly-once counting, durability, caching, locks, identity links, backfill.

mod commerce;
mod conflicts;
mod consistency_check;
mod crash;
mod customer_cache;
mod durability;
mod exactly_once;
mod feature_backfill;
mod link_chains;
mod precomputed_commits;
mod row_locks;
