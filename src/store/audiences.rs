//! Definitions of audiences by version, and their sizes and members.

use std::collections::BTreeMap;

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::customers::customer_key;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// One version of an audience.
#[derive(Debug, Clone)]
pub(crate) struct AudienceVersion {
    /// Number of the change among those of all audiences.
    pub version: i64,
    pub audience_id: i32,
    pub name: String,
    pub expression: String,
    pub description: Option<String>,
    pub owner: Option<String>,
    pub is_deleted: bool,
    pub changed_at: Timestamp,
    pub changed_by: String,
    pub reason: String,
}

/// A new version of an audience.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewAudienceVersion<'a> {
    pub name: &'a str,
    pub expression: &'a str,
    pub description: Option<&'a str>,
    pub owner: Option<&'a str>,
    pub is_deleted: bool,
    pub changed_at: Timestamp,
    pub changed_by: &'a str,
    pub reason: &'a str,
}

/// Numbers of the latest changes of all audiences; 0 before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AudienceVersions {
    /// The latest change of any kind.
    pub newest: i64,
    /// The latest change of a rule: customers that were evaluated later are up to date.
    pub newest_rule: i64,
}

pub(crate) async fn newest_versions(db: &ReadOnlyDatabase) -> Result<AudienceVersions, StoreError> {
    Ok(sqlx::query_as!(
        AudienceVersions,
        r#"select coalesce(max(version), 0) as "newest!",
                  coalesce(max(version) filter (where changes_rule), 0) as "newest_rule!"
           from (select version, (expression, is_deleted) is distinct from
                     (lag(expression) over changes, lag(is_deleted) over changes) as changes_rule
                 from audience where workspace_id = $1
                 window changes as (partition by audience_id order by version)) as versions"#,
        db.workspace_id(),
    )
    .fetch_one(&db.pool)
    .await?)
}

/// The newest version of each audience that is not deleted, by name.
pub(crate) async fn list_in_force(
    db: &ReadOnlyDatabase,
) -> Result<Vec<AudienceVersion>, StoreError> {
    select_in_force(&db.pool, db.workspace).await
}

/// Like [`list_in_force`], locked against other changes until this transaction ends.
pub(crate) async fn lock_in_force(
    tx: &mut DatabaseTransaction,
) -> Result<Vec<AudienceVersion>, StoreError> {
    sqlx::query!("lock table audience in share row exclusive mode").execute(&mut *tx.inner).await?;
    select_in_force(&mut *tx.inner, tx.workspace).await
}

