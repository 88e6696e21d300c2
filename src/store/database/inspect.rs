//! Database diagnosis for `segmentd check database`, over one read-only connection that
//! accepts any schema version.

use chrono::{DateTime, Utc};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::config::DatabaseTimeLimits;
use crate::domain::time::Timestamp;
use crate::store::database::connect::{connect_options, open_connection};
use crate::store::database::open_error::OpenDatabaseError;
use crate::store::database::time_limits::ConnectionPurpose;
use crate::store::database::{epoch, time_limits};
use crate::store::{StoreError, from_sql, to_sql};

/// A read-only connection for diagnosis.
#[derive(Debug)]
pub(crate) struct DatabaseInspection {
    connection: PgConnection,
}

/// Schema versions: the stored one, and the one that this program needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchemaVersions {
    /// `None` if the database has no tables of segmentd.
    pub stored: Option<i64>,
    pub needed: i64,
}

/// The current epoch of the change feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangeFeedEpoch {
    pub epoch: i32,
    pub begun_at: Timestamp,
    pub reason: String,
    /// The reason why it is no longer valid; `None` while it is.
    pub ended: Option<String>,
}

/// A sequence that would return a number already in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SequenceBehind {
    pub sequence: String,
    pub next_value: i64,
    pub greatest_value: i64,
}

/// Row counts of the change feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChangeFeedCounts {
    pub changes: i64,
    /// Changes behind the end of the feed while no transaction is running. No reader gets
    /// them.
    pub unreachable: i64,
}

/// Connection usage of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerConnections {
    /// Limit for roles that are not superusers.
    pub allowed: i64,
    pub in_use: i64,
}

impl DatabaseInspection {
    pub(crate) async fn open(
        url: &str,
        limits: &DatabaseTimeLimits,
    ) -> Result<Self, OpenDatabaseError> {
        let options = connect_options(url)?.options([("default_transaction_read_only", "on")]);
        let options = time_limits::apply_time_limits(limits, options, ConnectionPurpose::Long);
        Ok(Self { connection: open_connection(&options).await? })
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        Ok(self.connection.close().await?)
    }

    pub(crate) async fn schema_versions(&mut self) -> Result<SchemaVersions, StoreError> {
        let migrator = sqlx::migrate!("./migrations");
        let needed = migrator.iter().map(|migration| migration.version).max().unwrap_or_default();
        let exists = sqlx::query_scalar!(
            r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#
        )
        .fetch_one(&mut self.connection)
        .await?;
        let stored = if exists { self.stored_version().await? } else { None };
        Ok(SchemaVersions { stored, needed })
    }

    async fn stored_version(&mut self) -> Result<Option<i64>, StoreError> {
        // sqlx creates this table itself, not a migration, so the query cannot be checked
        // at compile time.
        Ok(sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
            .fetch_one(&mut self.connection)
            .await?)
    }

    pub(crate) async fn current_epoch(&mut self) -> Result<Option<ChangeFeedEpoch>, StoreError> {
        let ended = epoch::end_reason(&mut self.connection).await?;
        let row = sqlx::query!(
            "select epoch, begun_at, reason from change_epoch order by epoch desc limit 1"
        )
        .fetch_optional(&mut self.connection)
        .await?;
        Ok(row.map(|row| ChangeFeedEpoch {
            epoch: row.epoch,
            begun_at: from_sql(row.begun_at),
            reason: row.reason,
            ended,
        }))
    }

    pub(crate) async fn sequences_behind(&mut self) -> Result<Vec<SequenceBehind>, StoreError> {
        let rows = sqlx::query_as!(
            SequenceBehind,
            r#"select sequence as "sequence!", next_value as "next_value!",
                      greatest_value as "greatest_value!"
               from sequences_behind() order by sequence"#
        )
        .fetch_all(&mut self.connection)
        .await?;
        Ok(rows)
    }

    pub(crate) async fn count_changes(&mut self) -> Result<ChangeFeedCounts, StoreError> {
        // The transaction of a visible row has ended, so the row's position is below the
        // next one of this epoch.
        Ok(sqlx::query_as!(
            ChangeFeedCounts,
            r#"select count(*) as "changes!",
                      count(*) filter (
                          where transaction::text::bigint
                                >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                                   + change_offset()) as "unreachable!"
               from assignment_history"#
        )
        .fetch_one(&mut self.connection)
        .await?)
    }

    /// Months without a history partition, from the month of `now` to the next.
    pub(crate) async fn missing_partitions(
        &mut self,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let at: DateTime<Utc> = to_sql(now);
        Ok(sqlx::query_scalar!(
            r#"select to_char(month, 'YYYY-MM') as "month!"
               from (select date_trunc('month', $1::timestamptz at time zone 'UTC')
                            + make_interval(months => step) as month
                     from generate_series(0, 1) as step) as months
               where to_regclass('assignment_history_' || to_char(month, 'YYYY_MM')) is null
               order by month"#,
            at,
        )
        .fetch_all(&mut self.connection)
        .await?)
    }

    /// The clock of the database server.
    pub(crate) async fn clock(&mut self) -> Result<Timestamp, StoreError> {
        let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
            .fetch_one(&mut self.connection)
            .await?;
        Ok(from_sql(now))
    }

    pub(crate) async fn connections(&mut self) -> Result<ServerConnections, StoreError> {
        Ok(sqlx::query_as!(
            ServerConnections,
            r#"select current_setting('max_connections')::bigint
                      - current_setting('superuser_reserved_connections')::bigint as "allowed!",
                      (select count(*) from pg_stat_activity
                       where backend_type = 'client backend'
                             and pid <> pg_backend_pid()) as "in_use!""#
        )
        .fetch_one(&mut self.connection)
        .await?)
    }
}
