//! `segmentd export`: saves the assignments of a running service to a file.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use url::Url;

use crate::cli::unreachable_service;
use crate::outbound::service_client::{ServiceClient, ServiceResponse};

#[derive(Debug, Args)]
pub(super) struct ExportCommand {
    /// URL of the running service.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A key with the scope `read`.
    #[arg(long, env = "SEGMENTD_KEY", hide_env_values = true)]
    key: String,
    /// Output format [default: from the file name].
    #[arg(long)]
    format: Option<ExportFormat>,
    /// CSV only: whether texts that a spreadsheet would run as formulas get a leading `'`.
    /// Use `none` for programs. [default: formulas]
    #[arg(long)]
    escape: Option<FormulaEscape>,
    /// Only customers in this segment.
    #[arg(long)]
    segment: Option<String>,
    /// Output file, such as `assignments.parquet`.
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportFormat {
    Csv,
    Ndjson,
    Parquet,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormulaEscape {
    Formulas,
    None,
}

impl ExportCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let format = self.format.or_else(|| format_of_name(&self.file)).with_context(|| {
            format!(
                "{} does not end in .csv, .ndjson or .parquet: pass --format",
                self.file.display()
            )
        })?;
        let format = match format {
            ExportFormat::Csv => "csv",
            ExportFormat::Ndjson => "ndjson",
            ExportFormat::Parquet => "parquet",
        };
        let mut address = Url::parse(&self.url).context("--url")?;
        address.set_path("/v1/assignments");
        address.query_pairs_mut().append_pair("format", format);
        if let Some(escape) = self.escape {
            let escape = match escape {
                FormulaEscape::Formulas => "formulas",
                FormulaEscape::None => "none",
            };
            address.query_pairs_mut().append_pair("escape", escape);
        }
        if let Some(segment) = &self.segment {
            address.query_pairs_mut().append_pair("segment", segment);
        }
        let client = ServiceClient::new(&self.key)?;
        let mut response =
            client.get(&address).await.with_context(|| unreachable_service(&self.url))?;
        let status = response.status;
        if !status.is_success() {
            anyhow::bail!("the service answered {status}: {}", response.text().await?);
        }
        // A complete file appears under its name; a partial one has the suffix `.part`.
        let mut part = self.file.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let saved = save(&mut response, &part).await;
        let bytes = match saved {
            Ok(bytes) => bytes,
            Err(error) => {
                // The file may not exist; the error that matters is returned below.
                let _ = tokio::fs::remove_file(&part).await;
                return Err(error);
            }
        };
        tokio::fs::rename(&part, &self.file)
            .await
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        println!("{}: {bytes} bytes", self.file.display());
        Ok(())
    }
}

async fn save(response: &mut ServiceResponse, path: &Path) -> anyhow::Result<u64> {
    let mut file =
        File::create(path).await.with_context(|| format!("cannot write {}", path.display()))?;
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template("{spinner} {bytes} {bytes_per_sec}")?);
    while let Some(chunk) =
        response.chunk().await.context("the export was interrupted: try again")?
    {
        file.write_all(&chunk).await?;
        bar.inc(chunk.len() as u64);
    }
    file.sync_all().await?;
    bar.finish_and_clear();
    Ok(bar.position())
}

fn format_of_name(file: &Path) -> Option<ExportFormat> {
    ExportFormat::from_str(file.extension()?.to_str()?, true).ok()
}
