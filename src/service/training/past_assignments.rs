//! Merge join of customers with the changes of their assignments: both come in order of the
//! customer id, so each is read once and only one customer is in memory.

use std::cmp::Ordering;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::domain::train::backtest::AssignmentChange;
use crate::store::customers::past_assignments::{self, CustomerChange};
use crate::store::{ReadOnlyDatabase, StoreError};

/// Reader of the changes since an instant.
pub(super) struct ChangeReader<'d> {
    changes: BoxStream<'d, Result<CustomerChange, StoreError>>,
    /// The first change that belongs to no customer so far.
    next: Option<CustomerChange>,
    of_customer: Vec<AssignmentChange>,
}

impl<'d> ChangeReader<'d> {
    /// Starts to read. The present assignments must have been read before, or their reading have
    /// begun: a change in between is then among the changes.
    pub(super) async fn open(
        db: &'d ReadOnlyDatabase,
        since: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut changes = past_assignments::stream_changes(db, since).boxed();
        let next = changes.try_next().await?;
        Ok(Self { changes, next, of_customer: Vec::new() })
    }

    /// The changes of a customer, in order of time. Customers must be asked for in order of
    /// their id.
    pub(super) async fn changes_of(
        &mut self,
        customer: &CustomerKey,
    ) -> Result<&[AssignmentChange], StoreError> {
        self.of_customer.clear();
        while let Some(change) = self.next.take() {
            match change.customer.cmp(customer) {
                Ordering::Greater => {
                    self.next = Some(change);
                    break;
                }
                Ordering::Equal => self.of_customer.push(change.change),
                // A merged customer, or one that is not asked for.
                Ordering::Less => {}
            }
            self.next = self.changes.try_next().await?;
        }
        Ok(&self.of_customer)
    }
}
