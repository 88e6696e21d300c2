//! The columns of a customer's row: the only list of them, and the conversion between a row
//! and its Rust values.
//!
//! The queries are checked at compile time, so the text of a query must consist of literals.
//! Two macros insert the columns into it: `with_customer_columns!` into a statement that
//! writes whole rows, and `customer_query!` into a statement that reads them.

use chrono::{DateTime, Utc};

use crate::domain::access::MessageIdNamespace;
use crate::domain::audience::CustomerAudiences;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::assignments::{PreviousAssignment, StoredAssignment};
use crate::store::{DatabaseTransaction, StoreError, integer_array, to_sql};

/// The new content of a customer's row.
#[derive(Debug)]
pub struct NewCustomerRow<'a> {
    pub customer: &'a CustomerKey,
    /// `None`: unchanged.
    pub state: Option<&'a [u8]>,
    pub last_event_at: Option<Timestamp>,
    pub assignment: &'a StoredAssignment,
    /// Time until which the assignment cannot change without events; `None`: never. An
    /// update that leaves this value unchanged touches no index.
    pub next_rescore_at: Option<Timestamp>,
    pub introduction: &'a IdIntroduction,
    pub audiences: &'a CustomerAudiences,
    /// Ids of the audiences in the present row, ascending.
    pub audiences_before: &'a [i32],
}

impl NewCustomerRow<'_> {
    /// The array of audiences as Postgres text; `None` if the row has them already.
    fn changed_audiences(&self) -> Option<String> {
        let ids = self.audiences.ids();
        (ids != self.audiences_before).then(|| integer_array(ids).unwrap_or_default())
    }
}

/// How the id of a customer became known, according to new events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum IdIntroduction {
    /// No statement: from a trusted sender if the id is new, else as recorded before.
    #[default]
    Unchanged,
    /// An event of a trusted sender names the id as a known customer: from now on only an
    /// `alias` of a trusted sender merges it into another customer.
    Known,
    /// An event of a public key names the id as a known customer: from now on no public key
    /// may link from it.
    KnownToPublicKey,
    /// All events name the id as anonymous and come from this public key, which has
    /// introduced the id if it is new.
    Anonymous(MessageIdNamespace),
}

impl IdIntroduction {
    /// The public key as SQL: null changes nothing, the empty text is a known customer.
    fn sender_as_sql(&self) -> Option<&str> {
        match self {
            Self::Unchanged => None,
            Self::Known | Self::KnownToPublicKey => Some(""),
            Self::Anonymous(sender) => Some(sender.as_str()),
        }
    }
}

