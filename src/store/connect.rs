//! Opening the pools, bringing the schema up to date, listening for news.

use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use crate::store::{Db, DedicatedDb, ReadDb, StoreError};

/// Postgres may have been restarted meanwhile.
pub(in crate::store) const TRY_AFTER_IDLE: Duration = Duration::from_secs(1);
/// Connections for critical writes, and as many for critical reads: they are rare and
/// short, and changes of the deployment exclude each other.
const CRITICAL_CONNECTIONS: u32 = 2;

/// Where Postgres is and how much of it to use.
#[derive(Debug, Clone)]
pub struct Connection {
    pub url: String,
    /// Connections of this process; a third of them only read, at least two. The critical
    /// ones, the listener's and those of [`DedicatedDb`]s come on top.
    pub max_connections: u32,
    pub acquire_timeout: Duration,
}

/// News that spreads to every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Lineup,
    Runs,
    Keys,
    Alerts,
}

impl News {
    const ALL: [Self; 4] = [Self::Lineup, Self::Runs, Self::Keys, Self::Alerts];

    pub(in crate::store) const fn channel(self) -> &'static str {
        match self {
            Self::Lineup => "segmentd_lineup",
            Self::Runs => "segmentd_runs",
            Self::Keys => "segmentd_keys",
            Self::Alerts => "segmentd_alerts",
        }
    }
}

impl Db {
    /// Connects, and brings the schema up to date (one replica at a time).
    pub async fn connect(connection: &Connection) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(&connection.url)?.application_name("segmentd");
        let readers = (connection.max_connections / 3).max(2);
        let writers = connection.max_connections.saturating_sub(readers).max(2);
        let pool = pool_options(writers, connection).connect_with(options.clone()).await?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        let reading = options.clone().options([("default_transaction_read_only", "on")]);
        let read = pool_options(readers, connection).connect_lazy_with(reading.clone());
        let critical = pool_options(CRITICAL_CONNECTIONS, connection).connect_lazy_with(options);
        let critical_read =
            pool_options(CRITICAL_CONNECTIONS, connection).connect_lazy_with(reading);
        Ok(Self {
            pool,
            read: ReadDb { pool: read },
            critical,
            critical_read: ReadDb { pool: critical_read },
        })
    }

    /// With at most so many connections, each made when it is first needed, on the
    /// thread that needs it. A single one is for a single user at a time.
    pub fn dedicated(&self, connections: u32) -> DedicatedDb {
        let options = (*self.pool.connect_options()).clone();
        let own = self.pool.options().clone().max_connections(connections);
        DedicatedDb::new(own.connect_lazy_with(options))
    }
}

impl ReadDb {
    /// With connections of its own, for work that holds one while it waits for the next:
    /// of shared connections, two of its kind could each wait for what the other holds.
    #[must_use]
    pub fn dedicated(&self, connections: u32) -> Self {
        let options = (*self.pool.connect_options()).clone();
        let own = self.pool.options().clone().max_connections(connections);
        Self { pool: own.connect_lazy_with(options) }
    }
}

/// A connection is tried before use when it has not been used for a while: to
/// try it every time is a round trip more for every transaction.
fn pool_options(max_connections: u32, connection: &Connection) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(connection.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for >= TRY_AFTER_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// Hears what other replicas and commands announce.
#[derive(Debug)]
pub struct Listener {
    inner: PgListener,
}

impl Listener {
    pub async fn connect(db: &Db) -> Result<Self, StoreError> {
        // The listener holds its connection for as long as the process runs: a connection
        // of the shared pool would be missing there.
        let options = (*db.pool.connect_options()).clone();
        let own = db.pool.options().clone().max_connections(1).connect_lazy_with(options);
        let mut inner = PgListener::connect_with(&own).await?;
        inner.listen_all(News::ALL.map(News::channel)).await?;
        Ok(Self { inner })
    }

    /// The next news; `None` after a lost connection, when some may have been missed.
    pub async fn next(&mut self) -> Result<Option<News>, StoreError> {
        let heard = self.inner.try_recv().await?;
        Ok(heard.and_then(|notification| {
            News::ALL.into_iter().find(|news| news.channel() == notification.channel())
        }))
    }
}
