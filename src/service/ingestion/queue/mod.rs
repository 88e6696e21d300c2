//! Queue between requests and commits: scheduler, shard workers, locked customers.

pub(crate) mod locked_customers;
pub(crate) mod scheduler;
pub(crate) mod worker;