/// Calls the macro `$statement` with `$input` and every column that a write of a row sets,
/// except `customer_id` ($1), `updated_at` ($2), `merged_into` and `workspace_id`, which is the
/// parameter after the last column. For each column:
///
/// - its Rust field, with the type of a value and its value in a `NewCustomerRow`;
/// - `bind`: the cast of the query argument, where sqlx cannot infer it;
/// - its SQL name, and the array of its new values;
/// - its value in an `insert`, in an `update`, and in the `empty` row of a merged id, where
///   `new` names the new values and `customer` the present row.
macro_rules! with_customer_columns {
    ($statement:ident! $input:tt) => {
        $statement! {
            $input
            { state: Option<&'a [u8]> = |row| row.state, bind(as &[Option<&[u8]>]),
              "state", "$3::bytea[]",
              insert "new.state", update "coalesce(new.state, customer.state)", empty "''" }
            { last_event_at: Option<DateTime<Utc>> = |row| row.last_event_at.map(to_sql),
              bind(as &[Option<DateTime<Utc>>]),
              "last_event_at", "$4::timestamptz[]",
              insert "new.last_event_at",
              update
              "case when new.state is null then customer.last_event_at else new.last_event_at end",
              empty "null" }
            { generations: i64 = |row| row.assignment.generation, bind(),
              "generation", "$5::bigint[]",
              insert "new.generation", update "new.generation", empty "null" }
            { fallbacks: bool = |row| row.assignment.model.is_none(), bind(),
              "fallback", "$6::boolean[]",
              insert "new.fallback", update "new.fallback", empty "null" }
            { segments: &'a str = |row| &*row.assignment.segment.id, bind(as &[&str]),
              "segment_id", "$7::text[]",
              insert "new.segment_id", update "new.segment_id", empty "null" }
            { distances: Option<f32> = |row| row.assignment.distance, bind(as &[Option<f32>]),
              "distance", "$8::real[]",
              insert "new.distance", update "new.distance", empty "null" }
            { p_values: Option<f64> = |row| row.assignment.p_value, bind(as &[Option<f64>]),
              "p_value", "$9::double precision[]",
              insert "new.p_value", update "new.p_value", empty "null" }
            { confidences: Option<f32> = |row| row.assignment.confidence,
              bind(as &[Option<f32>]),
              "confidence", "$10::real[]",
              insert "new.confidence", update "new.confidence", empty "null" }
            { outliers: bool = |row| row.assignment.is_outlier, bind(),
              "outlier", "$11::boolean[]",
              insert "new.outlier", update "new.outlier", empty "null" }
            { retained: bool = |row| row.assignment.is_retained_by_hysteresis, bind(),
              "retained_by_hysteresis", "$12::boolean[]",
              insert "new.retained_by_hysteresis", update "new.retained_by_hysteresis", empty "null" }
            { assigned_at: DateTime<Utc> = |row| to_sql(row.assignment.assigned_at), bind(),
              "assigned_at", "$13::timestamptz[]",
              insert "new.assigned_at", update "new.assigned_at", empty "null" }
            { moved_at: Option<DateTime<Utc>> = |row| row.assignment.moved_at.map(to_sql),
              bind(as &[Option<DateTime<Utc>>]),
              "moved_at", "$14::timestamptz[]",
              insert "new.moved_at", update "new.moved_at", empty "null" }
            { next_rescore_at: Option<DateTime<Utc>> = |row| row.next_rescore_at.map(to_sql),
              bind(as &[Option<DateTime<Utc>>]),
              "next_rescore_at", "$15::timestamptz[]",
              insert "new.next_rescore_at", update "new.next_rescore_at", empty "null" }
            { introductions: Option<&'a str> = |row| row.introduction.sender_as_sql(),
              bind(as &[Option<&str>]),
              "introduced_by", "$16::text[]",
              insert "nullif(new.introduced_by, '')",
              update
              "case when new.introduced_by = '' then null else customer.introduced_by end",
              empty "customer.introduced_by" }
            { known: bool = |row| *row.introduction == IdIntroduction::Known, bind(),
              "is_known", "$17::boolean[]",
              insert "new.is_known", update "customer.is_known or new.is_known",
              empty "customer.is_known" }
            { audiences: Option<String> = |row| row.changed_audiences(),
              bind(as &[Option<String>]),
              "audiences", "$18::text[]",
              insert "nullif(new.audiences, '')::integer[]",
              update
              "case when new.audiences is null then customer.audiences
                    else nullif(new.audiences, '')::integer[] end",
              empty "null" }
            { audience_versions: i64 = |row| row.audiences.version(), bind(),
              "audience_version", "$19::bigint[]",
              insert "new.audience_version", update "new.audience_version", empty "0" }
        }
    };
}
pub(crate) use with_customer_columns;

