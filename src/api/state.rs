//! What handlers may use.

use std::sync::Arc;

use crate::service::access::Access;
use crate::service::changes::Feed;
use crate::service::export::Exports;
use crate::service::intake::Intake;
use crate::service::live::Live;
use crate::service::registry::Registry;
use crate::service::training::Training;
use crate::store::ReadDb;
use crate::telemetry::Metrics;

/// Handles only, cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(pub Arc<Handles>);

#[derive(Debug)]
pub struct Handles {
    pub access: Access,
    pub live: Arc<Live>,
    pub intake: Intake,
    pub registry: Arc<Registry>,
    pub training: Arc<Training>,
    pub feed: Arc<Feed>,
    pub exports: Exports,
    pub db: ReadDb,
    pub metrics: Arc<Metrics>,
    pub max_rows: usize,
    pub max_body_bytes: usize,
    pub max_line_bytes: usize,
}

impl std::ops::Deref for ApiState {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}
