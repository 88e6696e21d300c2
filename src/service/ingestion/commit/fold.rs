//! The work of a commit that needs no database: fold, score, write down.

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

/// Events read back that take as long as a customer.
const EVENTS_A_CUSTOMER: usize = 2;

/// What the new events are folded into.
#[derive(Debug)]
pub(crate) enum Base {
    /// A customer never seen before.
    New,
    /// The state as stored.
    Stored(Vec<u8>),
    /// Made of every event of the customer, the new ones included.
    Rebuilt(CustomerState),
}

/// One customer's part of a commit.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) customer: CustomerKey,
    /// Indices of its new events.
    pub(crate) events: Vec<usize>,
    /// Earlier events, of ids that belong to the customer from now on.
    pub(crate) gained: Vec<Event>,
    pub(crate) base: Base,
    pub(crate) held: Option<Held>,
    /// When it was to be looked at again, before these events.
    pub(crate) recheck_at: Option<Timestamp>,
    /// Of its row, where that is known and not locked.
    pub(crate) version: Option<Version>,
}

/// One customer after its new events.
#[derive(Debug)]
pub(crate) struct Folded {
    /// What was carried out.
    pub(crate) fold: Fold,
    pub(crate) assignment: Arc<Assignment>,
    state: Vec<u8>,
    last_event_at: Option<Timestamp>,
    recheck_at: Option<Timestamp>,
    introduction: Introduction,
}

impl Fold {
    /// Events of a customer whose row is known; `None`: there is none.
    pub(crate) fn of(customer: CustomerKey, events: Vec<usize>, row: Option<Seen>) -> Self {
        let (base, held, recheck_at, version) = match row {
            Some(row) => (Base::Stored(row.state), row.held, row.recheck_at, Some(row.version)),
            None => (Base::New, None, None, None),
        };
        Self { customer, events, gained: Vec::new(), base, held, recheck_at, version }
    }

    /// Carries out `work`, in order; `tally` counts the scores. Comes back without
    /// having been carried out: what has a state that this feature set cannot read.
    pub(crate) async fn all(
        work: Vec<Self>,
        all: &[Arrived],
        (lineup, tally): (&Lineup, &mut Tally),
        now: Timestamp,
    ) -> (Vec<Folded>, Vec<Self>) {
        let mut scratch = Scratch::default();
        let (mut folded, mut unreadable) = (Vec::with_capacity(work.len()), Vec::new());
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

    /// As [`Fold::all`], for one customer.
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

    /// What the new events say of the customer's own id.
    fn introduction(&self, all: &[Arrived]) -> Introduction {
        let mut by: Option<&Sender> = None;
        let mut is_of_one_public_key = true;
        for arrived in self.events.iter().map(|index| &all[*index]) {
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
    /// Whether the customer was never seen before.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.fold.base, Base::New)
    }

    /// Whether anything at all has happened.
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

    /// Once it has been written, as this version of the customer's row.
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
