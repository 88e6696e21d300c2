//! `segmentd experiment plan`: sample size, duration, minimum detectable effect.

use clap::{ArgGroup, Args};

use crate::domain::experiment::{PlanAnswer, PlanQuestion};
use crate::domain::fault::ValidationFault;
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
    pub(super) fn run(self) -> anyhow::Result<()> {
        let answer = self.question().answer().map_err(|faults| {
            let faults: Vec<String> = faults.0.iter().map(at_option).collect();
            anyhow::anyhow!("{}", faults.join("; "))
        })?;
        let PlanAnswer { difference, lift, control_customers, treatment_customers, .. } = answer;
        if self.customers.is_some() {
            println!(
                "minimum detectable effect: {} ({} of the baseline {})",
                format_number(difference),
                format_percent(lift),
                self.baseline
            );
        } else {
            println!(
                "customers: {control_customers} in the control and {treatment_customers} in the treatment, for an effect of {} ({})",
                format_percent(lift),
                format_number(difference),
            );
        }
        if let Some((days, daily)) = answer.days.zip(self.daily_customers) {
            println!("days: {days}, with {daily} new customers a day");
        }
        Ok(())
    }

    fn question(&self) -> PlanQuestion {
        PlanQuestion {
            baseline: self.baseline,
            standard_deviation: self.standard_deviation,
            lift: self.lift,
            customers: self.customers,
            power: self.power,
            alpha: self.alpha,
            treatment_ratio: self.treatment_ratio,
            daily_customers: self.daily_customers,
        }
    }
}

/// A fault with the option of its field.
fn at_option(fault: &ValidationFault) -> String {
    format!("--{} {}", fault.path.replace('_', "-"), fault.problem)
}
