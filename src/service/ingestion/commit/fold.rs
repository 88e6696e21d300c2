//! The part of a commit that needs no database: fold events into state, score, encode.

use std::sync::Arc;

use crate::domain::access::Sender;
use crate::domain::event::Event;
use crate::domain::feature::CustomerState;
use crate::domain::id::CustomerKey;
use crate::domain::model::Scratch;
use crate::domain::time::Timestamp;
use crate::service::scoring::assignment;
use crate::service::scoring::assignment::CUSTOMERS_IN_PLACE;
use crate::service::scoring::deployment::Lineup;
use crate::service::scoring::observations::Tally;
use crate::store::customers::assignments::{Assignment, Held, NewChange};
use crate::store::customers::events::Arrived;
use crate::store::customers::lock_free::{Seen, Version};
use crate::store::customers::{Introduction, NewRow};

/// Number of events read from storage that cost as much time as scoring one customer.
const EVENTS_A_CUSTOMER: usize = 2;

/// The state into which the new events are folded.
#[derive(Debug)]
pub(crate) enum Base {
    /// No row yet: a new customer.
    New,
    /// The stored state, encoded.
    Stored(Vec<u8>),
    /// Rebuilt from all events of the customer, including the new ones.
    Rebuilt(CustomerState),
}

/// Work item of a commit: the new events of one customer and the state to fold them into.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) customer: CustomerKey,
    /// Indices of its new events in the batch.
    pub(crate) events: Vec<usize>,
    /// Earlier events of ids that this commit merges into the customer.
    pub(crate) gained: Vec<Event>,
    pub(crate) base: Base,
    pub(crate) held: Option<Held>,
    /// The scheduled rescore before these events.
    pub(crate) recheck_at: Option<Timestamp>,
    /// Version of the row for optimistic concurrency control, where the row is not
    /// locked.
    pub(crate) version: Option<Version>,
}

/// A customer after its new events: state, assignment and next scheduled rescore.
#[derive(Debug)]
pub(crate) struct Folded {
    /// The work item.
    pub(crate) fold: Fold,
    pub(crate) assignment: Arc<Assignment>,
    state: Vec<u8>,
    last_event_at: Option<Timestamp>,
    recheck_at: Option<Timestamp>,
    introduction: Introduction,
}

impl Fold {
    /// Work for a customer with a known row; `row` is `None` for a new customer.
    pub(crate) fn of(customer: CustomerKey, events: Vec<usize>, row: Option<Seen>) -> Self {
        let (base, held, recheck_at, version) = match row {
            Some(row) => (Base::Stored(row.state), row.held, row.recheck_at, Some(row.version)),
            None => (Base::New, None, None, None),
        };
        Self { customer, events, gained: Vec::new(), base, held, recheck_at, version }
    }

    /// Folds and scores `work` in order; `tally` counts the scores. Returns the results,
    /// and the items with a state that this feature set cannot read.
    pub(crate) async fn all(
        work: Vec<Self>,
        all: &[Arrived],
        (lineup, tally): (&Lineup, &mut Tally),
        now: Timestamp,
    ) -> (Vec<Folded>, Vec<Self>) {
        let mut scratch = Scratch::default();
        let (mut folded, mut unreadable) = (Vec::with_capacity(work.len()), Vec::new());
        // Yields after every `CUSTOMERS_IN_PLACE` customers, so that a large batch does
        // not block the other tasks of this thread.
        let mut since_a_rest = 0;
        for fold in work {
            let cost = 1 + fold.gained.len() / EVENTS_A_CUSTOMER;
            since_a_rest += cost;
            if since_a_rest > CUSTOMERS_IN_PLACE {
                since_a_rest = cost;
                tokio::task::yield_now().await;
            }
            let carry_out = || fold.carry_out(all, (lineup, &mut *tally), &mut scratch, now);
            let done = if cost <= CUSTOMERS_IN_PLACE {
                carry_out()
            } else {
                tokio::task::block_in_place(carry_out)
            };
            match done {
                Ok(done) => folded.push(done),
                Err(fold) => unreadable.push(*fold),
            }
        }
        (folded, unreadable)
    }

