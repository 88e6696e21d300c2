//! `GET /v1/segments/{segment_id}/habits`: when and where the customers of a segment are active.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::model::NamedSegment;
use crate::domain::persona::habits::Habits;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::store::habits::{HabitSample, SegmentActivity, count_activity};

const DEFAULT_DAYS: u32 = 28;
const MAX_DAYS: u32 = 90;
/// Sampled customers: a share then has a standard error below 0.016.
const CUSTOMERS: i64 = 1_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SegmentHabitsQuery {
    /// Number of days up to now; default 28.
    #[param(minimum = 1, maximum = 90)]
    days: Option<u32>,
}

/// When and where the customers of a segment visit and order, beside all customers. A customer with few
/// events counts as much as one with many.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SegmentHabitsBody {
    segment: NamedSegmentBody,
    /// Beginning of the period.
    from: Timestamp,
    /// Time zone of hours and weekdays: that of the feature set.
    #[schema(example = "Europe/Berlin")]
    time_zone: String,
    /// Null if fewer than 30 of the sampled customers visited or ordered in the period.
    habits: Option<HabitsBody>,
}

/// Habits of up to 1,000 customers, chosen at random.
#[derive(Debug, Serialize, ToSchema)]
struct HabitsBody {
    /// Sampled customers of the segment with a visit or an order in the period.
    #[schema(example = 812)]
    customers: u64,
    /// The habits in words.
    #[schema(
        example = "Most active from 18:00 to 21:00: 31 % of their visits and orders (22 % for all customers), and on Saturdays: 24 % (17 %). 64 % of their visits are in the app (40 %)."
    )]
    description: String,
    busiest_hours: BusiestHoursBody,
    /// 24 entries: by hour of the day, from 0.
    hours: Vec<ActivityShareBody>,
    /// Seven entries: by weekday, Monday first.
    weekdays: Vec<ActivityShareBody>,
    /// Share of screen views (`screen`) among views of pages and screens: visits in the app. Null without
    /// views.
    app: Option<ActivityShareBody>,
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

/// A share of the events.
#[derive(Debug, Serialize, ToSchema)]
struct ActivityShareBody {
    /// Mean over the customers of the segment.
    #[schema(minimum = 0, maximum = 1, example = 0.11)]
    share: f64,
    /// Mean over all customers.
    #[schema(minimum = 0, maximum = 1, example = 0.08)]
    share_of_all: f64,
}

/// Get when and where the customers of a segment are active.
///
/// Views of pages and screens, and events that place an order, of up to 1,000 customers that are in the segment
/// now, and of as many of all customers: those in a random sample of 20,000. Other events, such as mails that the
/// shop sent, say nothing about when customers are active. Takes some seconds for customers with many events.
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
    caller: AuthorizedCaller<Read>,
    PathParameters(segment_id): PathParameters<String>,
    QueryParameters(query): QueryParameters<SegmentHabitsQuery>,
) -> Result<Json<SegmentHabitsBody>, ApiError> {
    let days = query.days.unwrap_or(DEFAULT_DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(ApiError::invalid(
            "days",
            format!("must be from 1 to {MAX_DAYS}; it is {days}"),
        ));
    }
    let deployment = state.deployments.snapshot();
    let (_, segment) = deployment.find_segment(&segment_id).ok_or_else(|| {
        ApiError::not_found(&format!("segment with the id `{segment_id}` that is served"))
    })?;
    let segment = NamedSegment::from(segment);
    let from = state.ingestion.now().plus_millis(-i64::from(days) * MILLIS_PER_DAY);
    let features = Arc::clone(&deployment.features);
    let sample = HabitSample {
        segment_id: &segment_id,
        customers: CUSTOMERS,
        from,
        event_names: &features.order_event_names(),
    };
    let SegmentActivity { own, all } = count_activity(&state.db, sample).await?;
    let time_zone = features.time_zone().into();
    let habits = heavy_work::run(&state, caller.user(), true, move |_| {
        let [own, all] = [own, all].map(|counts| Habits::measure(&counts, &features));
        Ok(own.zip(all).map(|(own, all)| HabitsBody::new(&own, &all)))
    })
    .await?;
    Ok(Json(SegmentHabitsBody { segment: segment.into(), from, time_zone, habits }))
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
            app: own
                .app_share
                .zip(all.app_share)
                .map(|(share, share_of_all)| ActivityShareBody { share, share_of_all }),
        }
    }
}
