//! Fair sharing of a bounded resource between its users, by dynamic thresholds.
//!
//! A user may take at most as much as is still free (Choudhury and Hahne, "Dynamic Queue
//! Length Thresholds for Multiple Access Buffering", IEEE/ACM Transactions on Networking,
//! 1998). One user alone gets at most half of the capacity, two users a third each, *n*
//! users *1/(n+1)* each. A part of the capacity always stays free for a new user, so no
//! user can exclude another. No list of users is configured, and a decision costs one
//! short lock.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A resource of a fixed capacity, shared between users named by `K`. The unit is the
/// caller's: requests, events, bytes.
#[derive(Debug)]
pub struct FairShare<K: Eq + Hash> {
    inner: Arc<SharedResource<K>>,
}

#[derive(Debug)]
struct SharedResource<K: Eq + Hash> {
    capacity: usize,
    usage: Mutex<Usage<K>>,
    released: Notify,
}

#[derive(Debug)]
struct Usage<K: Eq + Hash> {
    total: usize,
    by_user: HashMap<K, usize>,
}

/// A part of the capacity, released on drop.
#[derive(Debug)]
pub struct ResourceShare<K: Eq + Hash> {
    inner: Arc<SharedResource<K>>,
    user: K,
    amount: usize,
}

impl<K: Eq + Hash> Clone for FairShare<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K: Eq + Hash + Clone + Debug> FairShare<K> {
    pub fn new(capacity: usize) -> Self {
        let usage = Mutex::new(Usage { total: 0, by_user: HashMap::new() });
        Self { inner: Arc::new(SharedResource { capacity, usage, released: Notify::new() }) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.inner.capacity
    }

    /// Capacity in use by all users.
    pub fn used(&self) -> usize {
        self.inner.lock().total
    }

    /// Takes `amount` for `user`, or returns `None` if that exceeds the user's share. A
    /// user without a share is admitted whenever `amount` is free: callers choose single
    /// amounts well below the capacity.
    pub fn try_acquire(&self, user: K, amount: usize) -> Option<ResourceShare<K>> {
        let is_granted = self.inner.lock().grant(self.inner.capacity, &user, amount);
        is_granted.then(|| ResourceShare { inner: Arc::clone(&self.inner), user, amount })
    }

    /// [`Self::try_acquire`] that waits until the amount is within the user's share. An
    /// amount above the capacity waits for ever.
    pub async fn acquire(&self, user: K, amount: usize) -> ResourceShare<K> {
        let mut share = ResourceShare { inner: Arc::clone(&self.inner), user, amount: 0 };
        share.grow(amount).await;
        share
    }
}

impl<K: Eq + Hash + Clone + Debug> ResourceShare<K> {
    pub fn user(&self) -> &K {
        &self.user
    }

    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Takes more for the same user, or returns false and changes nothing.
    pub fn try_grow(&mut self, amount: usize) -> bool {
        let is_granted = self.inner.lock().grant(self.inner.capacity, &self.user, amount);
        self.amount += if is_granted { amount } else { 0 };
        is_granted
    }

    /// [`Self::try_grow`] that waits. Two shares that both wait to grow can deadlock:
    /// callers that must not stall use [`Self::try_grow`].
    pub(crate) async fn grow(&mut self, amount: usize) {
        let inner = Arc::clone(&self.inner);
        loop {
            // Registered before the attempt, so that a release between the two is seen.
            let mut released = std::pin::pin!(inner.released.notified());
            released.as_mut().enable();
            if self.try_grow(amount) {
                return;
            }
            released.await;
        }
    }

    /// Moves a part, at most the whole, into a share of its own, released separately. The
    /// user's total is unchanged, and nothing is locked.
    #[must_use]
    pub fn split(&mut self, amount: usize) -> Self {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Self { inner: Arc::clone(&self.inner), user: self.user.clone(), amount }
    }

    /// Releases a part, at most the whole.
    pub fn shrink(&mut self, amount: usize) {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        self.inner.release(&self.user, amount);
    }
}

impl<K: Eq + Hash> Drop for ResourceShare<K> {
    fn drop(&mut self) {
        self.inner.release(&self.user, self.amount);
    }
}

impl<K: Eq + Hash> SharedResource<K> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Usage<K>> {
        // Counts change by single assignments, so a panic leaves them consistent.
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, user: &K, amount: usize) {
        if amount == 0 {
            return;
        }
        {
            let mut usage = self.lock();
            usage.total = usage.total.saturating_sub(amount);
            let rest = usage.by_user.get_mut(user).map(|used| {
                *used = used.saturating_sub(amount);
                *used
            });
            if rest == Some(0) {
                usage.by_user.remove(user);
            }
        }
        self.released.notify_waiters();
    }
}

impl<K: Eq + Hash + Clone> Usage<K> {
    fn grant(&mut self, capacity: usize, user: &K, amount: usize) -> bool {
        let used = self.by_user.get(user).copied().unwrap_or(0);
        let Some(free) =
            self.total.checked_add(amount).and_then(|total| capacity.checked_sub(total))
        else {
            return false;
        };
        // `free` is what remains after this request: the dynamic threshold.
        if used > 0 && used.saturating_add(amount) > free {
            return false;
        }
        if amount == 0 {
            return true;
        }
        self.total += amount;
        match self.by_user.get_mut(user) {
            Some(used) => *used += amount,
            None => {
                self.by_user.insert(user.clone(), amount);
            }
        }
        true
    }
}
