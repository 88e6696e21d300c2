//! Requests to stop the service, and the delay between the first of them and the end of
//! serving (connection draining).

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};

/// Waits for the next request to stop; for ever once there are no more.
pub(super) async fn next_request(requests: &mut (impl Stream<Item = ()> + Unpin)) {
    if requests.next().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Waits for the shutdown delay, in which load balancers notice that the process is not ready;
/// ends early at a further request to stop.
pub(super) async fn delay(length: Duration, requests: &mut (impl Stream<Item = ()> + Unpin)) {
    if length.is_zero() {
        return;
    }
    let delay_seconds = length.as_secs();
    tracing::info!(
        delay_seconds,
        "shutdown requested: not ready any more, still serving for the shutdown delay; a second \
         signal ends the delay"
    );
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = next_request(requests) => {
            tracing::info!("second signal: the shutdown delay ends now");
        }
    }
}