async fn select_in_force(
    executor: impl sqlx::PgExecutor<'_>,
    workspace: WorkspaceId,
) -> Result<Vec<AudienceVersion>, StoreError> {
    let rows = sqlx::query_as!(
        StoredVersion,
        r#"select version as "version!", audience_id as "audience_id!", name as "name!",
                  expression as "expression!", description, owner, is_deleted as "is_deleted!",
                  changed_at as "changed_at!", changed_by as "changed_by!", reason as "reason!"
           from latest_audience where workspace_id = $1 and not is_deleted order by name"#,
        workspace.number(),
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Versions of the audiences with this name, deleted ones included, before the version `before`,
/// newest first.
pub(crate) async fn list_versions(
    db: &ReadOnlyDatabase,
    name: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<AudienceVersion>, StoreError> {
    let rows = sqlx::query_as!(
        StoredVersion,
        "select version, audience_id, name, expression, description, owner, is_deleted, changed_at,
                changed_by, reason
         from audience
         where workspace_id = $1 and name = $2 and ($3::bigint is null or version < $3)
         order by version desc limit $4",
        db.workspace_id(),
        name,
        before,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Inserts a version. A name that no audience has had gets the next free id.
pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    new: NewAudienceVersion<'_>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into audience
             (workspace_id, audience_id, name, expression, description, owner, is_deleted,
              changed_at, changed_by, reason)
         values ($1, coalesce((select audience_id from audience
                               where workspace_id = $1 and name = $2 limit 1),
                              (select coalesce(max(audience_id), 0) + 1 from audience
                               where workspace_id = $1)),
                 $2, $3, $4, $5, $6, $7, $8, $9)",
        tx.workspace_id(),
        new.name,
        new.expression,
        new.description,
        new.owner,
        new.is_deleted,
        to_sql(new.changed_at),
        new.changed_by,
        new.reason,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Number of customers in an audience. Reads one index.
pub(crate) async fn count_members_of(
    db: &ReadOnlyDatabase,
    audience_id: i32,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "customers!" from customer
           where workspace_id = $1 and audiences is not null and audiences @> array[$2::integer]"#,
        db.workspace_id(),
        audience_id,
    )
    .fetch_one(&db.long_reads)
    .await?)
}

/// Number of customers in each audience that has any, by id. Reads one index.
pub(crate) async fn count_members(db: &ReadOnlyDatabase) -> Result<BTreeMap<i32, i64>, StoreError> {
    let rows = sqlx::query!(
        r#"select audience_id as "audience_id!", sum(customers)::bigint as "customers!"
           from (select audiences, count(*) as customers from customer
                 where workspace_id = $1 and audiences is not null group by audiences) as together
                cross join lateral unnest(audiences) as audience_id
           group by audience_id"#,
        db.workspace_id(),
    )
    .fetch_all(&db.long_reads)
    .await?;
    Ok(rows.into_iter().map(|row| (row.audience_id, row.customers)).collect())
}

/// Sort key of the members of an audience: all their audiences, then the customer.
pub(crate) type MemberKey = (Vec<i32>, String);

/// A page of the members of an audience, in the order of [`MemberKey`].
pub(crate) async fn list_members(
    db: &ReadOnlyDatabase,
    audience_id: i32,
    after: Option<&MemberKey>,
    limit: i64,
) -> Result<Vec<(MemberKey, CustomerKey)>, StoreError> {
    let (audiences, customer) = after.map(|(audiences, id)| (&audiences[..], &**id)).unzip();
    let rows = sqlx::query!(
        r#"select audiences as "audiences!", customer_id from customer
           where workspace_id = $1 and audiences is not null and audiences @> array[$2::integer]
                 and ($3::integer[] is null or (audiences, customer_id) > ($3, $4))
           order by audiences, customer_id limit $5"#,
        db.workspace_id(),
        audience_id,
        audiences,
        customer,
        limit,
    )
    .fetch_all(&db.long_reads)
    .await?;
    rows.into_iter()
        .map(|row| {
            let customer = customer_key(row.customer_id.clone())?;
            Ok(((row.audiences, row.customer_id), customer))
        })
        .collect()
}

/// Ids of the audiences of one customer.
pub(crate) async fn find_of_customer(
    db: &ReadOnlyDatabase,
    customer: &CustomerKey,
) -> Result<Vec<i32>, StoreError> {
    let audiences = sqlx::query_scalar!(
        "select audiences from customer where workspace_id = $1 and customer_id = $2",
        db.workspace_id(),
        customer.as_str(),
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(audiences.flatten().unwrap_or_default())
}

struct StoredVersion {
    version: i64,
    audience_id: i32,
    name: String,
    expression: String,
    description: Option<String>,
    owner: Option<String>,
    is_deleted: bool,
    changed_at: chrono::DateTime<chrono::Utc>,
    changed_by: String,
    reason: String,
}

impl From<StoredVersion> for AudienceVersion {
    fn from(row: StoredVersion) -> Self {
        Self {
            version: row.version,
            audience_id: row.audience_id,
            name: row.name,
            expression: row.expression,
            description: row.description,
            owner: row.owner,
            is_deleted: row.is_deleted,
            changed_at: from_sql(row.changed_at),
            changed_by: row.changed_by,
            reason: row.reason,
        }
    }
}
