//! Supervision of the private Postgres: a server that ends by itself is started again,
//! with exponential back-off and jitter, for as long as the process runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::app::tasks;
use crate::service::error::Chain;
use crate::service::random;
use crate::store::database::private::{Ended, PrivateError, PrivatePostgres};
use crate::telemetry::Metrics;

/// Before the first attempt: children of the server that ended give their memory back.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Between attempts, at most: so long the service stays away once a full disk has room
/// again.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A server that ran for so long has recovered: the next end begins with a short delay.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// A private server that is restarted whenever it ends.
#[derive(Debug)]
pub(super) struct Supervised {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), PrivateError>>,
}

impl Supervised {
    pub(super) fn start(postgres: PrivatePostgres, metrics: Arc<Metrics>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, running: tasks::spawn(supervise(postgres, stopped, metrics)) }
    }

    /// Stops the server and waits until it is gone.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        // Fails only when the task has ended, which the next line reports.
        let _ = self.stop.send(());
        Ok(self.running.await??)
    }
}

async fn supervise(
    mut postgres: PrivatePostgres,
    mut stopped: oneshot::Receiver<()>,
    metrics: Arc<Metrics>,
) -> Result<(), PrivateError> {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let ended = tokio::select! {
            ended = postgres.ended() => ended,
            _ = &mut stopped => break,
        };
        let Ended { status, log } = ended;
        tracing::error!(status, log, "the private Postgres ended; it will be restarted");
        if started.elapsed() >= STABLE_AFTER {
            backoff = Backoff::default();
        }
        tokio::select! {
            () = restart(&mut postgres, &mut backoff, &metrics) => {}
            _ = &mut stopped => break,
        }
    }
    postgres.stop().await
}

/// Returns once the server accepts connections again.
async fn restart(postgres: &mut PrivatePostgres, backoff: &mut Backoff, metrics: &Metrics) {
    let since = Instant::now();
    loop {
        tokio::time::sleep(backoff.next(random::share().unwrap_or(1.0))).await;
        metrics.database.restarts.inc();
        match postgres.restart().await {
            Ok(()) => {
                let away_millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(away_millis, "the private Postgres is running again");
                return;
            }
            Err(error) => {
                let retry_within_seconds = LONGEST_DELAY.as_secs();
                tracing::error!(
                    error = %Chain(&error),
                    retry_within_seconds,
                    "the private Postgres cannot be restarted; it will be tried again"
                );
            }
        }
    }
}

/// Exponential back-off with jitter: from half of each delay to all of it.
#[derive(Debug, Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next delay; `jitter` is from 0 to 1.
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
        let mut backoff = Backoff::default();
        let millis: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        let mut backoff = Backoff { attempts: u32::MAX };
        assert_eq!(backoff.next(0.0), LONGEST_DELAY / 2);
    }
}
