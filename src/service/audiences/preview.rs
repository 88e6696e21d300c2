//! Preview of an audience: the share of a sample of customers that a rule selects.

use std::sync::Arc;

use crate::domain::audience::AudienceSet;
use crate::domain::feature::CustomerState;
use crate::domain::model::ScoringScratch;
use crate::domain::stats::Proportion;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::audiences::{AudienceService, check_names, compile_with};
use crate::service::scoring::assignment;
use crate::service::scoring::deployment::Deployment;
use crate::store::audiences;
use crate::store::customers::{self, StoredState, sampling};

/// Customers of the sample.
const SAMPLE_CUSTOMERS: i64 = 5_000;
/// Smallest number of customers that is reported.
const SMALL_GROUP: u64 = 5;

/// A rule and the customers to evaluate it for.
#[derive(Debug)]
pub(crate) struct AudienceTrial {
    deployment: Arc<Deployment>,
    audiences: Arc<AudienceSet>,
    /// The audience to preview.
    name: String,
    sample: Vec<StoredState>,
    customers: i64,
    now: Timestamp,
}

/// How many customers a rule selects.
#[derive(Debug)]
pub(crate) struct AudiencePreview {
    /// Customers of the workspace.
    pub customers: i64,
    /// Customers that were evaluated.
    pub sampled: u64,
    /// The selected customers of the sample; `None` if these or the others are fewer than
    /// [`SMALL_GROUP`] but not none.
    pub selected: Option<u64>,
}

impl AudiencePreview {
    /// The share of the selected customers; `None` as for `selected`, and without customers.
    pub(crate) fn share(&self) -> Option<Proportion> {
        let selected = self.selected?;
        let is_complete =
            i64::try_from(self.sampled).is_ok_and(|sampled| sampled >= self.customers);
        if is_complete {
            Proportion::from_population(selected, self.sampled)
        } else {
            Proportion::from_sample(selected, self.sampled)
        }
    }
}

impl AudienceService {
    /// Checks the rule of an audience and draws the sample for its preview.
    pub(crate) async fn prepare_preview(
        &self,
        name: &str,
        expression: &str,
    ) -> Result<AudienceTrial, ServiceError> {
        let deployment = self.serving.snapshot();
        check_names(name, expression, &deployment).map_err(ServiceError::Invalid)?;
        let db = self.db.read();
        let in_force = audiences::list_in_force(db).await?;
        let audiences = compile_with(name, expression, &in_force, &deployment)
            .map_err(ServiceError::Invalid)?;
        let sample = sampling::sample_class(db, 0, 1, SAMPLE_CUSTOMERS).await?;
        let customers = customers::count_assigned(db).await?;
        let now = self.clock.now();
        let name = name.to_owned();
        Ok(AudienceTrial { deployment, audiences, name, sample, customers, now })
    }
}

impl AudienceTrial {
    /// Evaluates the rule for every customer of the sample, some 10 µs each. The segment is that
    /// of the score, without hysteresis. Customers whose state awaits a rebuild are left out.
    pub(crate) fn run(&self) -> AudiencePreview {
        let mut scratch = ScoringScratch::default();
        let (mut sampled, mut selected) = (0, 0);
        for stored in &self.sample {
            let Ok(state) = CustomerState::from_bytes(&self.deployment.features, &stored.state)
            else {
                continue;
            };
            let deployment = self.deployment.for_customer(&stored.customer);
            let found = assignment::evaluate_audiences(
                deployment,
                &self.audiences,
                &state,
                self.now,
                &mut scratch,
            );
            sampled += 1;
            selected += u64::from(found.names().any(|name| name == self.name));
        }
        // The customers that the rule does not select are a group too.
        let is_small = [selected, sampled - selected].iter().any(|n| (1..SMALL_GROUP).contains(n));
        AudiencePreview {
            customers: self.customers,
            sampled,
            selected: (!is_small).then_some(selected),
        }
    }
}
