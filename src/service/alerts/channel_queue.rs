//! Loop of a delivery worker: at most one message per channel is in flight, so that a receiver that
//! hangs delays only its own channel.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;

use futures_util::future::{Fuse, FusedFuture as _};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

/// A worker that sends messages of channels.
pub(super) trait ChannelWorker {
    /// A message that this process has the exclusive right to send.
    type Claim;

    /// Claims up to `capacity` due messages, one per channel, none of the channels in `busy`.
    async fn claim_due(&self, busy: &[String], capacity: usize) -> Vec<Self::Claim>;

    fn channel_id(claim: &Self::Claim) -> &str;

    /// Sends a message and records the outcome.
    async fn deliver(&self, claim: Self::Claim);

    /// Waits until messages may be due.
    async fn wait_until_due(&self);
}

/// Sends due messages until `stopped`, then completes those in flight.
///
/// The claim is polled in the same `select!` as the messages in flight, never awaited on its own.
/// Both need connections of one pool, and a delivery that is not polled never returns its
/// connection: awaiting the claim alone could deadlock.
pub(super) async fn serve_channels<W: ChannelWorker>(
    worker: &W,
    max_in_flight: usize,
    stopped: impl Future<Output = ()>,
) {
    let mut stopped = pin!(stopped);
    let mut in_flight = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    let mut claiming = pin!(Fuse::terminated());
    let mut is_due = true;
    let mut is_stopped = false;
    while !is_stopped || !in_flight.is_empty() || !claiming.is_terminated() {
        // A claim is started only when the previous one has finished, so `busy` is complete: it
        // names every channel with a message in flight.
        let capacity = max_in_flight - in_flight.len();
        if is_due && capacity > 0 && !is_stopped && claiming.is_terminated() {
            is_due = false;
            let busy: Vec<String> = busy.iter().cloned().collect();
            claiming.set(async move { worker.claim_due(&busy, capacity).await }.fuse());
        }
        tokio::select! {
            claims = &mut claiming => {
                for claim in claims {
                    let channel_id = W::channel_id(&claim).to_owned();
                    busy.insert(channel_id.clone());
                    in_flight.push(async move {
                        worker.deliver(claim).await;
                        channel_id
                    });
                }
            }
            Some(channel_id) = in_flight.next() => {
                busy.remove(&channel_id);
                // The channel may have further messages.
                is_due = true;
            }
            () = worker.wait_until_due() => is_due = true,
            () = &mut stopped, if !is_stopped => is_stopped = true,
        }
    }
}
