//! `segmentd experiment`: plans an experiment, assigns customers to its variations, and analyses its
//! results, all from tables, without a service.

mod analyse;
mod assign;
mod plan;
mod results;
mod rows;

use clap::Subcommand;

use crate::config::AppConfig;

#[derive(Debug, Subcommand)]
pub(super) enum ExperimentCommand {
    /// Compute how many customers an experiment needs, or which effect it can find.
    Plan(plan::PlanCommand),
    /// Assign customers to the variations of an experiment, bit-equal with the `GrowthBook` SDKs, and
    /// write `customer_id,variation` as CSV.
    Assign(assign::AssignCommand),
    /// Analyse the results of an experiment: effects overall and by segment, and whether treating by
    /// segment is worth it.
    Analyse(Box<analyse::AnalyseCommand>),
}

impl ExperimentCommand {
    pub(super) fn run(self, config: &AppConfig) -> anyhow::Result<()> {
        match self {
            Self::Plan(plan) => plan.run(),
            Self::Assign(assign) => assign.run(),
            Self::Analyse(analyse) => analyse.run(config),
        }
    }
}
