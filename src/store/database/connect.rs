//! Connection pools, schema migration, and listeners for `notify`.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::config::DatabaseTimeLimits;
use crate::domain::workspace::WorkspaceId;
use crate::store::database::open_error::OpenDatabaseError;
use crate::store::database::time_limits::{ConnectionPurpose, TEST_AFTER_IDLE};
use crate::store::database::{epoch, time_limits};
use crate::store::{
    DatabaseHandle, DatabaseTransaction, DedicatedDatabase, ReadOnlyDatabase, StoreError,
};

/// Size of the pool of critical writes, and of that of critical reads. Two suffice: these
/// statements are rare and short, and changes of the deployment exclude each other.
const CRITICAL_CONNECTIONS: u32 = 2;
/// Time limit of the first connection. Without it, an address whose packets are dropped delays
/// the error by minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Address of Postgres and the share of it that this process may use.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    pub url: String,
    /// Connections of the shared pools: a third are read-only, at least two. Connections of
    /// the critical pools, the listener and [`DedicatedDatabase`]s are additional.
    pub max_connections: u32,
    pub acquire_timeout: Duration,
    pub time_limits: DatabaseTimeLimits,
}

/// Subjects that replicas notify each other about (Postgres `notify`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeTopic {
    Deployment,
    TrainingRuns,
    ApiKeys,
    Deliveries,
}

impl ChangeTopic {
    const ALL: [Self; 4] = [Self::Deployment, Self::TrainingRuns, Self::ApiKeys, Self::Deliveries];

    pub(crate) const fn channel(self) -> &'static str {
        match self {
            Self::Deployment => "segmentd_deployment",
            Self::TrainingRuns => "segmentd_runs",
            Self::ApiKeys => "segmentd_keys",
            Self::Deliveries => "segmentd_alerts",
        }
    }
}

