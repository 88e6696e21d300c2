//! `segmentd experiment plan`: sample size, duration, minimum detectable effect.

use clap::{ArgGroup, Args};

use crate::domain::experiment::{ExperimentPlan, PlannedMetric};
use crate::domain::presentation::number_format::{format_number, format_percent};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("question").required(true).args(["lift", "customers"])))]
pub(in crate::cli) struct PlanCommand {
    /// Mean of the metric in the control; a rate from 0 to 1 unless --standard-deviation is given.
    #[arg(long)]
    baseline: f64,
    /// Standard deviation of the metric between customers, for a mean such as spend.
    #[arg(long)]
    standard_deviation: Option<f64>,
    /// Relative effect to find, such as 0.05 for 5 % more than the control.
    #[arg(long, allow_hyphen_values = true)]
    lift: Option<f64>,
    /// Customers in the control: compute the smallest effect that they can show.
    #[arg(long)]
    customers: Option<u64>,
    /// Probability of finding a true effect of this size.
    #[arg(long, default_value_t = 0.8)]
    power: f64,
    /// Probability of finding an effect if there is none.
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Customers in the treatment for each one in the control.
    #[arg(long, default_value_t = 1.0)]
    treatment_ratio: f64,
    /// Newly exposed customers of both variations each day: also compute the days.
    #[arg(long, requires = "lift")]
    daily_customers: Option<u64>,
}

impl PlanCommand {
    #[expect(clippy::cast_precision_loss, reason = "numbers of customers")]
    pub(super) fn run(self) -> anyhow::Result<()> {
        let plan = self.plan()?;
        if let Some(customers) = self.customers {
            let found = plan.minimum_detectable_difference(customers as f64, self.power);
            let difference = found.ok_or_else(|| {
                anyhow::anyhow!(
                    "{customers} customers in the control show no increase with a power of {}: more are needed",
                    self.power
                )
            })?;
            println!(
                "minimum detectable effect: {} ({} of the baseline {})",
                format_number(difference),
                format_percent(difference / self.baseline),
                self.baseline
            );
            return Ok(());
        }
        let difference = self.baseline * self.lift.unwrap_or_default();
        let sample = plan.required_sample(difference, self.power).ok_or_else(|| {
            anyhow::anyhow!("--lift must not be 0, and must leave a rate between 0 and 1")
        })?;
        println!(
            "customers: {:.0} in the control and {:.0} in the treatment, for an effect of {} ({})",
            sample.control_customers.ceil(),
            sample.treatment_customers.ceil(),
            format_percent(self.lift.unwrap_or_default()),
            format_number(difference),
        );
        if let Some(daily) = self.daily_customers {
            println!("days: {:.0}, with {daily} new customers a day", sample.days(daily as f64));
        }
        Ok(())
    }

    fn plan(&self) -> anyhow::Result<ExperimentPlan> {
        let lift = self.lift.unwrap_or_default();
        anyhow::ensure!(lift.is_finite(), "--lift must be a number, such as 0.05");
        anyhow::ensure!(is_probability(self.power), "--power must be between 0 and 1");
        anyhow::ensure!(is_probability(self.alpha), "--alpha must be between 0 and 1");
        anyhow::ensure!(
            self.treatment_ratio > 0.0 && self.treatment_ratio.is_finite(),
            "--treatment-ratio must be above 0"
        );
        anyhow::ensure!(self.customers != Some(0), "--customers must be above 0");
        anyhow::ensure!(self.daily_customers != Some(0), "--daily-customers must be above 0");
        let metric = if let Some(standard_deviation) = self.standard_deviation {
            anyhow::ensure!(
                standard_deviation > 0.0 && standard_deviation.is_finite(),
                "--standard-deviation must be above 0"
            );
            anyhow::ensure!(
                self.baseline > 0.0 && self.baseline.is_finite(),
                "--baseline must be above 0"
            );
            PlannedMetric::Mean { standard_deviation }
        } else {
            anyhow::ensure!(
                is_probability(self.baseline),
                "--baseline must be a rate between 0 and 1; for a mean, give --standard-deviation too"
            );
            PlannedMetric::Proportion { rate: self.baseline }
        };
        let (alpha, treatment_ratio) = (self.alpha, self.treatment_ratio);
        Ok(ExperimentPlan { metric, alpha, treatment_ratio })
    }
}

/// Whether a number is between 0 and 1.
fn is_probability(number: f64) -> bool {
    number > 0.0 && number < 1.0
}
