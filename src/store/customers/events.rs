//! Accepted events, deduplicated by message id and sender.

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::domain::access::MessageIdNamespace;
use crate::domain::event::{CustomerEvent, EventKind, Properties};
use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::identity::{IdentityLink, LinkAssertion};
use crate::domain::json::RawJson;
use crate::domain::time::Timestamp;
use crate::store::customers::columns::{CustomerRow, customer_query, customer_row};
use crate::store::customers::customer_key;
use crate::store::{DatabaseTransaction, StoreError, from_sql, to_sql};

/// A received event, its identity link, and its arrival time.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedEvent {
    /// Part of the identity of the event, with the message id.
    pub sender: MessageIdNamespace,
    pub event: CustomerEvent,
    /// The event names its customer by an anonymous id.
    pub is_anonymous: bool,
    pub link: Option<IdentityLink>,
    pub received_at: Timestamp,
}

impl ReceivedEvent {
    /// The identity of the event, in the order of [`EventId`].
    pub(crate) fn identity(&self) -> (&str, &str) {
        (self.event.message_id.as_str(), self.sender.as_str())
    }

    /// The link that the event asserts.
    pub(crate) fn asserted_link(&self) -> Option<LinkAssertion> {
        let CustomerEvent { timestamp, message_id, .. } = &self.event;
        let link = self.link.clone()?;
        let is_public = self.sender.is_public();
        Some(LinkAssertion {
            is_public,
            asserted_at: *timestamp,
            message_id: message_id.clone(),
            link,
        })
    }
}

/// The identity of an event. Transactions that insert the same events do so in this order:
/// by message id, then sender, in byte order. This avoids deadlocks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventId {
    pub message_id: String,
    pub sender: String,
}

/// A customer with new events.
#[derive(Debug)]
pub(crate) struct LockedCustomerEvents {
    pub customer: CustomerKey,
    /// The new events of the customer.
    pub events: Vec<EventId>,
    /// The locked row; `None` for a new customer.
    pub row: Option<CustomerRow>,
}

impl LockedCustomerEvents {
    /// The row is a marker (`store::customers::identity`): the customer has another canonical id.
    pub(crate) fn is_merged(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.merged_into.is_some())
    }
}

/// Inserts new events, then locks their customers, in one round trip. Event ids come first
/// in order, then customers in order: one lock order, so no deadlock. `events` must be
/// sorted by id; the result is sorted by customer.
pub(crate) async fn insert_and_lock(
    tx: &mut DatabaseTransaction,
    arrived: &[&ReceivedEvent],
) -> Result<Vec<LockedCustomerEvents>, StoreError> {
    let columns = EventColumns::from_events(arrived);
    // Byte order, as Rust sorts: the database's own collation may differ.
    let rows = customer_query!(
        r#"with inserted as (
               insert into event (message_id, customer_id, kind, name, occurred_at, received_at,
                                  properties, sender)
               select unnest($1::text[]), unnest($2::text[]), unnest($3::text[]),
                      unnest($4::text[]), unnest($5::timestamptz[]), unnest($6::timestamptz[]),
                      unnest($7::jsonb[]), unnest($8::text[])
               on conflict (message_id, sender) do nothing
               returning customer_id, message_id, sender
           ), fresh as (
               select customer_id, array_agg(message_id) as message_ids,
                      array_agg(sender) as senders
               from inserted group by customer_id
           ), locked as (
               select customer_id, state, "#
            + columns
            + r#"
               from customer
               where customer_id = any(array(select customer_id from fresh))
               order by customer_id collate "C" for update
           )
           select fresh.customer_id as "customer_id!", fresh.message_ids as "message_ids!",
                  fresh.senders as "senders!",
                  locked.state as "state?", "#
            + columns
            + r#"
           from fresh left join locked on locked.customer_id = fresh.customer_id
           order by fresh.customer_id collate "C""#,
        &columns.ids as &[&str],
        &columns.customers as &[&str],
        &columns.kinds as &[&str],
        &columns.names as &[&str],
        &columns.times,
        &columns.received,
        &columns.properties as &[Json<&Properties>],
        &columns.senders as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter()
        .map(|record| {
            let row = match record.state {
                Some(state) => Some(customer_row!(record, state)),
                None => None,
            };
            Ok(LockedCustomerEvents {
                customer: customer_key(record.customer_id)?,
                events: event_ids(record.message_ids, record.senders),
                row,
            })
        })
        .collect()
}

