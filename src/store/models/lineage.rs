//! Segment lineage over trainings, as recorded with each model.

use crate::domain::id::ModelId;
use crate::domain::model::NamedSegment;
use crate::domain::time::Timestamp;
use crate::domain::train::lineage::SegmentLineage;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, model_id, to_sql};

/// Records the lineage of a new model. Recording the same model again changes nothing.
pub(crate) async fn record(
    tx: &mut DatabaseTransaction,
    model: &ModelId,
    lineage: &SegmentLineage,
) -> Result<(), StoreError> {
    let lines = &lineage.lines;
    let events: Vec<&str> = lines.iter().map(|line| line.event.as_str()).collect();
    let old_ids: Vec<Option<String>> = lines.iter().map(|line| id(line.old.as_ref())).collect();
    let old_names: Vec<Option<String>> = lines.iter().map(|line| name(line.old.as_ref())).collect();
    let new_ids: Vec<Option<String>> = lines.iter().map(|line| id(line.new.as_ref())).collect();
    let new_names: Vec<Option<String>> = lines.iter().map(|line| name(line.new.as_ref())).collect();
    let members: Vec<i64> =
        lines.iter().map(|line| i64::try_from(line.members).unwrap_or(i64::MAX)).collect();
    let of_old: Vec<Option<f64>> = lines.iter().map(|line| line.share_of_old).collect();
    let of_new: Vec<Option<f64>> = lines.iter().map(|line| line.share_of_new).collect();
    sqlx::query!(
        "insert into segment_lineage
             (workspace_id, model_id, predecessor_id, line, event, old_segment_id, old_name,
              new_segment_id, new_name, members, share_of_old, share_of_new)
         select $11, $1, $2, relation.line::int, relation.event, relation.old_id, relation.old_name, relation.new_id,
                relation.new_name, relation.members, relation.of_old, relation.of_new
         from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
                     $9::double precision[], $10::double precision[]) with ordinality
              as relation (event, old_id, old_name, new_id, new_name, members, of_old, of_new, line)
         on conflict do nothing",
        model.as_str(),
        lineage.predecessor.as_ref().map(ModelId::as_str),
        &events as &[&str],
        &old_ids as &[Option<String>],
        &old_names as &[Option<String>],
        &new_ids as &[Option<String>],
        &new_names as &[Option<String>],
        &members,
        &of_old as &[Option<f64>],
        &of_new as &[Option<f64>],
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

fn id(segment: Option<&NamedSegment>) -> Option<String> {
    segment.map(|named| named.id.to_string())
}

fn name(segment: Option<&NamedSegment>) -> Option<String> {
    segment.map(|named| named.name.to_string())
}

/// Whether a model that has been deployed has a segment with this id.
pub(crate) async fn has_been_deployed(
    db: &ReadOnlyDatabase,
    segment_id: &str,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
               select from deployed_segment
               where workspace_id = $1 and segment_id = $2) as "found!""#,
        db.workspace_id(),
        segment_id,
    )
    .fetch_one(&db.pool)
    .await?)
}

/// One lineage event of a segment.
#[derive(Debug, Clone)]
pub(crate) struct LineageRow {
    pub model: ModelId,
    /// Position among the events of the model.
    pub line: i32,
    pub predecessor: Option<ModelId>,
    /// Registration time of the model.
    pub at: Timestamp,
    pub event: String,
    pub old: Option<NamedSegment>,
    pub new: Option<NamedSegment>,
    pub members: i64,
    pub share_of_old: Option<f64>,
    pub share_of_new: Option<f64>,
}

/// Sort key of a lineage event: registration of the model, the model, and the position.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct LineageKey {
    at: Timestamp,
    model_id: String,
    line: i32,
}

impl LineageRow {
    pub(crate) fn key(&self) -> LineageKey {
        LineageKey { at: self.at, model_id: self.model.to_string(), line: self.line }
    }
}

/// Lineage events of one segment: models newest first, the events of a model in their order.
pub(crate) async fn list_page_of_segment(
    db: &ReadOnlyDatabase,
    segment: &str,
    after: Option<&LineageKey>,
    limit: i64,
) -> Result<Vec<LineageRow>, StoreError> {
    let rows = sqlx::query_as!(
        RawLine,
        r#"select l.model_id, line, predecessor_id, created_at, event, old_segment_id, old_name,
                  new_segment_id, new_name, members, share_of_old, share_of_new
           from segment_lineage l join model using (workspace_id, model_id)
           where workspace_id = $1 and (old_segment_id = $2 or new_segment_id = $2)
               and ($3::timestamptz is null
                    or (created_at, l.model_id, -line) < ($3, $4, -$5::integer))
           order by created_at desc, l.model_id desc, line limit $6"#,
        db.workspace_id(),
        segment,
        after.map(|key| to_sql(key.at)),
        after.map(|key| &*key.model_id),
        after.map(|key| key.line),
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Lineage from the segments of `from` to those of `to`; empty unless `to` is the direct
/// successor.
pub(crate) async fn list_between(
    db: &ReadOnlyDatabase,
    from: &ModelId,
    to: &ModelId,
) -> Result<Vec<LineageRow>, StoreError> {
    let rows = sqlx::query_as!(
        RawLine,
        r#"select l.model_id, line, predecessor_id, created_at, event, old_segment_id, old_name,
                  new_segment_id, new_name, members, share_of_old, share_of_new
           from segment_lineage l join model using (workspace_id, model_id)
           where workspace_id = $1 and l.model_id = $2 and predecessor_id = $3 order by line"#,
        db.workspace_id(),
        to.as_str(),
        from.as_str(),
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

fn named(id: Option<String>, name: Option<String>) -> Option<NamedSegment> {
    Some(NamedSegment { id: id?.into(), name: name?.into() })
}

struct RawLine {
    model_id: String,
    line: i32,
    predecessor_id: Option<String>,
    created_at: chrono::DateTime<chrono::Utc>,
    event: String,
    old_segment_id: Option<String>,
    old_name: Option<String>,
    new_segment_id: Option<String>,
    new_name: Option<String>,
    members: i64,
    share_of_old: Option<f64>,
    share_of_new: Option<f64>,
}

impl TryFrom<RawLine> for LineageRow {
    type Error = StoreError;

    fn try_from(raw: RawLine) -> Result<Self, StoreError> {
        Ok(Self {
            model: model_id(raw.model_id)?,
            line: raw.line,
            predecessor: raw.predecessor_id.map(model_id).transpose()?,
            at: from_sql(raw.created_at),
            event: raw.event,
            old: named(raw.old_segment_id, raw.old_name),
            new: named(raw.new_segment_id, raw.new_name),
            members: raw.members,
            share_of_old: raw.share_of_old,
            share_of_new: raw.share_of_new,
        })
    }
}