impl DatabaseTransaction {
    /// Notifies every replica on commit.
    pub(crate) async fn notify_replicas(&mut self, news: ChangeTopic) -> Result<(), StoreError> {
        sqlx::query!(r#"select pg_notify($1, '') as "sent!: ()""#, news.channel())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

impl DatabaseHandle {
    /// Connects to the default workspace and migrates the schema, one replica at a time.
    pub async fn connect(connection: &ConnectionSettings) -> Result<Self, OpenDatabaseError> {
        let limits = connection.time_limits;
        let workspace = WorkspaceId::DEFAULT;
        let options = connect_options(&connection.url)?;
        migrate(&time_limits::apply_time_limits(&limits, options.clone(), ConnectionPurpose::Long))
            .await?;
        let readers = (connection.max_connections / 3).max(2);
        let writers = connection.max_connections.saturating_sub(readers).max(2);
        let writing =
            time_limits::apply_time_limits(&limits, options.clone(), ConnectionPurpose::Write);
        let writers = pool_options(writers, connection).after_connect(|connection, _| {
            // A written row must not get a feed position of an earlier epoch.
            Box::pin(async move { epoch::begin_if_restored(connection).await })
        });
        let pool = writers.clone().connect_with(writing.clone()).await;
        let pool = pool.map_err(|error| OpenDatabaseError::connection(&writing, &error))?;
        let critical = writers.max_connections(CRITICAL_CONNECTIONS).connect_lazy_with(writing);
        let options = options.options([("default_transaction_read_only", "on")]);
        let readers = pool_options(readers, connection).after_connect(|connection, _| {
            Box::pin(async move { epoch::refuse_ended(connection).await })
        });
        let reading =
            time_limits::apply_time_limits(&limits, options.clone(), ConnectionPurpose::Read);
        let long = readers.clone().connect_lazy_with(time_limits::apply_time_limits(
            &limits,
            options,
            ConnectionPurpose::Long,
        ));
        let read = ReadOnlyDatabase {
            workspace,
            pool: readers.clone().connect_lazy_with(reading.clone()),
            long_reads: long.clone(),
        };
        let critical_readers = readers.max_connections(CRITICAL_CONNECTIONS);
        let critical_read = ReadOnlyDatabase {
            workspace,
            pool: critical_readers.connect_lazy_with(reading),
            long_reads: long,
        };
        Ok(Self { workspace, pool, read, limits, critical_pool: critical, critical_read })
    }

    /// A pool of its own with at most `connections` connections. Each opens on first use,
    /// on the thread that uses it. A pool of one serves one user at a time.
    pub(crate) fn dedicated_pool(&self, connections: u32) -> DedicatedDatabase {
        self.dedicated_pool_for(ConnectionPurpose::Write, connections)
    }

    /// Like [`DatabaseHandle::dedicated_pool`], with the time limits of `purpose`.
    pub(crate) fn dedicated_pool_for(
        &self,
        purpose: ConnectionPurpose,
        connections: u32,
    ) -> DedicatedDatabase {
        let options = time_limits::apply_time_limits(
            &self.limits,
            (*self.pool.connect_options()).clone(),
            purpose,
        );
        let own = self.pool.options().clone().max_connections(connections);
        DedicatedDatabase::new(self.workspace, own.connect_lazy_with(options))
    }
}

pub(crate) fn connect_options(url: &str) -> Result<PgConnectOptions, OpenDatabaseError> {
    let options = PgConnectOptions::from_str(url);
    let options = options.map_err(|error| OpenDatabaseError::invalid_url(&error))?;
    Ok(options.application_name("segmentd"))
}

/// Opens a connection of its own, outside of every pool.
pub(crate) async fn open_connection(
    options: &PgConnectOptions,
) -> Result<PgConnection, OpenDatabaseError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(opened) => opened.map_err(|error| OpenDatabaseError::connection(options, &error)),
        Err(_) => Err(OpenDatabaseError::no_answer(options, CONNECT_TIMEOUT.as_secs())),
    }
}

/// Migrates on a separate connection with the limits of long work: a migration takes as
/// long as its tables are large, and a second replica waits for the first.
async fn migrate(options: &PgConnectOptions) -> Result<(), OpenDatabaseError> {
    // "relation _sqlx_migrations already exists" at every start is no news.
    let options = &options.clone().options([("client_min_messages", "warning")]);
    let mut connection = open_connection(options).await?;
    let migrated = sqlx::migrate!("./migrations").run(&mut connection).await;
    migrated.map_err(|error| OpenDatabaseError::migration(options, &error))?;
    // The schema is up to date even if closing the connection fails.
    let _ = connection.close().await;
    Ok(())
}

impl ReadOnlyDatabase {
    /// A separate pool for work that uses two connections at once. In a shared pool two
    /// such users could each wait for the connection of the other (deadlock).
    #[must_use]
    pub(crate) fn dedicated_pool(&self, connections: u32) -> Self {
        let options = (*self.long_reads.connect_options()).clone();
        let own = self.long_reads.options().clone().max_connections(connections);
        let pool = own.connect_lazy_with(options);
        Self { workspace: self.workspace, long_reads: pool.clone(), pool }
    }
}

/// Options of a pool. A connection is tested before use only after [`TEST_AFTER_IDLE`]:
/// testing it every time adds a round trip to every transaction.
fn pool_options(max_connections: u32, connection: &ConnectionSettings) -> PgPoolOptions {
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
pub(crate) struct ChangeListener {
    inner: PgListener,
}

impl ChangeListener {
    pub(crate) async fn connect(db: &DatabaseHandle) -> Result<Self, StoreError> {
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
    pub(crate) async fn next_topic(&mut self) -> Result<Option<ChangeTopic>, StoreError> {
        let Some(notification) = self.inner.try_recv().await? else { return Ok(None) };
        Ok(ChangeTopic::ALL.into_iter().find(|news| news.channel() == notification.channel()))
    }
}
