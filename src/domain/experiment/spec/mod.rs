//! Experiments in the service: stored definitions, participation of customers, exposures.
//!
//! - `metric`: outcomes, measured from stored events.
//! - `running`: the started experiments, compiled to answer which variations a customer is in.
//! - `exposure`: the event by which an application reports an exposure.

pub mod exposure;
pub mod metric;
pub mod running;

use serde::{Deserialize, Serialize};

use crate::domain::experiment::bucketing::{HashVersion, Namespace};
use crate::domain::experiment::variation_assignment::{
    Allocation, DefinitionFault, ExperimentDefinition, Holdout, RangeOwner, VariationAssigner,
};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::text::{NUL_PROBLEM, check_name, is_storable};

pub use exposure::{EXPOSURE_EVENT, ExposureReport};
pub use metric::{MetricKind, MetricSource, OutcomeMetric};
pub use running::{
    CustomerContext, ExperimentPeriod, ExperimentSet, Participation, ParticipationRole,
    SeenVariation, StartedExperiment,
};

/// Maximum length of the key of an experiment or of a variation.
pub const MAX_KEY_BYTES: usize = 64;
/// Maximum number of variations of an experiment.
pub const MAX_VARIATIONS: usize = 20;
/// Maximum number of metrics of an experiment.
pub const MAX_METRICS: usize = 10;
/// Maximum number of segments that a target names.
pub const MAX_TARGET_SEGMENTS: usize = 100;
/// Maximum number of days before and after an exposure.
pub const MAX_DAYS: u32 = 365;

/// Life cycle of an experiment. A stopped one does not start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExperimentStatus {
    /// Assigns no customer; everything can be changed.
    Draft,
    /// Assigns customers and records exposures.
    Running,
    /// Assigns no customer. Outcomes of earlier exposures are still counted.
    Stopped,
}

impl ExperimentStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Draft, Self::Running, Self::Stopped].into_iter().find(|one| one.as_str() == text)
    }
}

/// Definition of an experiment in the service, apart from its texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentSpec {
    /// Control first.
    pub variations: Vec<Variation>,
    /// Share of the targeted customers that take part, from 0 to 1.
    pub coverage: f64,
    /// Seed of the hash; the key of the experiment if `None`.
    pub hash_seed: Option<Box<str>>,
    pub hash_version: HashVersion,
    pub namespace: Option<Namespace>,
    pub holdout: Option<Holdout>,
    pub target: ExperimentTarget,
    /// The first one decides; the others explain.
    pub metrics: Vec<OutcomeMetric>,
    /// Days after the exposure in which outcomes count.
    pub outcome_days: u32,
    /// Days before the exposure whose outcomes are the covariate of CUPED; 0: none.
    pub pre_exposure_days: u32,
    /// Customers of two compared variations at which a decision is planned: tunes always-valid
    /// intervals.
    pub planned_customers: Option<u32>,
}

/// One treatment of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variation {
    pub key: Box<str>,
    /// Share of the participants, from 0 to 1.
    pub weight: f64,
}

/// The customers that an experiment is for. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExperimentTarget {
    /// Name of an audience.
    pub audience: Option<Box<str>>,
    /// Ids of segments, any of them.
    pub segments: Vec<Box<str>>,
}

impl ExperimentSpec {
    /// The part of the definition that decides about the assignment.
    pub fn assignment(&self, key: &str) -> ExperimentDefinition {
        ExperimentDefinition {
            key: key.into(),
            hash_seed: self.hash_seed.clone(),
            hash_version: self.hash_version,
            allocation: Allocation::Weights {
                weights: self.variations.iter().map(|variation| variation.weight).collect(),
                coverage: self.coverage,
            },
            namespace: self.namespace.clone(),
            holdout: self.holdout.clone(),
        }
    }

    /// Index of a variation; `None` for an unknown key.
    pub fn find_variation(&self, key: &str) -> Option<usize> {
        self.variations.iter().position(|variation| *variation.key == *key)
    }

