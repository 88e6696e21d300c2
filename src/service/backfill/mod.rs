//! After the features change, or to repair: states rebuilt from their events,
//! while events go on coming.
//!
//! Intake rebuilds a state that it cannot read when its customer's next event
//! comes; this does the others. What is left to do can be seen in the states
//! themselves, so a run that was killed is gone on with by the next one. For
//! rebuilding all of them there is nothing to be seen: ranges of ids are
//! crossed off a list instead. Several may run at once: each passes over what
//! another has locked.

mod batch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::feature::{CustomerState, FeatureSet, Value};
use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::service::scoring::deployment::Live;
use crate::store::customers::backfill::{Range, Ranges};
use crate::store::customers::{StoredState, backfill, identity};
use crate::store::{Db, customers};
use batch::{Done, Made, Scope, Wait};

/// Customers a transaction: they are locked for as long as it takes, some
/// milliseconds each with a long history.
const BATCH: usize = 50;

#[derive(Debug)]
pub struct Backfill {
    pub db: Db,
    pub live: Arc<Live>,
    pub clock: Clock,
    /// Rest after each batch, as a multiple of what the batch took.
    pub pause_ratio: f64,
}

/// What was done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub rebuilt: u64,
    /// Right before, or by another's work meanwhile.
    pub unchanged: u64,
    /// Left as they were, by reason.
    pub failed: BTreeMap<String, u64>,
}

impl Tally {
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    fn add(&mut self, done: Done<'_>) {
        self.rebuilt += done.made.len() as u64;
        self.unchanged += done.unchanged;
        for reason in done.failed {
            *self.failed.entry(reason).or_default() += 1;
        }
    }
}

/// What was found of one customer.
#[derive(Debug)]
pub enum Finding {
    /// The state was what the events say.
    Right,
    /// There was none, or none that could be read; now there is.
    Unreadable,
    /// The features that differed: name, as stored, as the events say. None where
    /// the difference does not show now.
    Differed(Vec<(String, Value, Value)>),
    /// Left as it was, and why.
    Failed(String),
}

/// Told how much is done, and of how much.
pub type Progress<'p> = &'p (dyn Fn(u64, u64) + Sync);

impl Backfill {
    /// Rebuilds the states that these features cannot read.
    pub async fn stale(&self, progress: Progress<'_>) -> Result<Tally, ServiceError> {
        let mut tally = Tally::default();
        if self.pass(Wait::PassOver, &mut tally, progress).await? > 0 {
            // Others were at some: intake, or another run. Once more, for what they
            // have left, if anything.
            self.pass(Wait::ForOthers, &mut tally, progress).await?;
        }
        Ok(tally)
    }

    /// Compares every state with its events, and rebuilds those that differ.
    /// `begun` is told what there is to do.
    pub async fn all(
        &self,
        begun: impl FnOnce(Ranges),
        progress: Progress<'_>,
    ) -> Result<Tally, ServiceError> {
        let features = &Arc::clone(&self.live.snapshot().features);
        // Commits alone: the list of what is to do.
        let mut tx = self.db.begin().await?;
        tx.allow_long(&self.db).await?;
        let ranges = backfill::lay_out(&mut tx, features, self.clock.now()).await?;
        tx.commit().await?;
        begun(ranges);
        let mut tally = Tally::default();
        while let Some(range) = Range::claim(&self.db, features).await? {
            let keys = range.customers(self.db.read()).await?;
            self.live.refresh().await?;
            for keys in keys.chunks(BATCH) {
                tally.add(self.batch(keys, Scope::All, Wait::ForOthers).await?);
            }
            range.finish().await?;
            let left = backfill::ranges_left(self.db.read(), features).await?;
            let done = ranges.left.saturating_sub(left);
            progress(done.unsigned_abs(), ranges.left.unsigned_abs());
        }
        Ok(tally)
    }

