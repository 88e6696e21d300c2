//! `segmentd train`: one run from the stored customers, awaited.

use anyhow::Context;

use crate::app::App;
use crate::config::Config;

pub(super) async fn train(mut config: Config) -> anyhow::Result<()> {
    config.http.bind.set_port(0);
    config.admin.bind.set_port(0);
    config.training.schedule = None;
    let app = App::build(config).await?;
    let outcome = app.train_once().await;
    let run = outcome.context("training")?;
    println!("{run}");
    Ok(())
}
