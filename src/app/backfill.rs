//! Wiring of a backfill: database and features, without server and background tasks.

use std::sync::Arc;

use anyhow::Context;

use crate::app::parts::CommonParts;
use crate::app::{DatabaseUse, ManagedDatabase, features, parts};
use crate::config::AppConfig;
use crate::service::backfill::BackfillService;
use crate::service::clock::TimeSource;
use crate::service::scoring::observations::DriftCounters;
use crate::service::stored_properties;
use crate::store::DatabaseHandle;
use crate::telemetry::ServiceMetrics;

/// A backfill with its open database.
#[derive(Debug)]
pub struct BackfillSession {
    database: ManagedDatabase,
    pub work: BackfillService,
}

impl BackfillSession {
    /// Opens the database and the feature set of `config`.
    pub(crate) async fn open(config: &AppConfig) -> anyhow::Result<Self> {
        let features = features(config)?;
        let clock = TimeSource::System;
        let metrics =
            Arc::new(ServiceMetrics::new(clock.now(), config.objectives).context("metrics")?);
        let database = ManagedDatabase::open(config, DatabaseUse::CommandOnData).await?;
        let db = database.db.clone();
        let common = CommonParts { config, db: &db, clock: &clock, metrics: &metrics };
        let clock_check = parts::clock_check(&common).await?;
        if !clock_check.is_clock_right() {
            let seconds = clock_check.skew_millis().unwrap_or_default() / 1000;
            database.close().await?;
            anyhow::bail!(
                "this machine's clock differs from the database's by {seconds} s: states would be \
                 rebuilt for a wrong time"
            );
        }
        // A backfill answers no requests, so drift counts nothing.
        let drift_counters = Arc::new(DriftCounters::new(false));
        let features = stored_properties::load(&db, features, clock.now()).await?;
        let serving = parts::serving(&common, Arc::new(features), &drift_counters).await?;
        let pause_ratio = config.bulk_rescoring.pause_ratio;
        Ok(Self { database, work: BackfillService::new(db, serving, clock, pause_ratio) })
    }

    pub(crate) fn db(&self) -> &DatabaseHandle {
        &self.database.db
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        drop(self.work);
        self.database.close().await
    }
}