fn event_ids(message_ids: Vec<String>, senders: Vec<String>) -> Vec<EventId> {
    let ids = message_ids.into_iter().zip(senders);
    ids.map(|(message_id, sender)| EventId { message_id, sender }).collect()
}

/// Inserts new events and returns their ids. `events` must be sorted by id.
pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    arrived: &[&ReceivedEvent],
) -> Result<Vec<EventId>, StoreError> {
    let columns = EventColumns::from_events(arrived);
    Ok(sqlx::query_as!(
        EventId,
        "insert into event (message_id, customer_id, kind, name, occurred_at, received_at,
                            properties, sender)
         select unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]),
                unnest($5::timestamptz[]), unnest($6::timestamptz[]), unnest($7::jsonb[]),
                unnest($8::text[])
         on conflict (message_id, sender) do nothing
         returning message_id, sender",
        &columns.ids as &[&str],
        &columns.customers as &[&str],
        &columns.kinds as &[&str],
        &columns.names as &[&str],
        &columns.times,
        &columns.received,
        &columns.properties as &[Json<&Properties>],
        &columns.senders as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?)
}

/// Events transposed to columns: each query parameter is one array.
pub(crate) struct EventColumns<'a> {
    pub(crate) ids: Vec<&'a str>,
    pub(crate) customers: Vec<&'a str>,
    pub(crate) kinds: Vec<&'a str>,
    pub(crate) names: Vec<&'a str>,
    pub(crate) times: Vec<DateTime<Utc>>,
    pub(crate) received: Vec<DateTime<Utc>>,
    pub(crate) properties: Vec<Json<&'a Properties>>,
    pub(crate) senders: Vec<&'a str>,
}

impl<'a> EventColumns<'a> {
    pub(crate) fn from_events(arrived: &[&'a ReceivedEvent]) -> Self {
        let events = arrived.iter().map(|arrived| &arrived.event);
        debug_assert!(arrived.is_sorted_by(|a, b| a.identity() < b.identity()));
        Self {
            ids: events.clone().map(|e| e.message_id.as_str()).collect(),
            customers: events.clone().map(|e| e.customer.as_str()).collect(),
            kinds: events.clone().map(|e| e.kind.as_str()).collect(),
            names: events.clone().map(|e| &*e.name).collect(),
            times: events.clone().map(|e| to_sql(e.timestamp)).collect(),
            received: arrived.iter().map(|arrived| to_sql(arrived.received_at)).collect(),
            properties: events.map(|e| Json(&e.properties)).collect(),
            senders: arrived.iter().map(|arrived| arrived.sender.as_str()).collect(),
        }
    }
}

/// Stored events under these ids, except the `new` ones of this transaction.
pub(crate) async fn list_under_ids(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
    new: &[&ReceivedEvent],
) -> Result<Vec<CustomerEvent>, StoreError> {
    let (messages, senders): (Vec<&str>, Vec<&str>) = new.iter().map(|one| one.identity()).unzip();
    let mut events = Vec::new();
    for id in ids {
        let rows = sqlx::query_as!(
            StoredEvent,
            r#"select message_id, kind, name, occurred_at, properties::text as "properties!"
               from event
               where customer_id = $1 and not exists (
                   select from unnest($2::text[], $3::text[]) as new (message_id, sender)
                   where new.message_id = event.message_id and new.sender = event.sender)"#,
            id.as_str(),
            &messages as &[&str],
            &senders as &[&str],
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        let rows = rows.into_iter().map(|row| row.read(id));
        events.append(&mut rows.collect::<Result<_, _>>()?);
    }
    Ok(events)
}

/// An event as stored.
#[derive(Debug)]
pub struct StoredEvent {
    pub(crate) message_id: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) occurred_at: DateTime<Utc>,
    pub(crate) properties: String,
}

impl StoredEvent {
    pub fn read(self, customer: &CustomerKey) -> Result<CustomerEvent, StoreError> {
        let properties = decode(RawJson::parse(self.properties.as_bytes()))?;
        Ok(CustomerEvent {
            message_id: decode(MessageId::try_from(self.message_id))?,
            customer: customer.clone(),
            kind: decode(EventKind::parse(&self.kind).ok_or("unknown kind"))?,
            name: self.name.into_boxed_str(),
            timestamp: from_sql(self.occurred_at),
            properties: Properties::from_json(properties, usize::MAX),
        })
    }
}

fn decode<T, E: std::fmt::Display>(value: Result<T, E>) -> Result<T, StoreError> {
    value.map_err(|why| StoreError::Corrupt { what: "event", why: why.to_string() })
}
