//! The experiments that have started, compiled with a deployment.

use std::sync::Arc;

use crate::domain::experiment::spec::ExperimentSpec;
use crate::domain::experiment::variation_assignment::{
    DefinitionFault, Exclusion, VariationAssigner,
};
use crate::domain::time::Timestamp;

/// The experiments that have started. Default: none.
#[derive(Debug, Default)]
pub struct ExperimentSet {
    /// Number of the latest change of any experiment; 0 before the first.
    pub version: i64,
    /// By key.
    pub started: Vec<StartedExperiment>,
}

/// An experiment that assigns customers, or has done so.
#[derive(Debug)]
pub struct StartedExperiment {
    /// Unique in the workspace.
    pub id: i32,
    period: ExperimentPeriod,
    key: Arc<str>,
    /// Control first.
    variations: Vec<Arc<str>>,
    assigner: VariationAssigner,
    audience: TargetAudience,
    /// Empty: any segment.
    segments: Vec<Box<str>>,
}

/// The time in which an experiment assigns customers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExperimentPeriod {
    pub started_at: Timestamp,
    /// `None` while it runs.
    pub stopped_at: Option<Timestamp>,
}

impl ExperimentPeriod {
    fn contains(&self, at: Timestamp) -> bool {
        at >= self.started_at && self.stopped_at.is_none_or(|stopped_at| at <= stopped_at)
    }
}

/// The audience that an experiment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetAudience {
    All,
    Audience(i32),
    /// The audience was deleted: no customer is in it.
    Deleted,
}

/// What decides about the participation of a customer.
#[derive(Debug, Clone, Copy)]
pub struct CustomerContext<'a> {
    pub customer_id: &'a str,
    pub segment_id: &'a str,
    /// Ids of audiences.
    pub audiences: &'a [i32],
    /// Variations that the customer was exposed to, one for each experiment.
    pub seen: &'a [SeenVariation],
}

/// A variation that a customer was exposed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenVariation {
    pub experiment_id: i32,
    /// Key of the variation.
    pub variation: String,
}

/// Participation of a customer in one experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participation {
    /// Key of the experiment.
    pub experiment: Arc<str>,
    /// Key of the variation; `None` for a customer of the holdout.
    pub variation: Option<Arc<str>>,
    pub role: ParticipationRole,
    /// An exposure is recorded. The customer keeps this variation while the experiment runs.
    pub is_exposed: bool,
}

/// Role of a customer in an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParticipationRole {
    Control,
    Treatment,
    /// Kept out of this and other experiments, to measure their total effect.
    Holdout,
}

impl ExperimentSet {
    /// The started experiment with this key.
    pub fn find(&self, key: &str) -> Option<&StartedExperiment> {
        let found = self.started.binary_search_by(|one| (*one.key).cmp(key));
        found.ok().map(|index| &self.started[index])
    }

    /// The experiments that assign customers now.
    pub fn running(&self) -> impl Iterator<Item = &StartedExperiment> {
        self.started.iter().filter(|one| one.period.stopped_at.is_none())
    }

    /// Ids of the running experiments.
    pub fn running_ids(&self) -> Vec<i32> {
        self.running().map(|experiment| experiment.id).collect()
    }

    /// Whether a running experiment is for an audience.
    pub fn reads_audiences(&self) -> bool {
        self.running().any(|one| matches!(one.audience, TargetAudience::Audience(_)))
    }

    /// The running experiments that the customer takes part in, by key.
    pub fn participations(&self, customer: &CustomerContext<'_>) -> Vec<Participation> {
        self.running().filter_map(|experiment| experiment.participation(customer)).collect()
    }
}

impl StartedExperiment {
    /// Compiles a definition.
    pub fn new(
        id: i32,
        key: &str,
        spec: &ExperimentSpec,
        audience: TargetAudience,
        period: ExperimentPeriod,
    ) -> Result<Self, Vec<DefinitionFault>> {
        Ok(Self {
            id,
            period,
            key: key.into(),
            variations: spec.variations.iter().map(|one| Arc::from(&*one.key)).collect(),
            assigner: VariationAssigner::new(&spec.assignment(key))?,
            audience,
            segments: spec.target.segments.clone(),
        })
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// Keys of the variations, control first.
    pub fn variations(&self) -> &[Arc<str>] {
        &self.variations
    }

    /// Whether the experiment assigned customers at this instant.
    pub fn ran_at(&self, at: Timestamp) -> bool {
        self.period.contains(at)
    }

    /// Whether the experiment is for customers of this segment and these audiences.
    pub fn is_targeted(&self, segment_id: &str, audiences: &[i32]) -> bool {
        let is_in_audience = match self.audience {
            TargetAudience::All => true,
            TargetAudience::Audience(id) => audiences.contains(&id),
            TargetAudience::Deleted => false,
        };
        is_in_audience
            && (self.segments.is_empty() || self.segments.iter().any(|id| **id == *segment_id))
    }

    /// Whether the hash assigns the customer to the variation with this key.
    pub fn assigns(&self, customer_id: &str, variation: &str) -> bool {
        let assigned = self.assigner.assign(customer_id);
        assigned.is_ok_and(|index| *self.variations[index] == *variation)
    }

    /// The customer's participation; `None` for a customer outside of the experiment. An exposed
    /// customer keeps the variation seen first, also after leaving the target.
    fn participation(&self, customer: &CustomerContext<'_>) -> Option<Participation> {
        let seen = customer.seen.iter().find(|seen| seen.experiment_id == self.id);
        let seen = seen.and_then(|seen| self.find_variation(&seen.variation));
        let (index, is_exposed) = match seen {
            Some(index) => (Some(index), true),
            None if !self.is_targeted(customer.segment_id, customer.audiences) => return None,
            None => match self.assigner.assign(customer.customer_id) {
                Ok(index) => (Some(index), false),
                Err(Exclusion::Holdout) => (None, false),
                Err(Exclusion::EmptyCustomerId | Exclusion::Namespace | Exclusion::Coverage) => {
                    return None;
                }
            },
        };
        let role = match index {
            Some(0) => ParticipationRole::Control,
            Some(_) => ParticipationRole::Treatment,
            None => ParticipationRole::Holdout,
        };
        Some(Participation {
            experiment: Arc::clone(&self.key),
            variation: index.map(|index| Arc::clone(&self.variations[index])),
            role,
            is_exposed,
        })
    }

    fn find_variation(&self, key: &str) -> Option<usize> {
        self.variations.iter().position(|known| **known == *key)
    }
}