    /// As [`Self::all`], for these customers, by the ids that they are kept under, in order.
    pub async fn these(
        &self,
        customers: &[CustomerKey],
        progress: Progress<'_>,
    ) -> Result<Tally, ServiceError> {
        let mut tally = Tally::default();
        for (place, keys) in customers.chunks(BATCH).enumerate() {
            tally.add(self.batch(keys, Scope::All, Wait::ForOthers).await?);
            let done = (place * BATCH + keys.len()) as u64;
            progress(done, customers.len() as u64);
        }
        Ok(tally)
    }

    /// Compares one customer's state with their events, and rebuilds it if it differs.
    pub async fn one(&self, customer: &CustomerKey) -> Result<Finding, ServiceError> {
        let kept = identity::find(self.db.read(), customer).await?;
        let keys = std::slice::from_ref(kept.as_ref().unwrap_or(customer));
        let mut done = self.batch(keys, Scope::All, Wait::ForOthers).await?;
        if let Some(why) = done.failed.pop() {
            return Ok(Finding::Failed(why));
        }
        match done.made.pop() {
            Some(made) => Ok(self.difference(&made)),
            None if done.unchanged > 0 => Ok(Finding::Right),
            None => Err(ServiceError::NotFound("such customer".into())),
        }
    }

    fn difference(&self, made: &Made<'_>) -> Finding {
        let features = &self.live.snapshot().features;
        let before = made.before.as_deref().map(|bytes| CustomerState::from_bytes(features, bytes));
        let Some(Ok(before)) = before else { return Finding::Unreadable };
        let now = self.clock.now();
        let (before, after) = (before.row(features, now), made.state.row(features, now));
        let names = features.features().iter().map(|def| def.name.to_string());
        let rows = names.zip(before.0).zip(after.0);
        let differing = rows.filter(|((_, before), after)| before != after);
        Finding::Differed(differing.map(|((name, before), after)| (name, before, after)).collect())
    }

    /// Goes through all customers once; returns how many were passed over.
    async fn pass(
        &self,
        wait: Wait,
        tally: &mut Tally,
        progress: Progress<'_>,
    ) -> Result<usize, ServiceError> {
        let total = customers::count(self.db.read()).await?.unsigned_abs();
        // What failed in the pass before is tried again.
        tally.failed = BTreeMap::new();
        let (mut after, mut looked_at, mut missed) = (String::new(), 0, 0);
        loop {
            let page = backfill::page(self.db.read(), &after).await?;
            let Some(last) = page.last() else { break };
            last.customer.as_str().clone_into(&mut after);
            looked_at += page.len() as u64;
            self.live.refresh().await?;
            let stale = unreadable(&self.live.snapshot().features, page);
            for keys in stale.chunks(BATCH) {
                let done = self.batch(keys, Scope::Unreadable, wait).await?;
                missed += done.missed;
                tally.add(done);
            }
            progress(looked_at, total.max(looked_at));
        }
        let touched = tally.rebuilt + tally.failures();
        tally.unchanged = looked_at.saturating_sub(touched);
        Ok(missed)
    }

    async fn batch<'k>(
        &self,
        keys: &'k [CustomerKey],
        scope: Scope,
        wait: Wait,
    ) -> Result<Done<'k>, ServiceError> {
        let started = Instant::now();
        let done = batch::run(self, keys, scope, wait).await?;
        let pause = started.elapsed().mul_f64(self.pause_ratio);
        tokio::time::sleep(pause.min(Duration::from_secs(10))).await;
        Ok(done)
    }
}

/// Whose state these features cannot read, in byte order.
fn unreadable(features: &FeatureSet, page: Vec<StoredState>) -> Vec<CustomerKey> {
    // A page takes a millisecond or two.
    let mut keys: Vec<CustomerKey> = tokio::task::block_in_place(|| {
        let stale =
            |stored: &StoredState| CustomerState::from_bytes(features, &stored.state).is_err();
        page.into_iter().filter(stale).map(|stored| stored.customer).collect()
    });
    keys.sort();
    keys
}
