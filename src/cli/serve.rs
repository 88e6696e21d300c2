//! `segmentd serve`

use tokio::signal::unix::{SignalKind, signal};

use crate::app::Application;
use crate::config::AppConfig;

pub(super) async fn serve(config: AppConfig) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    Application::build(config).await?.run(stop).await
}

/// Resolves once, at SIGTERM or Ctrl-C.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
