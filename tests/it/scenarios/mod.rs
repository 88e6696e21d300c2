//! Behaviour that spans routes. Each file is named after what its tests prove.

mod alert_delivery;
mod backtest;
mod backup_restore;
mod cases;
mod clock;
mod commands_beside_service;
mod contract;
mod database_outage;
mod demo;
mod end_to_end;
mod experiments;
mod generated_clients;
mod guides;
mod ingestion;
mod load;
mod monitoring;
mod operation;
mod promotion_under_load;
mod replicas;
mod requests;
mod scheduled_rescoring;
mod schema;
mod segment_value;
mod single_caller_influence;
mod unassigned_customers;
mod value;
