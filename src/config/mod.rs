//! Settings: read once at the start, validated completely, typed from then on.
//!
//! `config/default.toml` is the schema and the manual. A file, the environment and the command
//! line override it, in that order.
//!
//! *Architecture invariant:* nothing else reads the environment, and no other module has a
//! default.

mod alerts;
mod clock;
mod consistency_check;
mod database;
mod drift;
mod http;
mod ingestion;
mod limits;
pub(crate) mod load;
mod log;
pub(crate) mod models;
mod objectives;
mod outbound;
mod output;
mod scoring;

use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::deployment::lifecycle::GateThresholds;
use crate::domain::deployment::policy::AutomationPolicy;
use crate::domain::fault::ValidationFaults;
use crate::domain::hysteresis;
use crate::domain::objective::ObjectiveTargets;
use crate::domain::text::plain_os_error;

pub use alerts::{AlertSettings, DriftCheckSources};
pub use clock::ClockSettings;
pub use consistency_check::ConsistencyCheckSettings;
pub use database::{DatabaseSettings, DatabaseTimeLimits};
pub use drift::DriftSettings;
pub use http::{AdminListenerSettings, ConnectionLimits, HttpSettings, RequestCapacitySettings};
pub use ingestion::failed_events::FailedEventSettings;
pub use ingestion::sources::SourceMonitoringSettings;
pub use ingestion::{IngestionLimitSettings, StoredEventNames};
use limits::RUNTIME_BYTES;
pub use limits::RequestLimitSettings;
pub use load::environment::Environment;
use load::layers::SettingLayers;
use load::reader::SettingsReader;
pub use log::{LogFormat, LogSettings};
pub use models::lifecycle::LifecycleSettings;
pub use models::schedule::CronSchedule;
pub use models::training::{PromotionMode, TrainingSettings};
pub use models::value::SegmentValueSettings;
pub use outbound::{MailSettings, OutboundSettings};
pub use output::{ChangeFeedSettings, ExportLimitSettings};
pub use scoring::{
    BulkRescoringSettings, DeploymentSettings, ScheduledRescoringSettings, ScoringSettings,
};

/// All settings.
#[derive(Debug, Clone)]
pub struct AppConfig {
    pub http: HttpSettings,
    pub admin: AdminListenerSettings,
    pub database: DatabaseSettings,
    pub clock: ClockSettings,
    pub features: FeatureSettings,
    pub ingestion: IngestionLimitSettings,
    pub limits: RequestLimitSettings,
    pub failed_events: FailedEventSettings,
    pub scoring: ScoringSettings,
    pub hysteresis: hysteresis::HysteresisPolicy,
    pub deployment: DeploymentSettings,
    pub training: TrainingSettings,
    pub lifecycle: LifecycleSettings,
    pub gates: GateThresholds,
    pub bulk_rescoring: BulkRescoringSettings,
    pub scheduled_rescoring: ScheduledRescoringSettings,
    pub consistency_check: ConsistencyCheckSettings,
    pub segment_value: SegmentValueSettings,
    pub drift: DriftSettings,
    pub sources: SourceMonitoringSettings,
    pub objectives: ObjectiveTargets,
    /// Includes the thresholds of drift.
    pub policy: AutomationPolicy,
    /// Interval at which the policy is evaluated.
    pub policy_check_interval: std::time::Duration,
    pub alerts: AlertSettings,
    pub outbound: OutboundSettings,
    pub history: HistorySettings,
    pub change_feed: ChangeFeedSettings,
    pub export: ExportLimitSettings,
    pub api_keys: ApiKeySettings,
    pub log: LogSettings,
}

/// The feature set.
#[derive(Debug, Clone)]
pub struct FeatureSettings {
    /// The set that is used without a file.
    pub built_in: BuiltInFeatures,
    /// Path of a features file; `None` for the built-in set.
    pub file: Option<PathBuf>,
}

/// The feature sets of segmentd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltInFeatures {
    /// `config/features.retail.toml`.
    Retail,
    /// `config/features.segment-ecommerce.toml`.
    SegmentEcommerce,
}

/// The history of segment and model changes.
#[derive(Debug, Clone)]
pub struct HistorySettings {
    /// Retention in days, applied to whole months; 0 retains all.
    pub retention_days: u32,
}

/// API keys.
#[derive(Debug, Clone)]
pub struct ApiKeySettings {
    /// Interval at which the keys are read again.
    pub refresh_interval: std::time::Duration,
}

impl AppConfig {
    /// Loads the settings of this process: defaults, `file`, the environment, then `overrides`
    /// as `(section.key, value)`.
    pub fn load(
        file: Option<&Path>,
        overrides: &[(String, String)],
    ) -> Result<Self, ValidationFaults> {
        Self::load_from(file, &Environment::of_process(), overrides)
    }

    /// Loads the settings as [`AppConfig::load`] does, with a given environment.
    ///
    /// The error has every fault in every layer; line numbers are those of `file`.
    pub fn load_from(
        file: Option<&Path>,
        environment: &Environment,
        overrides: &[(String, String)],
    ) -> Result<Self, ValidationFaults> {
        let mut layers = SettingLayers::defaults();
        if let Some(path) = file {
            match fs::read_to_string(path) {
                Ok(text) => layers.add_file(&text),
                Err(error) => {
                    let problem = format!("cannot be read: {}", plain_os_error(&error));
                    layers.refuse(path.display().to_string(), problem);
                }
            }
        }
        layers.add_environment(environment);
        layers.add_overrides(overrides);

        let mut reader = SettingsReader::new(layers);
        let config = Self::read(&mut reader, environment);
        config.check_across(&mut reader);
        reader.finish().into_result(config)
    }

