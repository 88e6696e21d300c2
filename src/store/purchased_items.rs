//! Units and prices of products by week, from the stored orders of sampled customers.

use crate::domain::feature::{MAX_NUMBER, PurchasedItems, STORED_RATE};
use crate::domain::time::Timestamp;
use crate::store::segment_sample::SegmentSample;
use crate::store::{ReadOnlyDatabase, StoreError, to_sql};

/// Most products: those of which all sampled customers bought most.
const PRODUCTS: i64 = 300;

/// What the sampled customers bought.
#[derive(Debug, Default)]
pub(crate) struct SegmentPurchases {
    /// Sampled customers of the segment who bought something.
    pub own_buyers: u64,
    /// Sampled customers of all segments who did.
    pub all_buyers: u64,
    pub product_weeks: Vec<PurchasedProduct>,
}

/// One product in one week in which a sampled customer bought it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PurchasedProduct {
    /// Rank of the product by units, from 1.
    pub product: usize,
    /// Number of the week in the period, from 0.
    pub week: usize,
    /// Mean price of a unit, weighted by units.
    pub price: f64,
    /// Units that the sampled customers of the segment bought.
    pub own_units: f64,
    /// Units that the sampled customers of all segments bought.
    pub all_units: f64,
}

/// Adds up the items of the orders since `from`. An item is left out without a product, and without a price
/// and a quantity above 0 and up to [`MAX_NUMBER`].
pub(crate) async fn sum_by_week(
    db: &ReadOnlyDatabase,
    sample: &SegmentSample,
    from: Timestamp,
    items: &PurchasedItems,
) -> Result<SegmentPurchases, StoreError> {
    let rows = sqlx::query!(
        r#"with item as (
               select chosen.is_own, chosen.customer,
                      date_bin('7 days', event.occurred_at, $12) as week,
                      event.properties ->> (place.prefix || $7) as product,
                      case when jsonb_typeof(event.properties -> (place.prefix || $8)) = 'number'
                           then (event.properties ->> (place.prefix || $8))::double precision
                      end as price,
                      case when $10 then coalesce((event.properties ->> $11::text)::double precision, 1)
                           else 1 end as rate,
                      case when jsonb_typeof(event.properties -> (place.prefix || $9)) = 'number'
                           then (event.properties ->> (place.prefix || $9))::double precision
                      end as quantity
               from unnest($2::text[], $3::bigint[], $4::boolean[]) as chosen (id, customer, is_own)
               join event on event.workspace_id = $1 and event.customer_id = chosen.id
               -- Names such as `products.0.price`: the elements of an array are flattened by index.
               cross join lateral (
                   select left(key, length(key) - length($7)) as prefix
                   from jsonb_object_keys(event.properties) as key
                   cross join lateral (
                       select split_part(substr(key, length($6) + 2), '.', 1) as index
                   ) as element
                   where case when $6::text is null then key = $7
                              else element.index ~ '^[0-9]+$'
                                   and key = $6 || '.' || element.index || '.' || $7 end
               ) as place
               where event.kind = 'track' and event.name = $5 and event.occurred_at >= $12
           ),
           bought as materialized (
               select is_own, customer, week, product, price * rate as price, quantity from item
               where product is not null and price > 0 and price <= $14
                     and quantity > 0 and quantity <= $14
           ),
           product_week as (
               select product, week, sum(price * quantity) / sum(quantity) as price,
                      coalesce(sum(quantity) filter (where is_own), 0) as own_units,
                      coalesce(sum(quantity) filter (where not is_own), 0) as all_units
               from bought group by product, week
           ),
           product as (
               select product, row_number() over (order by sum(all_units) desc, product) as number
               from product_week group by product
           )
           select product.number as "product!", price as "price!",
                  (extract(epoch from week - $12) / 604800)::bigint as "week!",
                  own_units as "own_units!", all_units as "all_units!",
                  buyer.own as "own_buyers!", buyer.every as "all_buyers!"
           from product_week
           join product using (product)
           cross join (
               select count(distinct customer) filter (where is_own) as own,
                      count(distinct customer) filter (where not is_own) as every
               from bought
           ) as buyer
           where product.number <= $13
           order by product.number, week"#,
        db.workspace_id(),
        &sample.event_customer_ids,
        &sample.customers,
        &sample.is_own,
        items.event,
        items.array.as_deref(),
        items.product,
        items.price,
        items.quantity,
        items.is_price_money,
        STORED_RATE,
        to_sql(from),
        PRODUCTS,
        MAX_NUMBER,
    )
    .fetch_all(&db.long_reads)
    .await?;
    let mut purchases = SegmentPurchases::default();
    for row in rows {
        purchases.own_buyers = row.own_buyers.unsigned_abs();
        purchases.all_buyers = row.all_buyers.unsigned_abs();
        purchases.product_weeks.push(PurchasedProduct {
            product: usize::try_from(row.product).unwrap_or_default(),
            week: usize::try_from(row.week).unwrap_or_default(),
            price: row.price,
            own_units: row.own_units,
            all_units: row.all_units,
        });
    }
    Ok(purchases)
}
