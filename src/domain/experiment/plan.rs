//! Questions to the planner of experiments, checked, and their answers.

use crate::domain::experiment::power::{ExperimentPlan, PlannedMetric};
use crate::domain::fault::{ValidationFault, ValidationFaults};

/// How many customers an experiment needs, or which effect it can find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanQuestion {
    /// Mean of the metric in the control; a rate without `standard_deviation`.
    pub baseline: f64,
    /// Standard deviation of the metric between customers, for a mean.
    pub standard_deviation: Option<f64>,
    /// Relative effect to find; this or `customers`.
    pub lift: Option<f64>,
    /// Customers of the control, to compute the smallest effect that they can show.
    pub customers: Option<u64>,
    /// Probability of finding a true effect of this size.
    pub power: f64,
    /// Significance level of the two-sided test.
    pub alpha: f64,
    /// Customers of the treatment for each customer of the control.
    pub treatment_ratio: f64,
    /// Newly exposed customers of both variations each day, to compute the days.
    pub daily_customers: Option<u64>,
}

/// Customers and effect that belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanAnswer {
    /// In the unit of the metric.
    pub difference: f64,
    /// `difference` relative to the baseline.
    pub lift: f64,
    pub control_customers: u64,
    pub treatment_customers: u64,
    /// Days until that many customers are exposed; `None` without `daily_customers`.
    pub days: Option<u64>,
}

impl PlanQuestion {
    /// Computes the answer. Fails with a fault for each invalid field.
    pub fn answer(&self) -> Result<PlanAnswer, ValidationFaults> {
        let plan = self.plan()?;
        match (self.lift, self.customers) {
            (Some(lift), None) => self.required(&plan, lift),
            (None, Some(customers)) => self.detectable(&plan, customers),
            _ => Err(ValidationFaults::single("lift", "give either this or `customers`")),
        }
    }

    fn required(&self, plan: &ExperimentPlan, lift: f64) -> Result<PlanAnswer, ValidationFaults> {
        let difference = self.baseline * lift;
        let sample = plan.required_sample(difference, self.power).ok_or_else(|| {
            let problem = "must not be 0, and must leave a rate between 0 and 1";
            ValidationFaults::single("lift", problem)
        })?;
        let (control, treatment) = (sample.control_customers, sample.treatment_customers);
        Ok(self.with_days(difference, control.ceil(), treatment.ceil()))
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of customers")]
    fn detectable(
        &self,
        plan: &ExperimentPlan,
        customers: u64,
    ) -> Result<PlanAnswer, ValidationFaults> {
        let control = customers as f64;
        let found = plan.minimum_detectable_difference(control, self.power).ok_or_else(|| {
            let problem = format!(
                "is {customers}, and shows no increase with a power of {}: more are needed",
                self.power
            );
            ValidationFaults::single("customers", problem)
        })?;
        Ok(self.with_days(found, control, (control * self.treatment_ratio).ceil()))
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole numbers of customers; `as` saturates"
    )]
    fn with_days(&self, difference: f64, control: f64, treatment: f64) -> PlanAnswer {
        let days = self.daily_customers.map(|daily| ((control + treatment) / daily as f64).ceil());
        PlanAnswer {
            difference,
            lift: difference / self.baseline,
            control_customers: control as u64,
            treatment_customers: treatment as u64,
            days: days.map(|days| days as u64),
        }
    }

    fn plan(&self) -> Result<ExperimentPlan, ValidationFaults> {
        let mut checks = PlanChecks::default();
        match self.standard_deviation {
            Some(deviation) => {
                checks.require("standard_deviation", is_positive(deviation), "must be above 0");
                checks.require("baseline", is_positive(self.baseline), "must be above 0");
            }
            None => checks.require(
                "baseline",
                is_probability(self.baseline),
                "must be a rate between 0 and 1; for a mean, give its standard deviation too",
            ),
        }
        let is_lift = self.lift.is_none_or(f64::is_finite);
        checks.require("lift", is_lift, "must be a number, such as 0.05");
        checks.require("power", is_probability(self.power), "must be between 0 and 1");
        checks.require("alpha", is_probability(self.alpha), "must be between 0 and 1");
        checks.require("treatment_ratio", is_positive(self.treatment_ratio), "must be above 0");
        checks.require("customers", self.customers != Some(0), "must be above 0");
        checks.require("daily_customers", self.daily_customers != Some(0), "must be above 0");
        let metric = match self.standard_deviation {
            Some(standard_deviation) => PlannedMetric::Mean { standard_deviation },
            None => PlannedMetric::Proportion { rate: self.baseline },
        };
        let (alpha, treatment_ratio) = (self.alpha, self.treatment_ratio);
        checks.faults.into_result(ExperimentPlan { metric, alpha, treatment_ratio })
    }
}

/// Faults of a question.
#[derive(Default)]
struct PlanChecks {
    faults: ValidationFaults,
}

impl PlanChecks {
    fn require(&mut self, field: &str, is_right: bool, problem: &str) {
        if !is_right {
            self.faults.push(ValidationFault::new(field, problem));
        }
    }
}

fn is_positive(number: f64) -> bool {
    number > 0.0 && number.is_finite()
}

/// Whether a number is between 0 and 1.
fn is_probability(number: f64) -> bool {
    number > 0.0 && number < 1.0
}
