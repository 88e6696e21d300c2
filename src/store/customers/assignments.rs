//! The current assignment of each customer, and the history of its changes.
//!
//! The current assignment is stored in the customer's own row and written with the state
//! (`store::customers`). This module reads it and records its changes.

use chrono::{DateTime, Utc};

use crate::domain::audience::CustomerAudiences;
use crate::domain::drift::{AssignmentOrigin, CustomerPath, SeparateChanges};
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::model::NamedSegment;
use crate::domain::time::Timestamp;
use crate::store::{
    DatabaseTransaction, ReadOnlyDatabase, StoreError, TimeRange, from_sql, integer_array,
    model_id, to_sql,
};

/// The stored score of one customer by one deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAssignment {
    /// `None`: the rule-based fallback answered.
    pub model: Option<ModelId>,
    pub segment: NamedSegment,
    pub distance: Option<f32>,
    pub p_value: Option<f64>,
    pub confidence: Option<f32>,
    pub is_outlier: bool,
    /// Retained by hysteresis: another segment is nearer.
    pub is_retained_by_hysteresis: bool,
    /// Generation of the deployment that scored.
    pub generation: i64,
    pub assigned_at: Timestamp,
    /// Last change from one segment of a model to another; `None` if it never happened or
    /// predates this column.
    pub moved_at: Option<Timestamp>,
}

impl StoredAssignment {
    /// The part that the next assignment is compared with.
    pub(crate) fn to_previous(&self, audiences: &CustomerAudiences) -> PreviousAssignment {
        PreviousAssignment {
            generation: self.generation,
            is_fallback: self.model.is_none(),
            segment_id: self.segment.id.clone().into(),
            moved_at: self.moved_at,
            audiences: audiences.ids().to_vec(),
            audience_version: audiences.version(),
        }
    }
}

/// A stored segment. `name`: that in the model; the segments of the rule-based fallback have fixed
/// names.
pub(crate) fn named_segment(id: String, name: Option<String>) -> NamedSegment {
    match name {
        Some(name) => NamedSegment { id: id.into(), name: name.into() },
        None => NamedSegment::of_rules(&id),
    }
}

/// The previous assignment, as far as it decides whether a new one is a change and whether
/// hysteresis allows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousAssignment {
    pub generation: i64,
    pub is_fallback: bool,
    pub segment_id: String,
    pub moved_at: Option<Timestamp>,
    /// Ids of the customer's audiences, ascending.
    pub audiences: Vec<i32>,
    /// Version of the definitions by which the customer is in these audiences.
    pub audience_version: i64,
}

/// The stored audiences of a customer.
#[derive(Debug, Default)]
pub(crate) struct AudienceColumns {
    pub ids: Option<Vec<i32>>,
    pub version: i64,
}

impl PreviousAssignment {
    /// `None` if a customer has not been assigned yet.
    pub(crate) fn from_columns(
        generation: Option<i64>,
        fallback: Option<bool>,
        segment_id: Option<String>,
        moved_at: Option<DateTime<Utc>>,
        audiences: AudienceColumns,
    ) -> Option<Self> {
        let moved_at = moved_at.map(from_sql);
        Some(Self {
            generation: generation?,
            is_fallback: fallback?,
            segment_id: segment_id?,
            moved_at,
            audiences: audiences.ids.unwrap_or_default(),
            audience_version: audiences.version,
        })
    }
}

/// A history entry: a customer's first segment, or a change of segment, model or audiences.
#[derive(Debug)]
pub struct NewAssignmentChange<'a> {
    pub customer: &'a CustomerKey,
    pub now: &'a StoredAssignment,
    pub audiences: &'a CustomerAudiences,
    pub before: Option<&'a PreviousAssignment>,
    /// Neither the segment nor the model changed.
    pub is_of_audiences_only: bool,
}

