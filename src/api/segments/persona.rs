//! `PATCH /v1/segments/{segment_id}` and the history of a persona.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::definition_change::{DefinitionChangeBody, DefinitionVersionQuery, StoredChange};
use crate::api::models::profile::FeatureAspect;
use crate::api::request::page::PageCursor;
use crate::api::request::{
    AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, Train, parse_json,
};
use crate::api::segments::{SegmentBody, find_served};
use crate::api::{ApiError, ApiState};
use crate::domain::persona::{
    FieldChange, Persona, PersonaChange, SegmentStrategy, StandoutChange,
};
use crate::service::api_keys::KeyAuthenticator;
use crate::store::models::personas;
use crate::store::models::personas::PersonaVersion;

/// Name, summary, owner, strategy and notes given by users. A persona belongs to the id of the
/// segment and is kept over trainings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PersonaBody {
    /// Name that replaces the name from training; null: the name from training applies.
    #[schema(example = "Loyal families")]
    name: Option<String>,
    /// Description of the customers.
    #[schema(example = "Households with children that shop every week and rarely use coupons.")]
    summary: Option<String>,
    /// Person or team responsible for the segment.
    #[schema(example = "crm@example.com")]
    owner: Option<String>,
    /// Colour for charts.
    #[schema(example = "#1f77b4")]
    colour: Option<String>,
    /// Remarks.
    #[schema(example = "Agreed with the regional managers in May.")]
    notes: Option<String>,
    strategy: SegmentStrategyBody,
    change: DefinitionChangeBody,
}

/// Marketing strategy for the customers of a segment.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentStrategyBody {
    /// Marketing messages.
    #[schema(example = json!(["Thank you for shopping with us every week"]))]
    messages: Vec<String>,
    /// Marketing channels.
    #[schema(example = json!(["email", "till receipt"]))]
    channels: Vec<String>,
    /// Offers.
    #[schema(example = json!(["early access to new products"]))]
    offers: Vec<String>,
    /// Remark about the budget.
    #[schema(example = "At most 2 EUR a customer and month")]
    budget_note: Option<String>,
    /// Keys of the experiments that test the strategy; `GET /v1/segments/{segment_id}/effects` has what
    /// they show.
    #[schema(example = json!(["spring-mail"]))]
    experiments: Vec<String>,
}

/// A feature whose difference between the segment and all customers changed by at least half a
/// standard deviation since the last change of the persona.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StandoutChangeBody {
    /// Name of the feature.
    #[schema(example = "spend_365d")]
    feature: String,
    aspect: FeatureAspect,
    /// The compared category; left out for other aspects.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "web")]
    category: Option<String>,
    /// Standardised mean difference at the last change of the persona, in standard deviations of all
    /// customers; 0: less than 0.25.
    #[schema(example = 1.4)]
    then: f64,
    /// Standardised mean difference now; 0: less than 0.25.
    #[schema(example = 0.6)]
    now: f64,
}

impl PersonaBody {
    pub(super) fn new(stored: &PersonaVersion, keys: &KeyAuthenticator) -> Self {
        let Persona { name, summary, owner, colour, notes, strategy } = stored.persona.clone();
        let SegmentStrategy { messages, channels, offers, budget_note, experiments } = strategy;
        let change = StoredChange {
            version: stored.version,
            changed_at: stored.changed_at,
            changed_by: &stored.changed_by,
            reason: &stored.reason,
        };
        Self {
            name,
            summary,
            owner,
            colour,
            notes,
            strategy: SegmentStrategyBody { messages, channels, offers, budget_note, experiments },
            change: DefinitionChangeBody::new(change, keys),
        }
    }
}

impl From<StandoutChange> for StandoutChangeBody {
    fn from(change: StandoutChange) -> Self {
        let (aspect, category) = FeatureAspect::of(&change.aspect);
        let StandoutChange { feature, then, now, .. } = change;
        Self { feature: feature.into(), aspect, category, then, now }
    }
}

/// A change of the persona of a segment. A field left out is unchanged; null removes its value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateSegmentRequest {
    /// Name of the segment, unique among the served segments; null: the name from training.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200, example = "Loyal families")]
    name: FieldChange<String>,
    /// Description of the customers.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 2000, example = "Shop every week.")]
    summary: FieldChange<String>,
    /// Person or team responsible for the segment.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200, example = "crm@example.com")]
    owner: FieldChange<String>,
    /// Colour for charts: `#` and six hexadecimal digits.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^#[0-9a-fA-F]{6}$", example = "#1f77b4")]
    colour: FieldChange<String>,
    /// Remarks.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 2000, example = "Agreed in May.")]
    notes: FieldChange<String>,
    /// Marketing strategy; null removes all its fields.
    #[serde(default)]
    #[schema(value_type = Option<SegmentStrategyPatch>)]
    strategy: FieldChange<SegmentStrategyPatch>,
    /// Stored with the change.
    #[schema(min_length = 1, max_length = 2000, example = "Names agreed in the spring workshop")]
    reason: String,
}

