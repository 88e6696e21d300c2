//! segmentd: the architecture.
pub mod domain;

pub mod config;
pub mod telemetry;

pub mod store;

pub mod service;

pub mod api;

pub mod app;

pub mod cli;
