//! Supervision of the private Postgres: restarts a server that ends by itself, with
//! exponential back-off and jitter, until the process stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::app::tasks;
use crate::service::error::ErrorChain;
use crate::service::random;
use crate::store::database::private::{PrivatePostgres, PrivateServerError, ServerExit};
use crate::telemetry::ServiceMetrics;

/// Delay before the first attempt: the children of the ended server still release memory.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay between attempts. It is also the downtime that remains after a full disk
/// has space again.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A server that ran this long has recovered: the back-off starts again.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// A private server that is restarted whenever it ends.
#[derive(Debug)]
pub(super) struct SupervisedPostgres {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), PrivateServerError>>,
}

impl SupervisedPostgres {
    pub(super) fn start(postgres: PrivatePostgres, metrics: Arc<ServiceMetrics>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, running: tasks::spawn(supervise(postgres, stopped, metrics)) }
    }

    /// Stops the server and waits for its end.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        // Fails only if the task has ended, which the next line reports.
        let _ = self.stop.send(());
        Ok(self.running.await??)
    }
}

async fn supervise(
    mut postgres: PrivatePostgres,
    mut stopped: oneshot::Receiver<()>,
    metrics: Arc<ServiceMetrics>,
) -> Result<(), PrivateServerError> {
    let mut backoff = ExponentialBackoff::default();
    loop {
        let started = Instant::now();
        let ended = tokio::select! {
            ended = postgres.wait_for_exit() => ended,
            _ = &mut stopped => break,
        };
        let ServerExit { status, log } = ended;
        tracing::error!(status, log, "private Postgres ended unexpectedly; it will be restarted");
        if started.elapsed() >= STABLE_AFTER {
            backoff = ExponentialBackoff::default();
        }
        tokio::select! {
            () = restart(&mut postgres, &mut backoff, &metrics) => {}
            _ = &mut stopped => break,
        }
    }
    postgres.stop().await
}

/// Restarts the server; returns once it accepts connections again.
async fn restart(
    postgres: &mut PrivatePostgres,
    backoff: &mut ExponentialBackoff,
    metrics: &ServiceMetrics,
) {
    let since = Instant::now();
    loop {
        tokio::time::sleep(backoff.next(random::random_fraction().unwrap_or(1.0))).await;
        metrics.database.restarts.inc();
        match postgres.restart().await {
            Ok(()) => {
                let away_millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(away_millis, "private Postgres restarted");
                return;
            }
            Err(error) => {
                let retry_within_seconds = LONGEST_DELAY.as_secs();
                tracing::error!(
                    error = %ErrorChain(&error),
                    retry_within_seconds,
                    "private Postgres could not be restarted; it will retry"
                );
            }
        }
    }
}

/// Exponential back-off with jitter: 50 to 100 % of each delay.
#[derive(Debug, Default)]
struct ExponentialBackoff {
    attempts: u32,
}

impl ExponentialBackoff {
    /// The next delay; `jitter` ranges from 0 to 1.
    fn next(&mut self, jitter: f64) -> Duration {
        let factor = 2_u32.saturating_pow(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        let delay = FIRST_DELAY.saturating_mul(factor).min(LONGEST_DELAY);
        delay.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound() {
        let mut backoff = ExponentialBackoff::default();
        let millis: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        let mut backoff = ExponentialBackoff { attempts: u32::MAX };
        assert_eq!(backoff.next(0.0), LONGEST_DELAY / 2);
    }
}
