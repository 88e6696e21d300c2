//! `segmentd experiment analyse`: effects of an experiment from tables.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::cli::experiment::results::{self, EffectStyle};
use crate::cli::experiment::rows::{ColumnNames, ExperimentRows, SegmentSource, read_rows};
use crate::cli::table::TableSource;
use crate::config::AppConfig;
use crate::domain::experiment::effect::EffectScale;
use crate::domain::experiment::{
    AnalysisSettings, OverrideReason, SegmentSettings, SegmentationWorth, SequentialDesign,
    VariationResult,
};
use crate::domain::feature::FeatureSet;
use crate::domain::model::Model;
use crate::domain::presentation::effect_plot::{EffectLabels, draw_effects};
use crate::domain::stats::Estimate;

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
    /// Another model with the same features: also compare the worth of treating by its segments.
    #[arg(long, value_name = "FILE", requires = "model", conflicts_with = "denominator")]
    compare_model: Option<PathBuf>,
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
        let sample = &rows.sample;
        let variations = sample.variations.names();
        anyhow::ensure!(
            sample.customers.iter().any(|customer| customer.variation == 0),
            "no row has the control `{}` in the column `{}`; its values are `{}`",
            self.control,
            self.variation,
            variations[1..].join("`, `")
        );
        anyhow::ensure!(variations.len() > 1, "every row is in the control");
        let report = sample.check_sample_ratio(&self.shares(variations)?);
        println!("{}", results::data_report(&rows, &report));
        let results = sample.analyse(&self.settings(), report);
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
            let segments = sample.segments.names();
            let labels = EffectLabels { variations, segments, metric: &self.metric };
            let drawn: Vec<&VariationResult> = found.iter().collect();
            std::fs::write(path, draw_effects(labels, &drawn))
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
            println!("{}", results::effect_report(sample, result, style));
            if sample.segments.names().len() > 1 {
                let worth = self.worth(&rows, result.variation)?;
                println!("{}", results::worth_report(worth.as_ref()));
            }
            if self.compare_model.is_some() {
                let difference = self.compare(&rows, result.variation)?;
                println!("{}", results::comparison_report(difference));
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
        let features = crate::app::features(config)?;
        let model = open_model(path, &features)?;
        let other = self.compare_model.as_deref().map(|path| open_model(path, &features));
        let other = other.transpose()?;
        let segments =
            SegmentSource::Model { model: &model, other: other.as_ref(), features: &features };
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

    fn settings(&self) -> AnalysisSettings {
        let tuned = self.planned_customers.map(f64::from);
        let default = SequentialDesign::default();
        AnalysisSettings {
            control: 0,
            sequential: SequentialDesign {
                tuned_customers: tuned.unwrap_or(default.tuned_customers),
                ..default
            },
            segments: SegmentSettings {
                scale: if self.lift { EffectScale::Lift } else { EffectScale::Difference },
                ..SegmentSettings::default()
            },
        }
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
        let shares = self.shares(rows.sample.variations.names())?;
        Ok(rows.sample.evaluate_segmentation(treatment, &shares, self.seed)?)
    }

    /// The worth of treating by the segments of the model, minus that by the segments of the other
    /// model, for one treatment against the control.
    fn compare(&self, rows: &ExperimentRows, treatment: usize) -> anyhow::Result<Option<Estimate>> {
        let shares = self.shares(rows.sample.variations.names())?;
        let others = &rows.other_segments;
        Ok(rows.sample.compare_segmentation(treatment, others, &shares, self.seed)?)
    }
}

/// Opens a model that reads these features.
fn open_model(path: &Path, features: &FeatureSet) -> anyhow::Result<Model> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let model = Model::open(&bytes).with_context(|| format!("in {shown}"))?;
    anyhow::ensure!(
        model.feature_set() == features.id(),
        "{shown} was trained with another feature set than the configured one"
    );
    Ok(model)
}