    /// Checks everything that needs neither features nor other definitions. Returns every fault, with
    /// its path in the definition.
    pub fn find_faults(&self, key: &str) -> ValidationFaults {
        let mut faults = ValidationFaults::default();
        if let Err(found) = VariationAssigner::new(&self.assignment(key)) {
            faults.0.extend(found.iter().map(at_field));
        }
        self.find_variation_faults(&mut faults);
        self.find_seed_faults(&mut faults);
        metric::find_faults(&self.metrics, &mut faults);
        if !(1..=MAX_DAYS).contains(&self.outcome_days) {
            let problem = format!("must be 1 to {MAX_DAYS}; it is {}", self.outcome_days);
            faults.push(ValidationFault::new("outcome_days", problem));
        }
        if self.pre_exposure_days > MAX_DAYS {
            let problem = format!("must be 0 to {MAX_DAYS}; it is {}", self.pre_exposure_days);
            faults.push(ValidationFault::new("pre_exposure_days", problem));
        }
        if self.planned_customers == Some(0) {
            faults.push(ValidationFault::new("planned_customers", "must be above 0"));
        }
        if self.target.segments.len() > MAX_TARGET_SEGMENTS {
            let problem = format!(
                "must have at most {MAX_TARGET_SEGMENTS} segments; it has {}",
                self.target.segments.len()
            );
            faults.push(ValidationFault::new("target.segments", problem));
        }
        faults
    }

    fn find_variation_faults(&self, faults: &mut ValidationFaults) {
        if self.variations.len() > MAX_VARIATIONS {
            let problem = format!(
                "must have at most {MAX_VARIATIONS} variations; it has {}",
                self.variations.len()
            );
            faults.push(ValidationFault::new("variations", problem));
        }
        for (index, variation) in self.variations.iter().enumerate() {
            let path = format!("variations[{index}].key");
            if !is_key(&variation.key) {
                let problem = format!(
                    "must match [A-Za-z0-9][A-Za-z0-9._-]* and have at most {MAX_KEY_BYTES} \
                     characters; it is `{}`",
                    variation.key
                );
                faults.push(ValidationFault::new(path, problem));
            } else if self.find_variation(&variation.key) != Some(index) {
                let problem = format!("must be unique; `{}` is used twice", variation.key);
                faults.push(ValidationFault::new(path, problem));
            }
        }
    }

    /// Checks the texts that are hashed.
    fn find_seed_faults(&self, faults: &mut ValidationFaults) {
        let seed = self.hash_seed.as_deref().filter(|seed| !is_storable(seed));
        if seed.is_some() {
            faults.push(ValidationFault::new("hash_seed", NUL_PROBLEM));
        }
        let namespace = self.namespace.as_ref().map(|one| ("namespace.name", &one.name));
        let holdout = self.holdout.as_ref().map(|one| ("holdout.hash_seed", &one.hash_seed));
        for (path, text) in namespace.into_iter().chain(holdout) {
            faults.0.extend(check_name(path, text).err());
        }
    }

    /// The first field that decides about the assignment and differs from `before`. It may not change
    /// while the experiment runs, except that the coverage may grow.
    pub fn changed_assignment(&self, before: &Self) -> Option<&'static str> {
        let fields = [
            ("variations", self.variations != before.variations),
            ("coverage", self.coverage < before.coverage),
            ("hash_seed", self.hash_seed != before.hash_seed),
            ("hash_version", self.hash_version != before.hash_version),
            ("namespace", self.namespace != before.namespace),
            ("holdout", self.holdout != before.holdout),
            ("target", self.target != before.target),
        ];
        fields.into_iter().find(|(_, is_changed)| *is_changed).map(|(field, _)| field)
    }
}

/// Checks the key of an experiment.
pub fn check_key(key: &str) -> Result<(), ValidationFault> {
    if is_key(key) {
        return Ok(());
    }
    let problem = format!(
        "must match [A-Za-z0-9][A-Za-z0-9._-]* and have at most {MAX_KEY_BYTES} characters"
    );
    Err(ValidationFault::new("key", problem))
}

/// Whether a path and an event can name an experiment or a variation by this text.
fn is_key(text: &str) -> bool {
    text.len() <= MAX_KEY_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A fault of the assignment, at the field of the definition.
fn at_field(fault: &DefinitionFault) -> ValidationFault {
    let path = match fault {
        DefinitionFault::Weight { variation, .. } => format!("variations[{variation}].weight"),
        DefinitionFault::FewVariations { .. }
        | DefinitionFault::WeightSum { .. }
        | DefinitionFault::OverlappingRanges { .. }
        | DefinitionFault::Range { owner: RangeOwner::Variation(_), .. } => "variations".to_owned(),
        DefinitionFault::Coverage { .. } => "coverage".to_owned(),
        DefinitionFault::Range { owner: RangeOwner::Namespace, .. } => "namespace.range".to_owned(),
        DefinitionFault::HoldoutShare { .. } => "holdout.share".to_owned(),
        DefinitionFault::SharedHoldoutSeed => "holdout.hash_seed".to_owned(),
    };
    ValidationFault::new(path, fault.to_string())
}
