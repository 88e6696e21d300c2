//! Accepted events, deduplicated by customer, message id and sender.

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::domain::access::MessageIdNamespace;
use crate::domain::event::{ContentHash, CustomerEvent, EventKind, Properties};
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
    /// Part of the identity of the event, with the customer and the message id.
    pub sender: MessageIdNamespace,
    pub event: CustomerEvent,
    /// The hash of the event as sent.
    pub content: ContentHash,
    /// The event names its customer by an anonymous id.
    pub is_anonymous: bool,
    pub link: Option<IdentityLink>,
    pub received_at: Timestamp,
}

impl ReceivedEvent {
    /// The identity of the event, in the order of [`EventId`].
    pub(crate) fn identity(&self) -> (&str, &str, &str) {
        let CustomerEvent { customer, message_id, .. } = &self.event;
        (customer.as_str(), message_id.as_str(), self.sender.as_str())
    }

    /// The link that the event asserts.
    pub(crate) fn asserted_link(&self) -> Option<LinkAssertion> {
        let CustomerEvent { timestamp, message_id, .. } = &self.event;
        let link = self.link.clone()?;
        Some(LinkAssertion {
            is_public: self.sender.is_public(),
            asserted_at: *timestamp,
            message_id: message_id.clone(),
            link,
            is_alias: self.event.kind == EventKind::Alias,
        })
    }

    /// A trusted sender names its customer by a known id.
    pub(crate) fn names_known_customer(&self) -> bool {
        !self.is_anonymous && !self.sender.is_public()
    }
}

/// The identity of an event. Transactions that insert the same events do so in this order:
/// by customer, message id, then sender, in byte order. This avoids deadlocks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventId {
    /// As sent.
    pub customer_id: String,
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
    let rows = customer_query!(
        r#"with inserted as (
               insert into event (workspace_id, customer_id, message_id, sender, kind, name,
                                  occurred_at, received_at, content_hash, properties)
               select $1::integer, unnest($2::text[]), unnest($3::text[]), unnest($4::text[]),
                      unnest($5::text[]), unnest($6::text[]), unnest($7::timestamptz[]),
                      unnest($8::timestamptz[]), unnest($9::bytea[]), unnest($10::jsonb[])
               on conflict (workspace_id, customer_id, message_id, sender) do nothing
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
               where workspace_id = $1
                 and customer_id = any(array(select customer_id from fresh))
               order by customer_id for update
           )
           select fresh.customer_id as "customer_id!", fresh.message_ids as "message_ids!",
                  fresh.senders as "senders!",
                  locked.state as "state?", "#
            + columns
            + r#"
           from fresh left join locked on locked.customer_id = fresh.customer_id
           order by fresh.customer_id"#,
        tx.workspace_id(),
        &columns.customers as &[&str],
        &columns.ids as &[&str],
        &columns.senders as &[&str],
        &columns.kinds as &[&str],
        &columns.names as &[&str],
        &columns.times,
        &columns.received,
        &columns.contents as &[&[u8]],
        &columns.properties as &[Json<&Properties>],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter()
        .map(|record| {
            let row = match record.state {
                Some(state) => Some(customer_row!(record, state)),
                None => None,
            };
            let ids = record.message_ids.into_iter().zip(record.senders);
            let events = ids.map(|(message_id, sender)| EventId {
                customer_id: record.customer_id.clone(),
                message_id,
                sender,
            });
            let events = events.collect();
            Ok(LockedCustomerEvents { customer: customer_key(record.customer_id)?, events, row })
        })
        .collect()
}

/// Inserts new events and returns their ids. `events` must be sorted by id.
pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    arrived: &[&ReceivedEvent],
) -> Result<Vec<EventId>, StoreError> {
    let columns = EventColumns::from_events(arrived);
    Ok(sqlx::query_as!(
        EventId,
        "insert into event (workspace_id, customer_id, message_id, sender, kind, name,
                            occurred_at, received_at, content_hash, properties)
         select $1::integer, unnest($2::text[]), unnest($3::text[]), unnest($4::text[]),
                unnest($5::text[]), unnest($6::text[]), unnest($7::timestamptz[]),
                unnest($8::timestamptz[]), unnest($9::bytea[]), unnest($10::jsonb[])
         on conflict (workspace_id, customer_id, message_id, sender) do nothing
         returning customer_id, message_id, sender",
        tx.workspace_id(),
        &columns.customers as &[&str],
        &columns.ids as &[&str],
        &columns.senders as &[&str],
        &columns.kinds as &[&str],
        &columns.names as &[&str],
        &columns.times,
        &columns.received,
        &columns.contents as &[&[u8]],
        &columns.properties as &[Json<&Properties>],
    )
    .fetch_all(&mut *tx.inner)
    .await?)
}

/// The content of a stored event.
#[derive(Debug)]
pub(crate) struct StoredContent {
    pub id: EventId,
    pub content: ContentHash,
    pub received_at: Timestamp,
}

