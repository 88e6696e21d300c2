//! Connection pools, schema migration, and listeners for `notify`.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::config::TimeLimits;
use crate::store::database::time_limits::{ConnectionPurpose, TEST_AFTER_IDLE};
use crate::store::database::{epoch, time_limits};
use crate::store::{Db, DedicatedDb, ReadDb, StoreError, Tx};

/// Size of the pool of critical writes, and of that of critical reads. Two suffice: these
/// statements are rare and short, and changes of the deployment exclude each other.
const CRITICAL_CONNECTIONS: u32 = 2;

/// Address of Postgres and the share of it that this process may use.
#[derive(Debug, Clone)]
pub struct Connection {
    pub url: String,
    /// Connections of the shared pools: a third are read-only, at least two. Connections of
    /// the critical pools, the listener and [`DedicatedDb`]s are additional.
    pub max_connections: u32,
    pub acquire_timeout: Duration,
    pub time_limits: TimeLimits,
}

/// Subjects that replicas notify each other about (Postgres `notify`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeTopic {
    Lineup,
    Runs,
    Keys,
    Alerts,
}

impl ChangeTopic {
    const ALL: [Self; 4] = [Self::Lineup, Self::Runs, Self::Keys, Self::Alerts];

    pub(crate) const fn channel(self) -> &'static str {
        match self {
            Self::Lineup => "segmentd_lineup",
            Self::Runs => "segmentd_runs",
            Self::Keys => "segmentd_keys",
            Self::Alerts => "segmentd_alerts",
        }
    }
}

impl Tx {
    /// Notifies every replica on commit.
    pub async fn announce(&mut self, news: ChangeTopic) -> Result<(), StoreError> {
        sqlx::query!(r#"select pg_notify($1, '') as "sent!: ()""#, news.channel())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

impl Db {
    /// Connects and migrates the schema, one replica at a time.
    pub async fn connect(connection: &Connection) -> Result<Self, StoreError> {
        let limits = connection.time_limits;
        let options = connect_options(&connection.url)?;
        migrate(&time_limits::apply(&limits, options.clone(), ConnectionPurpose::Long)).await?;
        let readers = (connection.max_connections / 3).max(2);
        let writers = connection.max_connections.saturating_sub(readers).max(2);
        let writing = time_limits::apply(&limits, options.clone(), ConnectionPurpose::Write);
        let writers = pool_options(writers, connection).after_connect(|connection, _| {
            // A written row must not get a feed position of an earlier epoch.
            Box::pin(async move { epoch::ensure(connection).await })
        });
        let pool = writers.clone().connect_with(writing.clone()).await?;
        let critical = writers.max_connections(CRITICAL_CONNECTIONS).connect_lazy_with(writing);
        let options = options.options([("default_transaction_read_only", "on")]);
        let readers = pool_options(readers, connection).after_connect(|connection, _| {
            Box::pin(async move { epoch::refuse_ended(connection).await })
        });
        let reading = time_limits::apply(&limits, options.clone(), ConnectionPurpose::Read);
        let long = readers.clone().connect_lazy_with(time_limits::apply(
            &limits,
            options,
            ConnectionPurpose::Long,
        ));
        let read =
            ReadDb { pool: readers.clone().connect_lazy_with(reading.clone()), long: long.clone() };
        let critical_readers = readers.max_connections(CRITICAL_CONNECTIONS);
        let critical_read = ReadDb { pool: critical_readers.connect_lazy_with(reading), long };
        Ok(Self { pool, read, limits, critical, critical_read })
    }

    /// A pool of its own with at most `connections` connections. Each opens on first use,
    /// on the thread that uses it. A pool of one serves one user at a time.
    pub fn dedicated(&self, connections: u32) -> DedicatedDb {
        self.dedicated_for(ConnectionPurpose::Write, connections)
    }

    /// Like [`Db::dedicated`], with the time limits of `purpose`.
    pub fn dedicated_for(&self, purpose: ConnectionPurpose, connections: u32) -> DedicatedDb {
        let options =
            time_limits::apply(&self.limits, (*self.pool.connect_options()).clone(), purpose);
        let own = self.pool.options().clone().max_connections(connections);
        DedicatedDb::new(own.connect_lazy_with(options))
    }
}

pub(crate) fn connect_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    Ok(PgConnectOptions::from_str(url)?.application_name("segmentd"))
}

/// Migrates on a separate connection with the limits of long work: a migration takes as
/// long as its tables are large, and a second replica waits for the first.
async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection: PgConnection = options.connect().await?;
    sqlx::migrate!("./migrations").run(&mut connection).await?;
    // The schema is up to date even if closing the connection fails.
    let _ = connection.close().await;
    Ok(())
}

impl ReadDb {
    /// A separate pool for work that uses two connections at once. In a shared pool two
    /// such users could each wait for the connection of the other (deadlock).
    #[must_use]
    pub fn dedicated(&self, connections: u32) -> Self {
        let options = (*self.long.connect_options()).clone();
        let own = self.long.options().clone().max_connections(connections);
        let pool = own.connect_lazy_with(options);
        Self { long: pool.clone(), pool }
    }
}

/// Options of a pool. A connection is tested before use only after [`TEST_AFTER_IDLE`]:
/// testing it every time adds a round trip to every transaction.
fn pool_options(max_connections: u32, connection: &Connection) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(connection.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for >= TEST_AFTER_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// Subscriber to the notifications of other replicas and commands (Postgres `listen`).
#[derive(Debug)]
pub struct ChangeListener {
    inner: PgListener,
}

impl ChangeListener {
    pub async fn connect(db: &Db) -> Result<Self, StoreError> {
        // A listener occupies its connection until the process ends. Its own pool leaves
        // the shared pool at full size.
        let options = (*db.pool.connect_options()).clone();
        let own = db.pool.options().clone().max_connections(1).connect_lazy_with(options);
        let mut inner = PgListener::connect_with(&own).await?;
        inner.listen_all(ChangeTopic::ALL.map(ChangeTopic::channel)).await?;
        Ok(Self { inner })
    }

    /// The next notification. `None` after a lost connection: notifications may have been
    /// missed.
    pub async fn next(&mut self) -> Result<Option<ChangeTopic>, StoreError> {
        let Some(notification) = self.inner.try_recv().await? else { return Ok(None) };
        Ok(ChangeTopic::ALL.into_iter().find(|news| news.channel() == notification.channel()))
    }
}
