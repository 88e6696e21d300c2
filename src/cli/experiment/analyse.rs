//! `segmentd experiment analyse`: effects of an experiment from tables.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::cli::experiment::picture;
use crate::cli::experiment::results::{self, EffectStyle};
use crate::cli::experiment::rows::{
    ColumnNames, ExperimentRows, ExposedCustomer, SegmentSource, read_rows,
};
use crate::cli::table::TableSource;
use crate::config::AppConfig;
use crate::domain::experiment::effect::EffectScale;
use crate::domain::experiment::{
    AnalysisSettings, ExposureCounts, GatedResults, MomentTable, OverrideReason, PriorityRule,
    SampleRatioReport, SegmentSettings, SegmentationWorth, SequentialDesign, TrialRows,
    VariationResult, WorthSettings, analyse_experiment, evaluate_over_splits,
    mean_effect_priorities,
};
use crate::domain::model::Model;

#[derive(Debug, Args)]
pub(in crate::cli) struct AnalyseCommand {
    /// Tables with one row for each exposed customer (CSV, newline-delimited JSON, Parquet; also
    /// compressed; a file, a pattern, or `-`; may be repeated).
    #[arg(long, value_name = "TABLE", required = true)]
    from: Vec<String>,
    /// Column with the variation.
    #[arg(long, value_name = "COLUMN")]
    variation: String,
    /// Value of that column for the control.
    #[arg(long, value_name = "VALUE")]
    control: String,
    /// Column with the outcome: an amount, a number, or 0 and 1. An empty cell counts as 0.
    #[arg(long, value_name = "COLUMN")]
    metric: String,
    /// Column with the denominator of a ratio metric, such as sessions.
    #[arg(long, value_name = "COLUMN")]
    denominator: Option<String>,
    /// Column with a number from before the exposure, such as earlier spend. It reduces the variance
    /// (CUPED).
    #[arg(long, value_name = "COLUMN")]
    covariate: Option<String>,
    /// Column with the segment at the exposure.
    #[arg(long, value_name = "COLUMN", conflicts_with = "model")]
    segment: Option<String>,
    /// Model whose segments the customers are in, by the columns of its features at the exposure.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Column with the customer id. Customers in several variations are left out.
    #[arg(long, value_name = "COLUMN")]
    customer: Option<String>,
    /// Column with the day of the exposure, for the test of the sample ratio by day.
    #[arg(long, value_name = "COLUMN")]
    day: Option<String>,
    /// Planned shares of the variations; default equal shares.
    #[arg(long, value_delimiter = ',', value_name = "NAME=SHARE", value_parser = named_share)]
    shares: Vec<(String, f64)>,
    /// Compare lifts instead of differences between segments.
    #[arg(long)]
    lift: bool,
    /// Number of customers of two compared variations at which a decision was planned before the
    /// experiment: also compute intervals that are valid at any number of looks.
    #[arg(long, value_name = "CUSTOMERS", value_parser = clap::value_parser!(u32).range(1..))]
    planned_customers: Option<u32>,
    /// Show the results although the sample ratio is not as planned, for this reason.
    #[arg(long, value_name = "REASON")]
    override_mismatch: Option<String>,
    /// Output file of a picture of the effects with their intervals (SVG).
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Seed of the random number generator, for the worth of the segmentation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn named_share(text: &str) -> Result<(String, f64), String> {
    let (name, share) = text.rsplit_once('=').ok_or("write NAME=SHARE, such as control=0.5")?;
    match share.parse::<f64>() {
        Ok(share) if share > 0.0 && share.is_finite() => Ok((name.to_owned(), share)),
        _ => Err(format!("`{share}` is not a share above 0")),
    }
}

impl AnalyseCommand {
    pub(super) fn run(self, config: &AppConfig) -> anyhow::Result<()> {
        let rows = self.read(config)?;
        let variations = rows.variations.names();
        anyhow::ensure!(
            rows.customers.iter().any(|customer| customer.variation == 0),
            "no row has the control `{}` in the column `{}`; its values are `{}`",
            self.control,
            self.variation,
            variations[1..].join("`, `")
        );
        anyhow::ensure!(variations.len() > 1, "every row is in the control");
        let report = SampleRatioReport::check(
            &ExposureCounts {
                overall: &exposures(&rows, 1, |_| 0)[0],
                by_segment: &exposures(&rows, rows.segments.names().len(), |customer| {
                    customer.segment
                }),
                by_day: &exposures(&rows, rows.days.names().len(), |customer| customer.day),
            },
            &self.shares(variations)?,
        );
        println!("{}", results::data_report(&rows, &report));
        let results = self.analyse(&rows, report);
        let found = match &self.override_mismatch {
            None => results.read().map_err(|withheld| {
                anyhow::anyhow!("{withheld}. Find the cause, or give --override-mismatch REASON")
            })?,
            Some(reason) => {
                let reason = OverrideReason::new(reason).context("--override-mismatch")?;
                if results.sample_ratio().is_mismatched() {
                    println!("shown although the ratio is not as planned: {}", reason.as_str());
                }
                &results.override_mismatch(reason).results.clone()
            }
        };
        if let Some(path) = &self.picture {
            std::fs::write(path, picture::draw_effects(&rows, found, &self.metric))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        for (variation, name) in variations.iter().enumerate().skip(1) {
            if found.iter().all(|result| result.variation != variation) {
                println!(
                    "\n{name} against {}: no effect can be measured, because one of them has fewer than two customers or both have one value",
                    self.control
                );
            }
        }
        let style = EffectStyle {
            is_sequential: self.planned_customers.is_some(),
            is_adjusted: self.covariate.is_some(),
        };
        for result in found {
            println!("{}", results::effect_report(&rows, result, style));
            if rows.segments.names().len() > 1 {
                let worth = self.worth(&rows, result.variation)?;
                println!("{}", results::worth_report(worth.as_ref()));
            }
        }
        Ok(())
    }

    fn read(&self, config: &AppConfig) -> anyhow::Result<ExperimentRows> {
        let names = ColumnNames {
            variation: &self.variation,
            metric: &self.metric,
            denominator: self.denominator.as_deref(),
            covariate: self.covariate.as_deref(),
            customer: self.customer.as_deref(),
            day: self.day.as_deref(),
        };
        let sources = TableSource::find(&self.from)?;
        let Some(path) = &self.model else {
            let segments =
                self.segment.as_deref().map_or(SegmentSource::None, SegmentSource::Column);
            return read_rows(&sources, &names, &segments, &self.control);
        };
        let shown = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let model = Model::open(&bytes).with_context(|| format!("in {shown}"))?;
        let features = crate::app::features(config)?;
        anyhow::ensure!(
            model.feature_set() == features.id(),
            "{shown} was trained with another feature set than the configured one"
        );
        let segments = SegmentSource::Model { model: &model, features: &features };
        read_rows(&sources, &names, &segments, &self.control)
    }

    /// The planned share of each variation.
    fn shares(&self, variations: &[String]) -> anyhow::Result<Vec<f64>> {
        if self.shares.is_empty() {
            return Ok(vec![1.0; variations.len()]);
        }
        for (name, _) in &self.shares {
            anyhow::ensure!(
                variations.contains(name),
                "--shares: there is no variation `{name}`; the variations are `{}`",
                variations.join("`, `")
            );
        }
        let mut shares = Vec::with_capacity(variations.len());
        for variation in variations {
            let share = self.shares.iter().find(|(name, _)| name == variation);
            shares.push(share.map(|(_, share)| *share).with_context(|| {
                format!("--shares has no share of `{variation}`: give one for each variation")
            })?);
        }
        Ok(shares)
    }

    fn analyse(
        &self,
        rows: &ExperimentRows,
        report: SampleRatioReport,
    ) -> GatedResults<Vec<VariationResult>> {
        let segments = rows.segments.names().len().max(1);
        let mut table = MomentTable::new(rows.variations.names().len(), segments);
        for customer in &rows.customers {
            if let Some(cell) = table.cell_mut(customer.variation, customer.segment) {
                cell.observe(&customer.outcome);
            }
        }
        let tuned = self.planned_customers.map(f64::from);
        let default = SequentialDesign::default();
        let settings = AnalysisSettings {
            control: 0,
            sequential: SequentialDesign {
                tuned_customers: tuned.unwrap_or(default.tuned_customers),
                ..default
            },
            segments: SegmentSettings {
                scale: if self.lift { EffectScale::Lift } else { EffectScale::Difference },
                ..SegmentSettings::default()
            },
        };
        analyse_experiment(&table, &settings, report)
    }

    /// Whether treating by segment is worth it, for one treatment against the control. `None` for a
    /// ratio metric.
    fn worth(
        &self,
        rows: &ExperimentRows,
        treatment: usize,
    ) -> anyhow::Result<Option<SegmentationWorth>> {
        if self.denominator.is_some() {
            return Ok(None);
        }
        let (mut outcomes, mut is_treated, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for customer in &rows.customers {
            if customer.variation == 0 || customer.variation == treatment {
                outcomes.push(customer.outcome.metric);
                is_treated.push(customer.variation == treatment);
                groups.push(customer.segment);
            }
        }
        let shares = self.shares(rows.variations.names())?;
        let probability = shares[treatment] / (shares[0] + shares[treatment]);
        let trial = TrialRows::new(&outcomes, &is_treated, &groups, probability)?;
        let rule = PriorityRule::Learned(&mean_effect_priorities);
        Ok(evaluate_over_splits(&trial, &WorthSettings::default(), rule, self.seed))
    }
}

/// Customers of each variation, by group.
fn exposures(
    rows: &ExperimentRows,
    groups: usize,
    group_of: impl Fn(&ExposedCustomer) -> usize,
) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; rows.variations.names().len()]; groups];
    for customer in &rows.customers {
        if let Some(group) = counts.get_mut(group_of(customer)) {
            group[customer.variation] += 1;
        }
    }
    counts
}