/// Defines `CustomerColumns` and the statements that write nothing but customers.
macro_rules! define_customer_columns {
    (() $({
        $field:ident: $element:ty = $value:expr, bind($($bind:tt)*), $name:literal, $array:literal,
        insert $insert:literal, update $update:literal, empty $empty:literal
    })+) => {
        /// Rows transposed to columns: each query parameter is one array. The statements
        /// unnest them side by side in `select`; in `from` Postgres would materialize each
        /// first.
        pub(crate) struct CustomerColumns<'a> {
            pub(crate) customers: Vec<&'a str>,
            $(pub(crate) $field: Vec<$element>,)+
        }

        impl<'a> CustomerColumns<'a> {
            pub(crate) fn from_rows(rows: &[NewCustomerRow<'a>]) -> Self {
                Self {
                    customers: rows.iter().map(|row| row.customer.as_str()).collect(),
                    $($field: rows.iter().map($value).collect(),)+
                }
            }

            /// Inserts the rows that do not exist yet; returns their number.
            pub(super) async fn insert(
                &self,
                tx: &mut DatabaseTransaction,
                now: Timestamp,
            ) -> Result<u64, StoreError> {
                let inserted = sqlx::query!(
                    "insert into customer (workspace_id, customer_id, updated_at" $(+ ", " + $name)+
                    + ") select $20::integer, new.customer_id, $2" $(+ ", " + $insert)+
                    + " from (select unnest($1::text[]) as customer_id"
                    $(+ ", unnest(" + $array + ") as " + $name)+
                    + ") as new on conflict (workspace_id, customer_id) do nothing",
                    &self.customers as &[&str],
                    to_sql(now),
                    $(&self.$field $($bind)*,)+
                    tx.workspace_id(),
                )
                .execute(&mut *tx.inner)
                .await?;
                Ok(inserted.rows_affected())
            }

            /// Updates existing rows.
            pub(super) async fn update(
                &self,
                tx: &mut DatabaseTransaction,
                now: Timestamp,
            ) -> Result<(), StoreError> {
                sqlx::query!(
                    "update customer set updated_at = $2" $(+ ", " + $name + " = " + $update)+
                    + " from (select unnest($1::text[]) as customer_id"
                    $(+ ", unnest(" + $array + ") as " + $name)+
                    + ") as new
                        where customer.workspace_id = $20
                          and customer.customer_id = new.customer_id",
                    &self.customers as &[&str],
                    to_sql(now),
                    $(&self.$field $($bind)*,)+
                    tx.workspace_id(),
                )
                .execute(&mut *tx.inner)
                .await?;
                Ok(())
            }
        }

        /// Empties rows that this transaction has locked, and sets the canonical id of each
        /// (`None`: its own).
        pub(super) async fn empty_rows(
            tx: &mut DatabaseTransaction,
            ids: &[&str],
            merged_into: &[Option<&str>],
            now: Timestamp,
        ) -> Result<(), StoreError> {
            sqlx::query!(
                "update customer set updated_at = $2, merged_into = new.merged_into"
                $(+ ", " + $name + " = " + $empty)+
                + " from unnest($1::text[], $3::text[]) as new (customer_id, merged_into)
                    where customer.workspace_id = $4
                      and customer.customer_id = new.customer_id",
                ids as &[&str],
                to_sql(now),
                merged_into as &[Option<&str>],
                tx.workspace_id(),
            )
            .execute(&mut *tx.inner)
            .await?;
            Ok(())
        }
    };
}
with_customer_columns!(define_customer_columns!());

/// A stored row, as far as the next assignment depends on it.
#[derive(Debug)]
pub struct CustomerRow {
    /// Only the feature set can decode it.
    pub state: Vec<u8>,
    /// `None` until first assigned.
    pub previous: Option<PreviousAssignment>,
    /// Scheduled time of the next rescoring.
    pub next_rescore_at: Option<Timestamp>,
    /// The canonical id, if the row is the marker of a merged id (`store::customers::identity`).
    pub merged_into: Option<CustomerKey>,
}

/// A row with the id of its customer.
#[derive(Debug)]
pub struct StoredCustomer {
    pub customer: CustomerKey,
    pub row: CustomerRow,
}

/// A `sqlx::query!` in which `columns` stands for the columns of a `CustomerRow`, except
/// `state`: a statement with an outer join declares that one nullable. `customer_row!`
/// converts its records.
macro_rules! customer_query {
    ($first:literal $(+ columns + $next:literal)+ $(, $($arguments:tt)*)?) => {
        sqlx::query!(
            $first
            $(+ "generation, fallback, segment_id, moved_at, next_rescore_at, merged_into, audiences, audience_version"
              + $next)+
            $(, $($arguments)*)?
        )
    };
}
pub(crate) use customer_query;

/// The `CustomerRow` of a record of `customer_query!`, with this state. Returns early if
/// the record is corrupt.
macro_rules! customer_row {
    ($record:ident, $state:expr) => {
        $crate::store::customers::columns::CustomerRow {
            state: $state,
            previous: $crate::store::customers::assignments::PreviousAssignment::from_columns(
                $record.generation,
                $record.fallback,
                $record.segment_id,
                $record.moved_at,
                $crate::store::customers::assignments::AudienceColumns {
                    ids: $record.audiences,
                    // Null only where an outer join found no row.
                    version: Option::from($record.audience_version).unwrap_or(0_i64),
                },
            ),
            next_rescore_at: $record.next_rescore_at.map($crate::store::from_sql),
            merged_into: $record
                .merged_into
                .map($crate::store::customers::customer_key)
                .transpose()?,
        }
    };
}
pub(crate) use customer_row;
