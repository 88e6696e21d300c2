//! Delivery of notifications under failures and load.

mod crash;
mod load;
