//! `GET /v1/segments/{segment_id}/habits`: when and where the customers of a segment are active.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::model::NamedSegment;
use crate::domain::persona::habits::Habits;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::store::habits::{HabitSample, count_activity};

const DEFAULT_DAYS: u32 = 90;
const DEFAULT_CHANNEL_PROPERTY: &str = "channel";
/// Sampled customers: a share then has a standard error below 0.016.
const CUSTOMERS: i64 = 1_000;
/// Events of one customer.
const EVENTS: i64 = 1_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SegmentHabitsQuery {
    /// Number of days up to now; default 90.
    #[param(minimum = 1, maximum = 365)]
    days: Option<u32>,
    /// Property whose text names the channel of an event; default `channel`. It must be one that a feature
    /// reads, because others are not stored.
    #[param(max_length = 256)]
    channel_property: Option<String>,
}

/// Hours, weekdays and channels of the events of a segment, beside those of all customers. A customer with
/// few events counts as much as one with many.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SegmentHabitsBody {
    segment: NamedSegmentBody,
    /// Beginning of the period.
    from: Timestamp,
    /// Time zone of hours and weekdays: that of the feature set.
    #[schema(example = "Europe/Berlin")]
    time_zone: String,
    /// Null if fewer than 30 of the sampled customers had an event in the period.
    habits: Option<HabitsBody>,
}

/// Habits of up to 1,000 customers, chosen at random.
#[derive(Debug, Serialize, ToSchema)]
struct HabitsBody {
    /// Sampled customers of the segment with an event in the period.
    #[schema(example = 812)]
    customers: u64,
    /// The habits in words.
    #[schema(
        example = "Most active from 18:00 to 21:00: 31 % of their events (22 % for all customers), and on Saturdays: 24 % (17 %). Mostly by app: 64 % (40 %)."
    )]
    description: String,
    busiest_hours: BusiestHoursBody,
    /// 24 entries: by hour of the day, from 0.
    hours: Vec<ActivityShareBody>,
    /// Seven entries: by weekday, Monday first.
    weekdays: Vec<ActivityShareBody>,
    /// Channels of at least five customers, most used first; the others are `other`. Empty if no event has
    /// a channel.
    channels: Vec<ChannelUseBody>,
}

/// The three hours in a row with most events.
#[derive(Debug, Serialize, ToSchema)]
struct BusiestHoursBody {
    /// The first hour.
    #[schema(minimum = 0, maximum = 23, example = 18)]
    from_hour: u32,
    /// The hour after the last.
    #[schema(minimum = 0, maximum = 23, example = 21)]
    until_hour: u32,
    /// Share of the events.
    #[schema(minimum = 0, maximum = 1, example = 0.31)]
    share: f64,
}

/// Share of the events in one hour or on one weekday.
#[derive(Debug, Serialize, ToSchema)]
struct ActivityShareBody {
    /// Mean over the customers of the segment.
    #[schema(minimum = 0, maximum = 1, example = 0.11)]
    share: f64,
    /// Mean over all customers.
    #[schema(minimum = 0, maximum = 1, example = 0.08)]
    share_of_all: f64,
}

/// Use of one channel.
#[derive(Debug, Serialize, ToSchema)]
struct ChannelUseBody {
    /// Text of the channel property; without it `web` for a page view and `app` for a screen view.
    #[schema(example = "app")]
    channel: String,
    /// Share of the events with a channel.
    #[schema(minimum = 0, maximum = 1, example = 0.64)]
    share: f64,
    /// The same for all customers; null if fewer than five of them use the channel.
    #[schema(minimum = 0, maximum = 1, example = 0.4)]
    share_of_all: Option<f64>,
}

/// Get when and where the customers of a segment are active.
///
/// From the stored events of up to 1,000 customers that are in the segment now, and of as many of all
/// customers. Takes some seconds for large segments.
#[utoipa::path(
    get,
    path = "/v1/segments/{segment_id}/habits",
    tag = "Segments",
    security(("key" = ["read"])),
    params(
        ("segment_id" = String, Path, description = "Id of the segment: `seg_…`"),
        SegmentHabitsQuery,
    ),
    responses(
        (status = 200, body = SegmentHabitsBody, description = "The habits"),
        (status = 404, description = "No model that is served has this segment"),
    )
)]
pub(crate) async fn get_segment_habits(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(segment_id): PathParameters<String>,
    QueryParameters(query): QueryParameters<SegmentHabitsQuery>,
) -> Result<Json<SegmentHabitsBody>, ApiError> {
    let days = query.days.unwrap_or(DEFAULT_DAYS);
    if !(1..=365).contains(&days) {
        return Err(ApiError::invalid("days", format!("must be from 1 to 365; it is {days}")));
    }
    let deployment = state.deployments.snapshot();
    let (_, segment) = deployment.find_segment(&segment_id).ok_or_else(|| {
        ApiError::not_found(&format!("segment with the id `{segment_id}` that is served"))
    })?;
    let from = state.ingestion.now().plus_millis(-i64::from(days) * MILLIS_PER_DAY);
    let time_zone = deployment.features.time_zone();
    let sample = HabitSample {
        segment_id: None,
        customers: CUSTOMERS,
        events: EVENTS,
        from,
        time_zone,
        channel_property: query.channel_property.as_deref().unwrap_or(DEFAULT_CHANNEL_PROPERTY),
    };
    let all = count_activity(&state.db, sample).await?;
    let own = HabitSample { segment_id: Some(&segment_id), ..sample };
    let own = count_activity(&state.db, own).await?;
    let habits = Habits::measure(&own).zip(Habits::measure(&all));
    Ok(Json(SegmentHabitsBody {
        segment: NamedSegment::from(segment).into(),
        from,
        time_zone: time_zone.into(),
        habits: habits.map(|(own, all)| HabitsBody::new(&own, &all)),
    }))
}

fn activity_shares(own: &[f64], all: &[f64]) -> Vec<ActivityShareBody> {
    let pairs = own.iter().zip(all);
    pairs
        .map(|(share, share_of_all)| ActivityShareBody {
            share: *share,
            share_of_all: *share_of_all,
        })
        .collect()
}

impl HabitsBody {
    fn new(own: &Habits, all: &Habits) -> Self {
        let busiest = own.busiest_hours();
        Self {
            customers: own.customers,
            description: own.describe(all),
            busiest_hours: BusiestHoursBody {
                from_hour: u32::try_from(busiest.from).unwrap_or_default(),
                until_hour: u32::try_from(busiest.until).unwrap_or_default(),
                share: busiest.share,
            },
            hours: activity_shares(&own.hours, &all.hours),
            weekdays: activity_shares(&own.weekdays, &all.weekdays),
            channels: own
                .channels
                .iter()
                .map(|one| ChannelUseBody {
                    channel: one.channel.to_string(),
                    share: one.share,
                    share_of_all: all.share_of_channel(&one.channel),
                })
                .collect(),
        }
    }
}