impl NewAssignmentChange<'_> {
    fn audiences_before(&self) -> &[i32] {
        self.before.map_or(&[], |before| &before.audiences)
    }

    /// Whether the customer entered or left an audience.
    pub(crate) fn changes_audiences(&self) -> bool {
        self.audiences.ids() != self.audiences_before()
    }

    /// Ids of the audiences that the customer entered.
    fn entered(&self) -> Vec<i32> {
        let before = self.audiences_before();
        let mut entered = self.audiences.ids().to_vec();
        entered.retain(|id| before.binary_search(id).is_err());
        entered
    }

    /// Ids of the audiences that the customer left.
    fn left(&self) -> Vec<i32> {
        let mut left = self.audiences_before().to_vec();
        left.retain(|id| self.audiences.ids().binary_search(id).is_err());
        left
    }
}

/// Appends to the history. The customers' rows must be locked by this transaction.
pub async fn record_changes(
    tx: &mut DatabaseTransaction,
    changes: &[NewAssignmentChange<'_>],
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let columns = ChangeColumns::from_changes(changes);
    sqlx::query!(
        "insert into assignment_history
             (workspace_id, customer_id, assigned_at, generation, fallback, segment_id, distance,
              outlier, previous_generation, previous_fallback, previous_segment_id,
              audiences_entered, audiences_left, audiences_only)
         select $1::integer, unnest($2::text[]), unnest($3::timestamptz[]), unnest($4::bigint[]),
                unnest($5::boolean[]), unnest($6::text[]), unnest($7::real[]),
                unnest($8::boolean[]), unnest($9::bigint[]), unnest($10::boolean[]),
                unnest($11::text[]), unnest($12::text[])::integer[],
                unnest($13::text[])::integer[], unnest($14::boolean[])",
        tx.workspace_id(),
        &columns.customers as &[&str],
        &columns.times,
        &columns.generations,
        &columns.fallbacks,
        &columns.segments as &[&str],
        &columns.distances as &[Option<f32>],
        &columns.outliers,
        &columns.old_generations as &[Option<i64>],
        &columns.old_fallbacks as &[Option<bool>],
        &columns.old_segments as &[Option<&str>],
        &columns.entered as &[Option<String>],
        &columns.left as &[Option<String>],
        &columns.audiences_only,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Changes transposed to columns: each query parameter is one array.
pub(crate) struct ChangeColumns<'a> {
    pub(crate) customers: Vec<&'a str>,
    pub(crate) times: Vec<DateTime<Utc>>,
    pub(crate) generations: Vec<i64>,
    pub(crate) fallbacks: Vec<bool>,
    pub(crate) segments: Vec<&'a str>,
    pub(crate) distances: Vec<Option<f32>>,
    pub(crate) outliers: Vec<bool>,
    pub(crate) old_generations: Vec<Option<i64>>,
    pub(crate) old_fallbacks: Vec<Option<bool>>,
    pub(crate) old_segments: Vec<Option<&'a str>>,
    /// Arrays as Postgres texts.
    pub(crate) entered: Vec<Option<String>>,
    pub(crate) left: Vec<Option<String>>,
    pub(crate) audiences_only: Vec<bool>,
}

impl<'a> ChangeColumns<'a> {
    pub(crate) fn from_changes(changes: &[NewAssignmentChange<'a>]) -> Self {
        let now = changes.iter().map(|change| change.now);
        let before = changes.iter().map(|change| change.before);
        Self {
            customers: changes.iter().map(|change| change.customer.as_str()).collect(),
            times: now.clone().map(|a| to_sql(a.assigned_at)).collect(),
            generations: now.clone().map(|a| a.generation).collect(),
            fallbacks: now.clone().map(|a| a.model.is_none()).collect(),
            segments: now.clone().map(|a| &*a.segment.id).collect(),
            distances: now.clone().map(|a| a.distance).collect(),
            outliers: now.map(|a| a.is_outlier).collect(),
            old_generations: before
                .clone()
                .map(|previous| previous.map(|p| p.generation))
                .collect(),
            old_fallbacks: before.clone().map(|previous| previous.map(|p| p.is_fallback)).collect(),
            old_segments: before.map(|previous| previous.map(|p| p.segment_id.as_str())).collect(),
            entered: changes.iter().map(|c| integer_array(&c.entered())).collect(),
            left: changes.iter().map(|c| integer_array(&c.left())).collect(),
            audiences_only: changes.iter().map(|c| c.is_of_audiences_only).collect(),
        }
    }
}

/// A history entry: an assigned customer is merged into another id.
#[derive(Debug)]
pub(crate) struct NewCustomerMerge<'a> {
    pub customer: &'a CustomerKey,
    pub into: &'a CustomerKey,
    /// The assignment of the surviving customer.
    pub now: &'a StoredAssignment,
    pub before: &'a PreviousAssignment,
}

/// Appends to the history. The customers' rows must be locked by this transaction.
pub(crate) async fn record_merges(
    tx: &mut DatabaseTransaction,
    merges: &[NewCustomerMerge<'_>],
) -> Result<(), StoreError> {
    for merge in merges {
        sqlx::query!(
            "insert into assignment_history
                 (workspace_id, customer_id, merged_into, assigned_at, generation, fallback,
                  segment_id, distance, outlier, previous_generation, previous_fallback,
                  previous_segment_id, audiences_left)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, nullif($13, '{}'::integer[]))",
            tx.workspace_id(),
            merge.customer.as_str(),
            merge.into.as_str(),
            to_sql(merge.now.assigned_at),
            merge.now.generation,
            merge.now.model.is_none(),
            &*merge.now.segment.id,
            merge.now.distance,
            merge.now.is_outlier,
            merge.before.generation,
            merge.before.is_fallback,
            merge.before.segment_id,
            &merge.before.audiences,
        )
        .execute(&mut *tx.inner)
        .await?;
    }
    Ok(())
}

pub async fn find_current(
    db: &ReadOnlyDatabase,
    customer: &CustomerKey,
) -> Result<Option<StoredAssignment>, StoreError> {
    let row = sqlx::query!(
        r#"select case when fallback then null else active_model_id end as model_id,
                  segment_id as "segment_id!", name as "name?", distance, p_value, confidence, outlier as "outlier!",
                  coalesce(retained_by_hysteresis, false) as "retained_by_hysteresis!", generation as "generation!",
                  assigned_at as "assigned_at!", moved_at
           from customer join deployment using (workspace_id, generation)
                left join deployed_segment using (workspace_id, generation, segment_id)
           where workspace_id = $1 and customer_id = $2"#,
        db.workspace_id(),
        customer.as_str(),
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map(|row| {
        Ok(StoredAssignment {
            model: row.model_id.map(model_id).transpose()?,
            segment: named_segment(row.segment_id, row.name),
            distance: row.distance,
            p_value: row.p_value,
            confidence: row.confidence,
            is_outlier: row.outlier,
            is_retained_by_hysteresis: row.retained_by_hysteresis,
            generation: row.generation,
            assigned_at: from_sql(row.assigned_at),
            moved_at: row.moved_at.map(from_sql),
        })
    })
    .transpose()
}

/// The customers of a segment.
#[derive(Debug)]
pub(crate) struct SegmentCount {
    pub segment_id: String,
    pub customers: i64,
    /// Outliers among the customers.
    pub outliers: i64,
}

/// The present size of each segment, for one model or the fallback.
pub(crate) async fn count_by_segment(
    db: &ReadOnlyDatabase,
    model: Option<&ModelId>,
) -> Result<Vec<SegmentCount>, StoreError> {
    Ok(sqlx::query_as!(
        SegmentCount,
        r#"select segment_id as "segment_id!", count(*) as "customers!",
                  count(*) filter (where outlier) as "outliers!"
           from customer
           where workspace_id = $2
             and case when $1::text is null then fallback
                      else not fallback and generation = any(array(
                          select generation from deployment
                          where workspace_id = $2 and active_model_id = $1)) end
           group by segment_id order by 2 desc, 1"#,
        model.map(ModelId::as_str),
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?)
}

/// Flows of customers between the segments of one model in a period (end exclusive). A
/// customer with many changes counts once.
pub(crate) async fn count_flows(
    db: &ReadOnlyDatabase,
    model: &ModelId,
    period: TimeRange,
) -> Result<Vec<CustomerPath>, StoreError> {
    let rows = sqlx::query!(
        r#"with own as materialized (
            select generation from deployment where workspace_id = $4 and active_model_id = $1
        ), change_of as (
            select customer_id, transaction, change, segment_id, previous_segment_id,
                   merged_into is not null as merges, previous_segment_id is null as is_first,
                   fallback or coalesce(previous_fallback, false) as by_rules,
                   merged_into is null and not fallback
                       and generation in (select generation from own) as is_own,
                   not coalesce(previous_fallback, true)
                       and previous_generation in (select generation from own) as was_own
            from assignment_history
            where workspace_id = $4 and assigned_at >= $2 and assigned_at < $3
                  and not audiences_only
        ), went as (
            select (array_agg(case when was_own then previous_segment_id else segment_id end
                        order by transaction, change) filter (where is_own or was_own))[1]
                        as from_segment,
                   coalesce((array_agg(was_own order by transaction, change)
                        filter (where is_own or was_own))[1], false) as was_assigned,
                   (array_agg(is_first order by transaction, change))[1] as is_new,
                   (array_agg(case when is_own then segment_id end
                        order by transaction desc, change desc))[1] as to_segment,
                   count(*) filter (where is_own and was_own and segment_id <> previous_segment_id)
                        as moves,
                   count(*) filter (where not merges and not is_first and by_rules) as by_rules,
                   count(*) filter (where not merges and not is_first and not by_rules
                        and not (is_own and was_own)) as by_model,
                   count(*) filter (where merges) as merges
            from change_of group by customer_id
        )
        select was_assigned, is_new as "is_new!", from_segment, to_segment,
               count(*) as "customers!", count(*) filter (where moves > 0) as "movers!",
               sum(moves)::bigint as "moves!", sum(by_rules)::bigint as "by_rules!",
               sum(by_model)::bigint as "by_model!", sum(merges)::bigint as "merges!"
        from went group by was_assigned, is_new, from_segment, to_segment"#,
        model.as_str(),
        to_sql(period.since),
        to_sql(period.until),
        db.workspace_id(),
    )
    .fetch_all(&db.long_reads)
    .await?;
    let count = i64::unsigned_abs;
    let ways = rows.into_iter().map(|row| CustomerPath {
        start: match (row.was_assigned, row.is_new) {
            (Some(true), _) => AssignmentOrigin::AssignedBefore,
            (_, true) => AssignmentOrigin::FirstAssigned,
            (_, false) => AssignmentOrigin::TakenOver,
        },
        from: row.from_segment.map(Into::into),
        to: row.to_segment.map(Into::into),
        customers: count(row.customers),
        movers: count(row.movers),
        moves: count(row.moves),
        separate_changes: SeparateChanges {
            by_another_model: count(row.by_model),
            by_rules: count(row.by_rules),
            merged: count(row.merges),
        },
    });
    Ok(ways.collect())
}

/// Whether the history contains entries before `at`.
pub(crate) async fn has_history_before(
    db: &ReadOnlyDatabase,
    at: Timestamp,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select from assignment_history
                          where workspace_id = $1 and assigned_at < $2) as "is_there!""#,
        db.workspace_id(),
        to_sql(at),
    )
    .fetch_one(&db.pool)
    .await?)
}

/// Creates the history's partitions of this month and the next.
pub async fn create_partitions(
    tx: &mut DatabaseTransaction,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(r#"select make_history_partitions($1) as "made!: ()""#, to_sql(now))
        .execute(&mut *tx.inner)
        .await?;
    Ok(())
}

/// Locks the history against all other sessions until the transaction ends. Required before
/// creating or dropping partitions: readers lock the table first and then its partitions,
/// so the reverse order could deadlock.
pub(crate) async fn lock_history(tx: &mut DatabaseTransaction) -> Result<(), StoreError> {
    sqlx::query!("lock table assignment_history in access exclusive mode")
        .execute(&mut *tx.inner)
        .await?;
    Ok(())
}

/// Drops the history partitions that ended before `before`; returns their number.
pub async fn drop_partitions(
    tx: &mut DatabaseTransaction,
    before: Timestamp,
) -> Result<i32, StoreError> {
    Ok(sqlx::query_scalar!(r#"select drop_history_partitions($1) as "dropped!""#, to_sql(before))
        .fetch_one(&mut *tx.inner)
        .await?)
}
