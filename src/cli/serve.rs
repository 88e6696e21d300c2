//! `segmentd serve`

use futures_util::{Stream, stream};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::Application;
use crate::config::AppConfig;

pub(super) async fn serve(config: AppConfig) -> anyhow::Result<()> {
    let stop = stop_signals()?;
    Application::build(config).await?.run(stop).await
}

/// Yields an item at each SIGTERM or Ctrl-C.
pub(super) fn stop_signals() -> anyhow::Result<impl Stream<Item = ()> + Send + 'static> {
    let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(stream::unfold(signals, async |(mut terminate, mut interrupt)| {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Some(((), (terminate, interrupt)))
    }))
}