/// A change of a strategy. A field left out is unchanged; null removes its value. Each list has at most
/// 20 entries, unless it says otherwise.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SegmentStrategyPatch {
    /// Marketing messages.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 20, example = json!(["Thank you"]))]
    messages: FieldChange<Vec<String>>,
    /// Marketing channels.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 20, example = json!(["email"]))]
    channels: FieldChange<Vec<String>>,
    /// Offers.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 20, example = json!(["early access"]))]
    offers: FieldChange<Vec<String>>,
    /// Remark about the budget.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 2000, example = "2 EUR a customer")]
    budget_note: FieldChange<String>,
    /// Keys of different experiments that test the strategy; at most five.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 5, example = json!(["spring-mail"]))]
    experiments: FieldChange<Vec<String>>,
}

impl SegmentStrategyPatch {
    /// Removes all parts of a strategy.
    const REMOVAL: Self = Self {
        messages: FieldChange::Removed,
        channels: FieldChange::Removed,
        offers: FieldChange::Removed,
        budget_note: FieldChange::Removed,
        experiments: FieldChange::Removed,
    };
}

/// Change the persona of a segment.
///
/// A new name applies on every replica within `deployment.poll_seconds`, in responses, exports and
/// alerts, and after further trainings. Each change is recorded with its author and reason. A change
/// also confirms the persona: `standout_changes` is empty until a later model describes the segment
/// differently. A request with a reason alone confirms the persona unchanged.
#[utoipa::path(
    patch,
    path = "/v1/segments/{segment_id}",
    tag = "Segments",
    security(("key" = ["train"])),
    params(("segment_id" = String, Path, description = "Id of the segment: `seg_…`")),
    request_body = UpdateSegmentRequest,
    responses(
        (status = 200, body = SegmentBody, description = "The segment with its new persona"),
        (status = 404, description = "No model that is served has this segment"),
        (status = 409, description = "Another segment has this name"),
    )
)]
pub(crate) async fn update_segment(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(segment_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<SegmentBody>, ApiError> {
    let request: UpdateSegmentRequest = parse_json(&body)?;
    let UpdateSegmentRequest { name, summary, owner, colour, notes, strategy, reason } = request;
    let strategy = match strategy {
        FieldChange::Unchanged => SegmentStrategyPatch::default(),
        FieldChange::Removed => SegmentStrategyPatch::REMOVAL,
        FieldChange::Set(strategy) => strategy,
    };
    let SegmentStrategyPatch { messages, channels, offers, budget_note, experiments } = strategy;
    let change = PersonaChange {
        name,
        summary,
        owner,
        colour,
        notes,
        messages,
        channels,
        offers,
        budget_note,
        experiments,
    };
    state.definitions.personas.change_persona(&segment_id, change, &caller.actor(reason)).await?;
    Ok(Json(find_served(&state, &segment_id).await?))
}

/// A page of the versions of a persona, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PersonaVersionListBody {
    /// Id of the segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    versions: Vec<PersonaBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// List the versions of a persona, newest first.
///
/// The complete persona after each change, with the author and the reason of the change. The list is
/// empty for a segment without a persona and for an unknown id. Personas of segments that no longer
/// exist are kept.
#[utoipa::path(
    get,
    path = "/v1/segments/{segment_id}/persona/history",
    tag = "Segments",
    security(("key" = ["read"])),
    params(
        ("segment_id" = String, Path, description = "Id of the segment: `seg_…`"),
        DefinitionVersionQuery,
    ),
    responses((status = 200, body = PersonaVersionListBody, description = "The versions"))
)]
pub(crate) async fn list_persona_versions(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(segment_id): PathParameters<String>,
    QueryParameters(query): QueryParameters<DefinitionVersionQuery>,
) -> Result<Json<PersonaVersionListBody>, ApiError> {
    let limit = query.limit.get();
    let before = query.cursor.map(|PageCursor(version)| version);
    let rows = personas::list_versions(&state.db, &segment_id, before, limit).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| row.version);
    let versions = rows.iter().map(|row| PersonaBody::new(row, &state.api_keys)).collect();
    Ok(Json(PersonaVersionListBody { segment_id, versions, next_cursor }))
}
