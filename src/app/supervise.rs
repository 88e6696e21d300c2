//! Supervision of the private Postgres: restarts a server that ends by itself, with
//! exponential back-off and jitter, until the process stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app::backoff::RestartBackoff;
use crate::app::task_supervisor::{self, TaskSupervisor};
use crate::service::error::ErrorChain;
use crate::store::database::private::{PrivatePostgres, PrivateServerError, ServerExit};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::BackgroundTask;
use crate::telemetry::repeated_failures::count_failure;

/// Longest delay between attempts. It is also the downtime that remains after a full disk
/// has space again.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// A private server that is restarted whenever it ends.
#[derive(Debug)]
pub(super) struct SupervisedPostgres {
    stop: DropGuard,
    /// `None`: the supervision panicked.
    running: JoinHandle<Option<Result<(), PrivateServerError>>>,
}

impl SupervisedPostgres {
    pub(super) fn start(
        postgres: PrivatePostgres,
        metrics: Arc<ServiceMetrics>,
        supervisor: TaskSupervisor,
    ) -> Self {
        let stopped = CancellationToken::new();
        let stop = stopped.clone().drop_guard();
        let work = supervise(postgres, stopped.clone(), metrics);
        // Not restarted after a panic: the handle of the server is lost with it.
        let work = supervisor.run_once(BackgroundTask::PrivatePostgres, stopped, work);
        Self { stop, running: task_supervisor::spawn(work) }
    }

    /// Stops the server and waits for its end.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        let stopped =
            self.running.await?.context("the supervision of the private Postgres failed")?;
        Ok(stopped?)
    }
}

async fn supervise(
    mut postgres: PrivatePostgres,
    stopped: CancellationToken,
    metrics: Arc<ServiceMetrics>,
) -> Result<(), PrivateServerError> {
    let mut backoff = RestartBackoff::new(LONGEST_DELAY);
    loop {
        let started = Instant::now();
        let Some(ended) = stopped.run_until_cancelled(postgres.wait_for_exit()).await else {
            break;
        };
        let ServerExit { status, log } = ended;
        if let Some(repeated) = count_failure("private Postgres", &status) {
            tracing::error!(
                status,
                log,
                "private Postgres ended unexpectedly; it will be restarted{repeated}"
            );
        }
        backoff.end_run(started.elapsed());
        let restarted = restart(&mut postgres, &mut backoff, &metrics);
        if stopped.run_until_cancelled(restarted).await.is_none() {
            break;
        }
    }
    postgres.stop().await
}

/// Restarts the server; returns once it accepts connections again.
async fn restart(
    postgres: &mut PrivatePostgres,
    backoff: &mut RestartBackoff,
    metrics: &ServiceMetrics,
) {
    let since = Instant::now();
    loop {
        tokio::time::sleep(backoff.next_delay()).await;
        metrics.database.restarts.inc();
        match postgres.restart().await {
            Ok(()) => {
                let away_millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(away_millis, "private Postgres restarted");
                return;
            }
            Err(error) => {
                let retry_within_seconds = LONGEST_DELAY.as_secs();
                let error = ErrorChain(&error).to_string();
                if let Some(repeated) = count_failure("restart of private Postgres", &error) {
                    tracing::error!(
                        error,
                        retry_within_seconds,
                        "private Postgres could not be restarted; it will retry{repeated}"
                    );
                }
            }
        }
    }
}
