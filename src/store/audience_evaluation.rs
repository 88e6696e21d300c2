//! Progress of the evaluation of stored customers after a change of audiences.
//!
//! One row per workspace: where a pass over the customers continues after a crash or on another
//! replica. Every write names the version that it is about. It has no effect once a later version
//! is being evaluated.

use crate::domain::id::CustomerKey;
use crate::store::customers::customer_key;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError};

/// Progress of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AudienceEvaluation {
    /// Version of the definitions that customers are evaluated with; 0 before the first.
    pub version: i64,
    /// Latest version that all customers are evaluated with.
    pub completed_version: i64,
    /// A pass after the completion has found nothing.
    pub is_verified: bool,
    /// The pass continues after this id; empty at the start of a pass.
    pub last_customer_id: String,
    /// Customers when the evaluation began.
    pub customers: i64,
    /// Customers evaluated since then, or found up to date.
    pub evaluated_customers: i64,
}

impl AudienceEvaluation {
    /// The state before the first change of a rule.
    const NONE: Self = Self {
        version: 0,
        completed_version: 0,
        is_verified: true,
        last_customer_id: String::new(),
        customers: 0,
        evaluated_customers: 0,
    };

    /// Whether all customers are evaluated with these definitions or later ones.
    pub(crate) fn is_complete(&self, version: i64) -> bool {
        self.completed_version >= version
    }

    /// Estimated number of customers still to evaluate; 0 only once the evaluation is complete.
    pub(crate) fn remaining_customers(&self) -> i64 {
        if self.is_complete(self.version) {
            return 0;
        }
        (self.customers - self.evaluated_customers).max(1)
    }
}

/// The next customers of a pass.
#[derive(Debug)]
pub(crate) struct EvaluationPage {
    /// Id of the last customer; `None` at the end of the pass.
    pub last_customer_id: Option<String>,
    /// Customers of the page that were evaluated already.
    pub up_to_date: i64,
    /// Customers that were evaluated with earlier definitions, in byte order.
    pub stale: Vec<CustomerKey>,
}

/// How far a transaction advances a pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EvaluationStep<'a> {
    pub version: i64,
    /// The pass continues after this id.
    pub last_customer_id: &'a str,
    /// Customers evaluated or found up to date.
    pub customers: i64,
}

/// The progress of the current or latest evaluation.
pub(crate) async fn find(db: &ReadOnlyDatabase) -> Result<AudienceEvaluation, StoreError> {
    let stored = sqlx::query_as!(
        AudienceEvaluation,
        "select version, completed_version, is_verified, last_customer_id, customers,
                evaluated_customers
         from audience_evaluation where workspace_id = $1",
        db.workspace_id(),
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(stored.unwrap_or(AudienceEvaluation::NONE))
}

/// Begins the evaluation of these definitions for `customers` customers, unless it or that of later
/// definitions has begun.
pub(crate) async fn begin(
    tx: &mut DatabaseTransaction,
    version: i64,
    customers: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into audience_evaluation as stored
             (workspace_id, version, completed_version, customers)
         values ($1, $2, 0, $3)
         on conflict (workspace_id) do update
         set version = $2, customers = $3, evaluated_customers = 0, last_customer_id = '',
             is_verified = false
         where stored.version < $2",
        tx.workspace_id(),
        version,
        customers,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// The next `limit` rows of a pass after an id, in the order of the primary key. The limit counts
/// rows up to date too: a pass that finds nothing also consists of short statements.
pub(crate) async fn read_page(
    db: &ReadOnlyDatabase,
    after: &str,
    version: i64,
    limit: i64,
) -> Result<EvaluationPage, StoreError> {
    let page = sqlx::query!(
        r#"select max(customer_id) as last,
                  count(*) filter (where audience_version >= $3) as "up_to_date!",
                  coalesce(array_agg(customer_id order by customer_id)
                               filter (where audience_version < $3), '{}') as "stale!"
           from (select customer_id, case when generation is not null then audience_version end
                     as audience_version
                 from customer where workspace_id = $1 and customer_id > $2
                 order by customer_id limit $4) as page"#,
        db.workspace_id(),
        after,
        version,
        limit,
    )
    .fetch_one(&db.pool)
    .await?;
    Ok(EvaluationPage {
        last_customer_id: page.last,
        up_to_date: page.up_to_date,
        stale: page.stale.into_iter().map(customer_key).collect::<Result<_, _>>()?,
    })
}

/// Advances the pass.
pub(crate) async fn advance(
    tx: &mut DatabaseTransaction,
    step: EvaluationStep<'_>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update audience_evaluation
         set last_customer_id = $3, evaluated_customers = evaluated_customers + $4
         where workspace_id = $1 and version = $2",
        tx.workspace_id(),
        step.version,
        step.last_customer_id,
        step.customers,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Starts another pass, with `left` customers known to be left.
pub(crate) async fn restart_pass(
    tx: &mut DatabaseTransaction,
    version: i64,
    left: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update audience_evaluation
         set last_customer_id = '', evaluated_customers = customers - $3
         where workspace_id = $1 and version = $2",
        tx.workspace_id(),
        version,
        left,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Records that a pass has found nothing: the evaluation is complete, and if it was complete
/// already, it is verified.
pub(crate) async fn finish_pass(
    tx: &mut DatabaseTransaction,
    version: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update audience_evaluation
         set is_verified = completed_version = version, completed_version = version,
             last_customer_id = '', evaluated_customers = customers
         where workspace_id = $1 and version = $2",
        tx.workspace_id(),
        version,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}
