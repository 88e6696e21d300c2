//! What a state is rebuilt from and compared with: a customer's events, a page
//! at a time, and some customers picked at random, all of one instant.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::events::Stored;
use crate::store::customers::{self, StoredState};
use crate::store::{ReadDb, StoreError, Tx, to_sql};

/// Events a page, or more of one instant: few enough to be folded between two
/// breaths of other work, enough for most customers.
const PAGE: u16 = 500;

/// Something to read through.
pub trait Reader: Send {
    fn connection(&mut self) -> &mut PgConnection;
}

/// For states that are about to be written: their customers' rows are locked.
impl Reader for Tx {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}

/// One instant: a state and the events it was made of are both in it or both
/// not, whatever is committed meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    tx: Transaction<'static, Postgres>,
}

impl Reader for Snapshot {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}

/// Which events are known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// Those that had happened by then; `None`: all.
    pub happened_by: Option<Timestamp>,
    /// Those that had come by then; `None`: all.
    pub received_by: Option<Timestamp>,
}

/// The events of one customer, one id after the other, each oldest first.
#[derive(Debug)]
pub struct Pages {
    /// Ids whose events have not all been read; the last one's are being read.
    ids: Vec<String>,
    known: Known,
    /// The instant of the last one read.
    after: Option<DateTime<Utc>>,
}

impl Pages {
    /// Of all the ids of a customer.
    pub async fn of(
        reader: &mut impl Reader,
        customer: &CustomerKey,
        known: Known,
    ) -> Result<Self, StoreError> {
        let mut ids = sqlx::query_scalar!(
            "select customer_id from customer where merged_into = $1",
            customer.as_str(),
        )
        .fetch_all(reader.connection())
        .await?;
        ids.push(customer.as_str().to_owned());
        Ok(Self { ids, known, after: None })
    }

    /// The next ones; none at the end.
    pub async fn next(&mut self, reader: &mut impl Reader) -> Result<Vec<Stored>, StoreError> {
        while let Some(id) = self.ids.last() {
            let page = self.page(reader, id).await?;
            self.after = page.last().map(|last| last.occurred_at);
            if page.len() < usize::from(PAGE) {
                self.ids.pop();
                self.after = None;
            }
            if !page.is_empty() {
                return Ok(page);
            }
        }
        Ok(Vec::new())
    }

    async fn page(&self, reader: &mut impl Reader, id: &str) -> Result<Vec<Stored>, StoreError> {
        // All of the last instant, so that the index alone gives the order: a page of
        // a long history costs what any other does.
        Ok(sqlx::query_as!(
            Stored,
            r#"select message_id, kind, name, occurred_at, properties::text as "properties!"
               from event
               where customer_id = $1
                 and occurred_at > coalesce($2, '-infinity'::timestamptz)
                 and occurred_at <= coalesce($3, 'infinity'::timestamptz)
                 and received_at <= coalesce($4, 'infinity'::timestamptz)
               order by occurred_at fetch first ($5) rows with ties"#,
            id,
            self.after,
            self.known.happened_by.map(to_sql),
            self.known.received_by.map(to_sql),
            i64::from(PAGE),
        )
        .fetch_all(reader.connection())
        .await?)
    }
}

impl Snapshot {
    pub async fn open(db: &ReadDb) -> Result<Self, StoreError> {
        let tx = db.long.begin_with("begin isolation level repeatable read, read only").await?;
        Ok(Self { tx })
    }

    /// Up to `count` customers from places picked at random. Reads about as many
    /// blocks of the table, however large it is.
    pub async fn sample_states(&mut self, count: i64) -> Result<Vec<StoredState>, StoreError> {
        let Some(share) = self.share_of("customer", count).await? else { return Ok(Vec::new()) };
        let rows = sqlx::query!(
            "select customer_id, state from customer tablesample system ($1)
             where merged_into is null order by random() limit $2",
            share,
            count,
        )
        .fetch_all(&mut *self.tx)
        .await?;
        rows.into_iter().map(|row| customers::stored_state(row.customer_id, row.state)).collect()
    }

    /// As many customers as a sample of events has, `count` events at most, and
    /// those of them who have no state.
    pub async fn sample_stateless(
        &mut self,
        count: i64,
    ) -> Result<(u64, Vec<CustomerKey>), StoreError> {
        let Some(share) = self.share_of("event", count).await? else { return Ok((0, Vec::new())) };
        let rows = sqlx::query!(
            r#"select customer_id as "customer_id!", customer.customer_id is not null as "has_state!"
               from (select distinct customer_id
                     from (select customer_id from event tablesample system ($1)
                           order by random() limit $2) as picked) as sample
                    left join customer using (customer_id)"#,
            share,
            count,
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let found = rows.len() as u64;
        let stateless = rows.into_iter().filter(|row| !row.has_state);
        let stateless = stateless.map(|row| customers::customer_key(row.customer_id));
        Ok((found, stateless.collect::<Result<_, _>>()?))
    }

    /// The percentage of a table's blocks that makes about `blocks` of them;
    /// `None` for an empty table.
    async fn share_of(&mut self, table: &str, blocks: i64) -> Result<Option<f32>, StoreError> {
        Ok(sqlx::query_scalar!(
            "select least(100, 100 * $2::bigint::float8
                               / nullif(pg_relation_size($1::text::regclass)
                                        / current_setting('block_size')::bigint, 0))::real",
            table,
            blocks,
        )
        .fetch_one(&mut *self.tx)
        .await?)
    }
}
