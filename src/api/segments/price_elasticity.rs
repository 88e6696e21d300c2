//! `GET /v1/segments/{segment_id}/price-elasticity`: how purchases of a segment go with prices.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::feature::ItemProperties;
use crate::domain::model::NamedSegment;
use crate::domain::persona::price_elasticity::{
    ElasticityShortcoming, PriceElasticity, ProductWeek,
};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::ServiceError;
use crate::store::purchased_items::{self, PurchasedProduct, SegmentPurchases};
use crate::store::segment_sample;

const DEFAULT_DAYS: u32 = 365;
const LEAST_DAYS: u32 = 28;
const MAX_DAYS: u32 = 730;
/// Sampled customers of the segment, and of all.
const CUSTOMERS: i64 = 2_000;
/// The items of an order in Segment's e-commerce spec.
const DEFAULT_EVENT: &str = "Order Completed";
const DEFAULT_ITEM: ItemProperties<'_> = ItemProperties {
    product: "products.product_id",
    price: "products.price",
    quantity: "products.quantity",
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PriceElasticityQuery {
    /// Number of days up to now; default 365.
    #[param(minimum = 28, maximum = 730)]
    days: Option<u32>,
    /// Name of the `track` events with the items; default `Order Completed`.
    event: Option<String>,
    /// Property with the id of the product, as features read it; default `products.product_id`. Without an
    /// array, an event is one item.
    product: Option<String>,
    /// Property with the price of a unit; default `products.price`.
    price: Option<String>,
    /// Property with the number of units; default `products.quantity`.
    quantity: Option<String>,
}

/// How the units that customers buy of a product go with its price, in weeks of the same product. An
/// association, not an effect: what else happens when a price falls, such as advertising, is part of it. An
/// experiment tells them apart.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PriceElasticityBody {
    segment: NamedSegmentBody,
    /// Beginning of the period.
    from: Timestamp,
    /// The elasticity in words, or what it would need.
    #[schema(
        example = "A price 10 % lower goes with 24 % more units of a product in a week (95 % interval 17 % to 31 %); among all customers, with 12 % more units."
    )]
    description: String,
    /// Of customers in the segment; null if the data do not show it.
    segment_elasticity: Option<ElasticityBody>,
    /// Of all customers; null if the data do not show it.
    overall_elasticity: Option<ElasticityBody>,
}

/// A price elasticity of demand: a price 1 % higher goes with this percentage more units.
#[derive(Debug, Serialize, ToSchema)]
struct ElasticityBody {
    /// The elasticity; below 0 if more is bought at lower prices.
    #[schema(example = -2.05)]
    value: f64,
    /// Lower end of the 95 % confidence interval.
    #[schema(example = -2.57)]
    low: f64,
    /// Upper end of the 95 % confidence interval.
    #[schema(example = -1.53)]
    high: f64,
    /// Products bought in at least two weeks, of the 300 that are bought most.
    #[schema(example = 240)]
    products: u64,
    /// Weeks with a purchase.
    #[schema(example = 52)]
    weeks: u64,
    /// Units bought.
    #[schema(example = 18_344.0)]
    units: f64,
}

/// Get how purchases of a segment go with prices.
///
/// From the orders of up to 2,000 customers that are in the segment now, and of as many of all customers: those in
/// a random sample of 20,000. The units of each product in each week are regressed on the logarithm of the mean
/// price paid (Poisson regression with effects of products and weeks, standard errors clustered by product).
/// Takes some seconds for customers with many orders.
///
/// Features must read the product, the price and the quantity of the items, or they are not stored.
#[utoipa::path(
    get,
    path = "/v1/segments/{segment_id}/price-elasticity",
    tag = "Segments",
    security(("key" = ["read"])),
    params(
        ("segment_id" = String, Path, description = "Id of the segment: `seg_…`"),
        PriceElasticityQuery,
    ),
    responses(
        (status = 200, body = PriceElasticityBody, description = "The elasticity"),
        (status = 404, description = "No model that is served has this segment"),
    )
)]
pub(crate) async fn get_price_elasticity(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(segment_id): PathParameters<String>,
    QueryParameters(query): QueryParameters<PriceElasticityQuery>,
) -> Result<Json<PriceElasticityBody>, ApiError> {
    let days = query.days.unwrap_or(DEFAULT_DAYS);
    if !(LEAST_DAYS..=MAX_DAYS).contains(&days) {
        return Err(ApiError::invalid(
            "days",
            format!("must be from {LEAST_DAYS} to {MAX_DAYS}; it is {days}"),
        ));
    }
    let deployment = state.deployments.snapshot();
    let (_, segment) = deployment.find_segment(&segment_id).ok_or_else(|| {
        ApiError::not_found(&format!("segment with the id `{segment_id}` that is served"))
    })?;
    let segment = NamedSegment::from(segment);
    let event = query.event.as_deref().unwrap_or(DEFAULT_EVENT);
    let names = ItemProperties {
        product: query.product.as_deref().unwrap_or(DEFAULT_ITEM.product),
        price: query.price.as_deref().unwrap_or(DEFAULT_ITEM.price),
        quantity: query.quantity.as_deref().unwrap_or(DEFAULT_ITEM.quantity),
    };
    let items = deployment.features.purchased_items(event, names).map_err(ServiceError::Invalid)?;
    let from = state.ingestion.now().plus_millis(-i64::from(days) * MILLIS_PER_DAY);
    let sample = segment_sample::draw(&state.db, &segment_id, CUSTOMERS).await?;
    let purchases = purchased_items::sum_by_week(&state.db, &sample, from, &items).await?;
    let [own, all] = heavy_work::run(&state, caller.user(), true, move |_| {
        let SegmentPurchases { own_buyers, all_buyers, product_weeks } = &purchases;
        Ok([
            measure(product_weeks, *own_buyers, |cell| cell.own_units),
            measure(product_weeks, *all_buyers, |cell| cell.all_units),
        ])
    })
    .await?;
    Ok(Json(PriceElasticityBody {
        segment: segment.into(),
        from,
        description: match &own {
            Ok(own) => own.describe(all.as_ref().ok()),
            Err(shortcoming) => shortcoming.describe(),
        },
        segment_elasticity: own.ok().map(ElasticityBody::from),
        overall_elasticity: all.ok().map(ElasticityBody::from),
    }))
}

fn measure(
    product_weeks: &[PurchasedProduct],
    buyers: u64,
    units: fn(&PurchasedProduct) -> f64,
) -> Result<PriceElasticity, ElasticityShortcoming> {
    let cells: Vec<ProductWeek> = product_weeks
        .iter()
        .map(|cell| ProductWeek {
            product: cell.product,
            week: cell.week,
            price: cell.price,
            units: units(cell),
        })
        .collect();
    PriceElasticity::measure(&cells, buyers)
}

impl From<PriceElasticity> for ElasticityBody {
    fn from(elasticity: PriceElasticity) -> Self {
        let [low, high] = elasticity.interval();
        Self {
            value: elasticity.value(),
            low,
            high,
            products: elasticity.products() as u64,
            weeks: elasticity.weeks() as u64,
            units: elasticity.units(),
        }
    }
}