    /// [`Fold::all`] for one customer. Fails with the item if its state cannot be read.
    pub(crate) fn carry_out(
        self,
        all: &[Arrived],
        (lineup, tally): (&Lineup, &mut Tally),
        scratch: &mut Scratch,
        now: Timestamp,
    ) -> Result<Folded, Box<Self>> {
        match self.state(all, lineup) {
            Some(state) => {
                let introduction = self.introduction(all);
                let scored = self.score(&state, (lineup, tally), scratch, now);
                Ok(Folded { introduction, ..scored })
            }
            None => Err(Box::new(self)),
        }
    }

    fn state(&self, all: &[Arrived], lineup: &Lineup) -> Option<CustomerState> {
        let features = &lineup.features;
        let mut state = match &self.base {
            // Already contains the new events: `rebuild` read them inside this
            // transaction.
            Base::Rebuilt(state) => return Some(state.clone()),
            Base::New => CustomerState::new(features),
            Base::Stored(bytes) => CustomerState::from_bytes(features, bytes).ok()?,
        };
        for event in &self.gained {
            state.apply(features, event);
        }
        for index in &self.events {
            state.apply(features, &all[*index].event);
        }
        Some(state)
    }

    fn score(
        self,
        state: &CustomerState,
        (lineup, tally): (&Lineup, &mut Tally),
        scratch: &mut Scratch,
        now: Timestamp,
    ) -> Folded {
        // A canary deployment answers for its share of the customers.
        let answering = lineup.of(&self.customer);
        let stood = (state, self.held.as_ref());
        let (assignment, recheck_at) =
            assignment::assign(answering, Some(tally), stood, scratch, now, self.recheck_at);
        Folded {
            fold: self,
            assignment: Arc::new(assignment),
            state: state.to_bytes(&lineup.features),
            last_event_at: state.last_event_at(),
            recheck_at,
            introduction: Introduction::Unchanged,
        }
    }

    /// Whether the new events introduce the customer's id as known or as anonymous.
    fn introduction(&self, all: &[Arrived]) -> Introduction {
        let mut by: Option<&Sender> = None;
        let mut is_of_one_public_key = true;
        for arrived in self.events.iter().map(|index| &all[*index]) {
            // An event of a merged id does not introduce the surviving id.
            if arrived.event.customer != self.customer {
                continue;
            }
            if !arrived.is_anonymous {
                return Introduction::Known;
            }
            let sender = &arrived.sender;
            is_of_one_public_key &= sender.is_public() && by.is_none_or(|first| first == sender);
            by = Some(sender);
        }
        match by {
            Some(sender) if is_of_one_public_key => Introduction::Anonymous(sender.clone()),
            _ => Introduction::Unchanged,
        }
    }
}

impl Folded {
    /// Whether the customer has no row yet.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.fold.base, Base::New)
    }

    /// Whether the customer has any event.
    pub(crate) fn has_events(&self) -> bool {
        self.last_event_at.is_some()
    }

    pub(crate) fn row(&self) -> NewRow<'_> {
        NewRow {
            customer: &self.fold.customer,
            state: Some(&self.state),
            last_event_at: self.last_event_at,
            assignment: &self.assignment,
            recheck_at: self.recheck_at,
            introduction: &self.introduction,
        }
    }

    /// The cache entry after the write, with the written version of the row.
    pub(crate) fn seen(self, version: Version) -> (CustomerKey, Seen) {
        let seen = Seen {
            version,
            state: self.state,
            held: Some(self.assignment.stored()),
            recheck_at: self.recheck_at,
            is_merged: false,
        };
        (self.fold.customer, seen)
    }

    pub(crate) fn change(&self) -> NewChange<'_> {
        let Fold { customer, held, .. } = &self.fold;
        NewChange { customer, now: &self.assignment, before: held.as_ref() }
    }
}
