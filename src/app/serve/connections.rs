//! Open connections of a listener: a limit, shared fairly between client networks.
//!
//! At the limit, a new connection evicts the one idle longest: first of the same network,
//! else of any. Connections with a request in progress are never evicted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::activity::ConnectionActivity;
use crate::service::limits::fair_share::{FairShare, ResourceShare};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::{ConnectionClosure, ConnectionRefusal, ListenerName};

/// The open connections of one listener.
#[derive(Debug)]
pub(super) struct OpenConnections {
    pub(super) listener: ListenerName,
    pub(super) metrics: Arc<ServiceMetrics>,
    shares: FairShare<IpAddr>,
    table: Mutex<ConnectionTable>,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    last_number: u64,
    by_number: HashMap<u64, ConnectionEntry>,
}

#[derive(Debug)]
struct ConnectionEntry {
    network: IpAddr,
    activity: Arc<ConnectionActivity>,
    _share: ResourceShare<IpAddr>,
}

/// A connection slot, released on drop.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    connections: Arc<OpenConnections>,
    number: u64,
    pub(super) activity: Arc<ConnectionActivity>,
}

impl OpenConnections {
    pub(super) fn new(listener: ListenerName, limit: usize, metrics: Arc<ServiceMetrics>) -> Self {
        metrics.connections.set_limit(listener, limit);
        Self { listener, metrics, shares: FairShare::new(limit), table: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        // Entries are added and removed whole, so a panic leaves the map consistent.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a new connection from `network`, or returns the reason for refusing it.
    pub(super) fn admit(
        self: &Arc<Self>,
        network: IpAddr,
    ) -> Result<ConnectionSlot, ConnectionRefusal> {
        let mut table = self.lock();
        let share = match self.shares.try_acquire(network, 1) {
            Some(share) => share,
            None => self.evict_and_acquire(&mut table, network)?,
        };
        table.last_number += 1;
        let number = table.last_number;
        let activity = Arc::new(ConnectionActivity::new());
        let entry = ConnectionEntry { network, activity: Arc::clone(&activity), _share: share };
        table.by_number.insert(number, entry);
        Ok(ConnectionSlot { connections: Arc::clone(self), number, activity })
    }

    /// Evicts an idle connection and acquires its share for `network`.
    fn evict_and_acquire(
        &self,
        table: &mut ConnectionTable,
        network: IpAddr,
    ) -> Result<ResourceShare<IpAddr>, ConnectionRefusal> {
        let is_full = self.shares.used() >= self.shares.capacity();
        let mut victim = table.idle_longest(|entry| entry.network == network);
        if victim.is_none() && is_full {
            victim = table.idle_longest(|_| true);
        }
        if let Some(number) = victim {
            self.evict(table, number);
        }
        let reason = if is_full { ConnectionRefusal::Full } else { ConnectionRefusal::Share };
        self.shares.try_acquire(network, 1).ok_or(reason)
    }

    /// Releases the slot at once; the connection's task closes it shortly after.
    fn evict(&self, table: &mut ConnectionTable, number: u64) {
        if let Some(entry) = table.by_number.remove(&number) {
            entry.activity.evicted.notify_one();
            self.metrics.connections.closed.add((self.listener, ConnectionClosure::Evicted), 1);
        }
    }
}

impl ConnectionTable {
    /// The connection idle longest among all that satisfy `may`.
    fn idle_longest(&self, may: impl Fn(&ConnectionEntry) -> bool) -> Option<u64> {
        let mut longest = None;
        for (&number, entry) in &self.by_number {
            let Some(since) = entry.activity.waiting_since().filter(|_| may(entry)) else {
                continue;
            };
            if longest.is_none_or(|(earliest, _)| since < earliest) {
                longest = Some((since, number));
            }
        }
        longest.map(|(_, number)| number)
    }
}

impl ConnectionSlot {
    pub(super) fn connections(&self) -> &Arc<OpenConnections> {
        &self.connections
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        // The entry is missing if the connection was evicted.
        self.connections.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::objective::ObjectiveTargets;
    use crate::domain::time::Timestamp;

    fn connections(limit: usize) -> Arc<OpenConnections> {
        let metrics =
            ServiceMetrics::new(Timestamp::from_millis(0), ObjectiveTargets::default()).unwrap();
        Arc::new(OpenConnections::new(ListenerName::Api, limit, Arc::new(metrics)))
    }

    fn network(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_longest_idle_of_the_same_address_makes_room() {
        let all = connections(4);
        let mut places: Vec<_> = (0..2).map(|_| all.admit(network(1)).unwrap()).collect();
        places[0].activity.begin_request();
        places.push(all.admit(network(1)).unwrap());
        assert!(all.lock().by_number.contains_key(&1), "the busy one stays");
        assert!(!all.lock().by_number.contains_key(&2));
        assert_eq!(all.shares.used(), 2);
        assert!(all.admit(network(2)).is_ok());
    }

    #[test]
    fn with_all_busy_a_new_one_is_refused() {
        let all = connections(2);
        let one = all.admit(network(1)).unwrap();
        one.activity.begin_request();
        assert_eq!(all.admit(network(1)).unwrap_err(), ConnectionRefusal::Share);
        let two = all.admit(network(2)).unwrap();
        two.activity.begin_request();
        assert_eq!(all.admit(network(3)).unwrap_err(), ConnectionRefusal::Full);
        two.activity.end_request();
        assert!(all.admit(network(3)).is_ok(), "an idle one of another address makes room");
        drop(one);
        assert!(all.admit(network(4)).is_ok());
    }
}