    fn read(reader: &mut SettingsReader, environment: &Environment) -> Self {
        let scoring = ScoringSettings::read(reader);
        let limits = drift::read_limits(reader, scoring.outlier_alpha);
        let gates = models::lifecycle::read_gates(reader);
        Self {
            http: HttpSettings::read(reader),
            admin: AdminListenerSettings::read(reader),
            database: DatabaseSettings::read(reader, environment),
            clock: ClockSettings::read(reader),
            features: FeatureSettings {
                built_in: reader.choice(
                    "features.built_in",
                    [
                        ("retail", BuiltInFeatures::Retail),
                        ("segment-ecommerce", BuiltInFeatures::SegmentEcommerce),
                    ],
                ),
                file: reader.path("features.file"),
            },
            ingestion: IngestionLimitSettings::read(reader),
            limits: RequestLimitSettings::read(reader),
            failed_events: FailedEventSettings::read(reader),
            scoring,
            hysteresis: scoring::read_policy(reader),
            deployment: DeploymentSettings::read(reader),
            training: TrainingSettings::read(reader, gates.smallest_share),
            lifecycle: LifecycleSettings::read(reader),
            gates,
            bulk_rescoring: BulkRescoringSettings::read(reader),
            scheduled_rescoring: ScheduledRescoringSettings::read(reader),
            consistency_check: ConsistencyCheckSettings::read(reader),
            segment_value: SegmentValueSettings::read(reader),
            drift: DriftSettings::read(reader),
            sources: SourceMonitoringSettings::read(reader),
            objectives: objectives::read(reader),
            policy: models::policy::read(reader, limits),
            policy_check_interval: models::policy::read_period(reader),
            alerts: AlertSettings::read(reader),
            outbound: OutboundSettings::read(reader),
            history: HistorySettings {
                retention_days: reader.integer("history.retention_days", 0..=36_500),
            },
            change_feed: ChangeFeedSettings::read(reader),
            export: ExportLimitSettings::read(reader),
            api_keys: ApiKeySettings {
                refresh_interval: reader.seconds("auth.refresh_seconds", 1..=3600),
            },
            log: LogSettings::read(reader),
        }
    }

    /// Validates combinations of settings of several sections.
    fn check_across(&self, reader: &mut SettingsReader) {
        let admin = self.admin.bind;
        if admin == self.http.listen_address && admin.port() != 0 {
            reader.refuse("admin.bind", "must differ from http.bind: the listeners are separate");
        }
        if self.alerts.takeover_after <= self.outbound.timeout {
            let problem = "must be more than alerts.timeout_seconds; otherwise another replica \
                           repeats a delivery that is still in progress";
            reader.refuse("alerts.claim_timeout_seconds", problem);
        }
        self.check_memory(reader);
        for (path, limit) in [
            ("http.max_line_bytes", self.http.max_line_bytes),
            ("http.max_body_bytes", self.http.max_body_bytes),
        ] {
            if limit < self.ingestion.max_event_bytes {
                let event = self.ingestion.max_event_bytes;
                reader.refuse(
                    path,
                    &format!(
                        "is {limit}, too small for one event (ingestion.max_event_bytes = {event})"
                    ),
                );
            }
        }
    }
}

impl AppConfig {
    /// Checks that the parts of the memory budget fit into it, and that the largest request
    /// fits into its part.
    fn check_memory(&self, reader: &mut SettingsReader) {
        let RequestLimitSettings { memory_bytes, buffer_bytes, .. } = self.limits;
        let cache_bytes = self.ingestion.cache_bytes;
        let parts = buffer_bytes.saturating_add(cache_bytes).saturating_add(RUNTIME_BYTES);
        if parts > memory_bytes {
            let problem = format!(
                "is {memory_bytes}, less than its parts: limits.buffer_bytes ({buffer_bytes}), \
                 ingestion.cache_bytes ({cache_bytes}) and {RUNTIME_BYTES} for the runtime"
            );
            reader.refuse("limits.memory_bytes", &problem);
        }
        let largest = (self.http.max_body_bytes.saturating_mul(BUFFER_PER_BODY_BYTE))
            .saturating_add(self.limits.events_per_request.saturating_mul(BUFFER_PER_EVENT));
        if buffer_bytes < largest {
            let problem = format!(
                "is {buffer_bytes}, too small for the largest request: at least {largest}, which \
                 is {BUFFER_PER_BODY_BYTE} times http.max_body_bytes and {BUFFER_PER_EVENT} times \
                 limits.events_per_request"
            );
            reader.refuse("limits.buffer_bytes", &problem);
        }
    }
}

/// Buffer bytes per byte of body, and per event. A request with a single key may take half of
/// the buffers, so these are twice the maximum that `service::limits::memory` reserves.
const BUFFER_PER_BODY_BYTE: usize = 24;
const BUFFER_PER_EVENT: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_manual_is_read_and_every_default_is_valid() {
        let mut reader = SettingsReader::new(SettingLayers::defaults());
        let config = AppConfig::read(&mut reader, &Environment::default());
        config.check_across(&mut reader);
        assert_eq!(reader.unread(), [""; 0]);
        assert_eq!(reader.finish(), ValidationFaults::default());
    }
}
