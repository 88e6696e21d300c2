//! Opening the pools, bringing the schema up to date, listening for news.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::config::TimeLimits;
use crate::store::database::time_limits::Purpose;
use crate::store::database::{epoch, time_limits};
use crate::store::{Db, DedicatedDb, ReadDb, StoreError};

/// Postgres may have been restarted meanwhile.
pub(crate) const TRY_AFTER_IDLE: Duration = Duration::from_secs(1);
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
    pub time_limits: TimeLimits,
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

    pub(crate) const fn channel(self) -> &'static str {
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
        let limits = connection.time_limits;
        let options = connect_options(&connection.url)?;
        migrate(&time_limits::apply(&limits, options.clone(), Purpose::Long)).await?;
        let readers = (connection.max_connections / 3).max(2);
        let writers = connection.max_connections.saturating_sub(readers).max(2);
        let writing = time_limits::apply(&limits, options.clone(), Purpose::Write);
        let writers = pool_options(writers, connection).after_connect(|connection, _| {
            // A row that is written must not get the position of an earlier epoch.
            Box::pin(async move { epoch::ensure(connection).await })
        });
        let pool = writers.clone().connect_with(writing.clone()).await?;
        let critical = writers.max_connections(CRITICAL_CONNECTIONS).connect_lazy_with(writing);
        let options = options.options([("default_transaction_read_only", "on")]);
        let readers = pool_options(readers, connection).after_connect(|connection, _| {
            Box::pin(async move { epoch::refuse_ended(connection).await })
        });
        let reading = time_limits::apply(&limits, options.clone(), Purpose::Read);
        let long =
            readers.clone().connect_lazy_with(time_limits::apply(&limits, options, Purpose::Long));
        let read =
            ReadDb { pool: readers.clone().connect_lazy_with(reading.clone()), long: long.clone() };
        let critical_readers = readers.max_connections(CRITICAL_CONNECTIONS);
        let critical_read = ReadDb { pool: critical_readers.connect_lazy_with(reading), long };
        Ok(Self { pool, read, limits, critical, critical_read })
    }

    /// With at most so many connections, each made when it is first needed, on the
    /// thread that needs it. A single one is for a single user at a time.
    pub fn dedicated(&self, connections: u32) -> DedicatedDb {
        self.dedicated_for(Purpose::Write, connections)
    }

    /// As [`Db::dedicated`], with the time limits of this purpose.
    pub fn dedicated_for(&self, purpose: Purpose, connections: u32) -> DedicatedDb {
        let options =
            time_limits::apply(&self.limits, (*self.pool.connect_options()).clone(), purpose);
        let own = self.pool.options().clone().max_connections(connections);
        DedicatedDb::new(own.connect_lazy_with(options))
    }
}

pub(crate) fn connect_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    Ok(PgConnectOptions::from_str(url)?.application_name("segmentd"))
}

/// On a connection of its own: a migration takes as long as its tables are large, and a
/// second replica waits for the first.
async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection: PgConnection = options.connect().await?;
    sqlx::migrate!("./migrations").run(&mut connection).await?;
    // The schema is up to date, whatever becomes of the connection.
    let _ = connection.close().await;
    Ok(())
}

impl ReadDb {
    /// With connections of its own, for work that holds one while it waits for the next:
    /// of shared connections, two of its kind could each wait for what the other holds.
    #[must_use]
    pub fn dedicated(&self, connections: u32) -> Self {
        let options = (*self.long.connect_options()).clone();
        let own = self.long.options().clone().max_connections(connections);
        let pool = own.connect_lazy_with(options);
        Self { long: pool.clone(), pool }
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
