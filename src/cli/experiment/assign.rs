//! `segmentd experiment assign`: variations of customers, as CSV.

use std::collections::HashSet;

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;

use crate::cli::experiment::rows::column_index;
use crate::cli::table::{RowStatus, TableReader, TableSettings, TableSource};
use crate::domain::experiment::{
    Allocation, ExperimentDefinition, HashVersion, Holdout, VariationAssigner,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct AssignCommand {
    /// Tables of customers (CSV, newline-delimited JSON, Parquet; also compressed; a file, a pattern,
    /// or `-`; may be repeated).
    #[arg(long, value_name = "TABLE", required = true)]
    from: Vec<String>,
    /// Column with the customer id.
    #[arg(long, value_name = "COLUMN", default_value = "customer_id")]
    customer: String,
    /// Key of the experiment, which is also the seed of its hash.
    #[arg(long)]
    key: String,
    /// Names of the variations, control first.
    #[arg(long, value_delimiter = ',', required = true)]
    variations: Vec<String>,
    /// Share of each variation; default equal shares.
    #[arg(long, value_delimiter = ',')]
    weights: Vec<f64>,
    /// Share of the customers that take part.
    #[arg(long, default_value_t = 1.0)]
    coverage: f64,
    /// Seed of a holdout, whose customers take part in no experiment with this seed.
    #[arg(long, requires = "holdout_share")]
    holdout_seed: Option<String>,
    /// Share of the customers in the holdout.
    #[arg(long, requires = "holdout_seed")]
    holdout_share: Option<f64>,
}

impl AssignCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let assigner = self.assigner()?;
        let mut out = csv::Writer::from_writer(std::io::stdout().lock());
        out.write_record(["customer_id", "variation"])?;
        let (mut assigned, mut left_out) = (vec![0_u64; self.variations.len()], 0_u64);
        let mut known = HashSet::new();
        for source in TableSource::find(&self.from)? {
            let settings = TableSettings::default();
            let mut reader = TableReader::open(&source, &settings, &ProgressBar::hidden())?;
            let place = format!("in {}", source.path());
            let column = column_index(&reader.columns().names, &self.customer)
                .with_context(|| place.clone())?;
            loop {
                match reader.advance().with_context(|| place.clone())? {
                    RowStatus::Row => {}
                    RowStatus::Faulty(fault) => {
                        anyhow::bail!("{}: line {}: {fault}", source.path(), fault.line)
                    }
                    RowStatus::End => break,
                }
                let row = reader.row();
                let id = row.cell(column).text().map(std::borrow::Cow::into_owned);
                let id = id.with_context(|| {
                    format!("{}: line {}: `{}` is empty", source.path(), row.line, self.customer)
                })?;
                // A customer gets one row, however often the tables name it.
                if !known.insert(id.clone()) {
                    continue;
                }
                if let Ok(variation) = assigner.assign(&id) {
                    assigned[variation] += 1;
                    out.write_record([&id, &self.variations[variation]])?;
                } else {
                    left_out += 1;
                }
            }
        }
        out.flush()?;
        for (name, customers) in self.variations.iter().zip(assigned) {
            eprintln!("{name}: {customers} customers");
        }
        eprintln!("not in the experiment: {left_out} customers");
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of variations")]
    fn assigner(&self) -> anyhow::Result<VariationAssigner> {
        let variations = self.variations.len();
        anyhow::ensure!(!self.key.is_empty(), "--key must not be empty");
        let unique: HashSet<&String> = self.variations.iter().collect();
        anyhow::ensure!(unique.len() == variations, "--variations names a variation twice");
        let weights = if self.weights.is_empty() {
            vec![1.0 / variations as f64; variations]
        } else {
            self.weights.clone()
        };
        anyhow::ensure!(
            weights.len() == variations,
            "--weights has {} shares for {variations} variations",
            weights.len()
        );
        let holdout = self.holdout_seed.as_ref().zip(self.holdout_share);
        let definition = ExperimentDefinition {
            key: self.key.as_str().into(),
            hash_seed: None,
            hash_version: HashVersion::V2,
            allocation: Allocation::Weights { weights, coverage: self.coverage },
            namespace: None,
            holdout: holdout
                .map(|(seed, share)| Holdout { hash_seed: seed.as_str().into(), share }),
        };
        VariationAssigner::new(&definition).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", faults.join("; "))
        })
    }
}
