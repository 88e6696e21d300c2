//! Settings: read once at the start, checked to the last, typed from then on.
//!
//! `config/default.toml` is the schema and the manual; on it lie a file, the
//! environment and the command line, in that order.
//!
//! *Architecture invariant:* nothing else reads the environment, and no other
//! module has a default.

mod alerts;
mod database;
mod drift;
mod failed;
mod http;
mod intake;
mod layers;
mod life;
mod log;
mod objectives;
mod outbound;
mod output;
mod policy;
mod reader;
mod schedule;
mod scoring;
mod skew;
mod source;
mod sources;
mod training;

use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::assign;
use crate::domain::fault::Faults;
use crate::domain::lifecycle::Thresholds;
use crate::domain::objective::Objectives;
use crate::domain::policy::Policy;

pub use alerts::{Alerts, CheckSources};
pub use database::Database;
pub use drift::Drift;
pub use failed::FailedEvents;
pub use http::{Admin, ConnectionLimits, Http, RequestCapacities};
pub use intake::Intake;
use layers::Layers;
pub use life::Life;
pub use log::{Log, LogFormat};
pub use outbound::{Mail, Outbound};
pub use output::{Changes, Export};
use reader::Reader;
pub use schedule::Schedule;
pub use scoring::{Lineup, Reassign, Recheck, Scoring};
pub use skew::Skew;
pub use source::Environment;
pub use sources::Sources;
pub use training::{Promotion, Training};

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    pub http: Http,
    pub admin: Admin,
    pub database: Database,
    pub features: Features,
    pub intake: Intake,
    pub failed_events: FailedEvents,
    pub scoring: Scoring,
    pub assignment: assign::Policy,
    pub lineup: Lineup,
    pub training: Training,
    pub life: Life,
    pub gates: Thresholds,
    pub reassign: Reassign,
    pub recheck: Recheck,
    pub skew: Skew,
    pub drift: Drift,
    pub sources: Sources,
    pub objectives: Objectives,
    /// With the limits of drift.
    pub policy: Policy,
    /// How often it is looked whether the policy asks for anything.
    pub policy_check: std::time::Duration,
    pub alerts: Alerts,
    pub outbound: Outbound,
    pub history: History,
    pub changes: Changes,
    pub export: Export,
    pub auth: Auth,
    pub log: Log,
}

/// What customers are described by.
#[derive(Debug, Clone)]
pub struct Features {
    /// A feature-set file; `None` for the built-in set.
    pub file: Option<PathBuf>,
}

/// Past changes of segment and model.
#[derive(Debug, Clone)]
pub struct History {
    /// Months that ended earlier are dropped; 0 keeps all.
    pub keep_days: u32,
}

/// API keys.
#[derive(Debug, Clone)]
pub struct Auth {
    /// How often to read the keys again.
    pub refresh: std::time::Duration,
}

impl Config {
    /// Reads the settings of this process: defaults, `file`, the environment,
    /// then `overrides` as `(section.key, value)`.
    pub fn load(file: Option<&Path>, overrides: &[(String, String)]) -> Result<Self, Faults> {
        Self::load_from(file, &Environment::of_process(), overrides)
    }

    /// As [`Config::load`], with a given environment.
    ///
    /// Fails with every fault in every layer; line numbers are those of `file`.
    pub fn load_from(
        file: Option<&Path>,
        environment: &Environment,
        overrides: &[(String, String)],
    ) -> Result<Self, Faults> {
        let mut layers = Layers::defaults();
        if let Some(path) = file {
            match fs::read_to_string(path) {
                Ok(text) => layers.add_file(&text),
                Err(error) => layers.refuse(path.display().to_string(), error.to_string()),
            }
        }
        layers.add_environment(environment);
        layers.add_overrides(overrides);

        let mut reader = Reader::new(layers);
        let config = Self::read(&mut reader);
        config.check_across(&mut reader);
        reader.finish().or(config)
    }

    fn read(reader: &mut Reader) -> Self {
        let scoring = Scoring::read(reader);
        let limits = drift::read_limits(reader, scoring.outlier_alpha);
        Self {
            http: Http::read(reader),
            admin: Admin::read(reader),
            database: Database::read(reader),
            features: Features { file: reader.path("features.file") },
            intake: Intake::read(reader),
            failed_events: FailedEvents::read(reader),
            scoring,
            assignment: scoring::read_policy(reader),
            lineup: Lineup::read(reader),
            training: Training::read(reader),
            life: Life::read(reader),
            gates: life::read_gates(reader),
            reassign: Reassign::read(reader),
            recheck: Recheck::read(reader),
            skew: Skew::read(reader),
            drift: Drift::read(reader),
            sources: Sources::read(reader),
            objectives: objectives::read(reader),
            policy: policy::read(reader, limits),
            policy_check: policy::read_period(reader),
            alerts: Alerts::read(reader),
            outbound: Outbound::read(reader),
            history: History { keep_days: reader.integer("history.keep_days", 0..=36_500) },
            changes: Changes::read(reader),
            export: Export::read(reader),
            auth: Auth { refresh: reader.seconds("auth.refresh_seconds", 1..=3600) },
            log: Log::read(reader),
        }
    }

    /// What no section can check alone.
    fn check_across(&self, reader: &mut Reader) {
        let admin = self.admin.bind;
        if admin == self.http.bind && admin.port() != 0 {
            reader.refuse("admin.bind", "must differ from http.bind: each listens on its own");
        }
        if self.alerts.claim <= self.outbound.timeout {
            let problem = "must be more than alerts.timeout_seconds: another replica would send \
                           what one is still sending";
            reader.refuse("alerts.claim_seconds", problem);
        }
        for (path, limit) in [
            ("http.max_line_bytes", self.http.max_line_bytes),
            ("http.max_body_bytes", self.http.max_body_bytes),
        ] {
            if limit < self.intake.max_event_bytes {
                let event = self.intake.max_event_bytes;
                reader.refuse(
                    path,
                    &format!(
                        "is {limit}, too small for one event (intake.max_event_bytes = {event})"
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_manual_is_read_and_every_default_is_valid() {
        let mut reader = Reader::new(Layers::defaults());
        let config = Config::read(&mut reader);
        config.check_across(&mut reader);
        assert_eq!(reader.unread(), [""; 0]);
        assert_eq!(reader.finish(), Faults::default());
    }
}