/// The content of those events that are stored.
pub(crate) async fn find_contents(
    tx: &mut DatabaseTransaction,
    events: &[&ReceivedEvent],
) -> Result<Vec<StoredContent>, StoreError> {
    let identities = events.iter().map(|arrived| arrived.identity());
    let customers: Vec<&str> = identities.clone().map(|(customer, _, _)| customer).collect();
    let messages: Vec<&str> = identities.clone().map(|(_, message_id, _)| message_id).collect();
    let senders: Vec<&str> = identities.map(|(_, _, sender)| sender).collect();
    let rows = sqlx::query!(
        "select event.customer_id, event.message_id, event.sender, content_hash, received_at
         from unnest($2::text[], $3::text[], $4::text[]) as sent (customer_id, message_id, sender)
              join event on event.workspace_id = $1 and event.customer_id = sent.customer_id
                            and event.message_id = sent.message_id
                            and event.sender = sent.sender",
        tx.workspace_id(),
        &customers as &[&str],
        &messages as &[&str],
        &senders as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let contents = rows.into_iter().map(|row| {
        let hash = row.content_hash.as_slice().try_into();
        let content = ContentHash::from_bytes(decode(hash)?);
        let id = EventId {
            customer_id: row.customer_id,
            message_id: row.message_id,
            sender: row.sender,
        };
        Ok(StoredContent { id, content, received_at: from_sql(row.received_at) })
    });
    contents.collect()
}

/// Events transposed to columns: each query parameter is one array.
pub(crate) struct EventColumns<'a> {
    pub(crate) customers: Vec<&'a str>,
    pub(crate) ids: Vec<&'a str>,
    pub(crate) senders: Vec<&'a str>,
    pub(crate) kinds: Vec<&'a str>,
    pub(crate) names: Vec<&'a str>,
    pub(crate) times: Vec<DateTime<Utc>>,
    pub(crate) received: Vec<DateTime<Utc>>,
    pub(crate) contents: Vec<&'a [u8]>,
    pub(crate) properties: Vec<Json<&'a Properties>>,
}

impl<'a> EventColumns<'a> {
    pub(crate) fn from_events(arrived: &[&'a ReceivedEvent]) -> Self {
        let events = arrived.iter().map(|arrived| &arrived.event);
        debug_assert!(arrived.is_sorted_by(|a, b| a.identity() < b.identity()));
        Self {
            customers: events.clone().map(|e| e.customer.as_str()).collect(),
            ids: events.clone().map(|e| e.message_id.as_str()).collect(),
            senders: arrived.iter().map(|arrived| arrived.sender.as_str()).collect(),
            kinds: events.clone().map(|e| e.kind.as_str()).collect(),
            names: events.clone().map(|e| &*e.name).collect(),
            times: events.clone().map(|e| to_sql(e.timestamp)).collect(),
            received: arrived.iter().map(|arrived| to_sql(arrived.received_at)).collect(),
            contents: arrived.iter().map(|arrived| &arrived.content.as_bytes()[..]).collect(),
            properties: events.map(|e| Json(&e.properties)).collect(),
        }
    }
}

/// Stored events under these ids, except the `new` ones of this transaction.
pub(crate) async fn list_under_ids(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
    new: &[&ReceivedEvent],
) -> Result<Vec<PastEvent>, StoreError> {
    let mut events = Vec::new();
    for id in ids {
        let new = new.iter().filter(|arrived| arrived.event.customer == **id);
        let (messages, senders): (Vec<&str>, Vec<&str>) =
            new.map(|arrived| (arrived.event.message_id.as_str(), arrived.sender.as_str())).unzip();
        let rows = sqlx::query_as!(
            StoredEvent,
            r#"select message_id, sender, kind, name, occurred_at, received_at,
                      properties::text as "properties!"
               from event
               where workspace_id = $1 and customer_id = $2 and not exists (
                   select from unnest($3::text[], $4::text[]) as new (message_id, sender)
                   where new.message_id = event.message_id and new.sender = event.sender)"#,
            tx.workspace_id(),
            id.as_str(),
            &messages as &[&str],
            &senders as &[&str],
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        let rows = rows.into_iter().map(|row| row.read_past(id));
        events.append(&mut rows.collect::<Result<_, _>>()?);
    }
    Ok(events)
}

/// An event as stored.
#[derive(Debug)]
pub struct StoredEvent {
    pub(crate) message_id: String,
    pub(crate) sender: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) occurred_at: DateTime<Utc>,
    pub(crate) received_at: DateTime<Utc>,
    pub(crate) properties: String,
}

/// A stored event and its arrival time.
#[derive(Debug)]
pub(crate) struct PastEvent {
    pub(crate) event: CustomerEvent,
    pub(crate) received_at: Timestamp,
}

impl StoredEvent {
    pub(crate) fn read_past(self, customer: &CustomerKey) -> Result<PastEvent, StoreError> {
        let received_at = from_sql(self.received_at);
        Ok(PastEvent { event: self.read(customer)?, received_at })
    }

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
