//! Items of stored orders: which product was bought, at which price, and how many units.

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::reading::filter::PropertyType;
use crate::domain::feature::set::FeatureSet;

/// Names of properties as features read them, such as `products.price`.
#[derive(Debug, Clone, Copy)]
pub struct ItemProperties<'a> {
    pub product: &'a str,
    pub price: &'a str,
    pub quantity: &'a str,
}

/// Where stored orders have their items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurchasedItems {
    /// Name of the `track` events.
    pub event: String,
    /// Name of the array with the items; `None` if an event is one item.
    pub array: Option<String>,
    /// Names of the properties, below the array.
    pub product: String,
    pub price: String,
    pub quantity: String,
    /// The price is an amount of money that [`STORED_RATE`](super::STORED_RATE) converts.
    pub is_price_money: bool,
}

impl FeatureSet {
    /// Where orders are stored with their items.
    ///
    /// # Errors
    ///
    /// One fault for each name that no feature reads, under `event`, `product`, `price` and `quantity`.
    pub fn purchased_items(
        &self,
        event: &str,
        names: ItemProperties<'_>,
    ) -> Result<PurchasedItems, ValidationFaults> {
        let mut faults = ValidationFaults::default();
        if !self.reads_event_name(event) {
            let problem =
                format!("no feature reads events named `{event}`, so they are not stored");
            return Err(ValidationFaults(vec![ValidationFault::new("event", problem)]));
        }
        let array = self.array_of(names.product);
        let fields =
            [("product", names.product), ("price", names.price), ("quantity", names.quantity)];
        for (field, name) in fields {
            let stored_type = self.stored_type(event, name);
            let is_number = matches!(stored_type, Some(PropertyType::Number(_)));
            let problem = if stored_type.is_none() {
                format!(
                    "no feature reads `{name}` of `{event}`, so it is not stored: declare a feature that \
                     reads it"
                )
            } else if self.array_of(name) != array {
                format!("`{name}` must be in the same array as `{}`", names.product)
            } else if field != "product" && !is_number {
                format!("must be a number; a feature reads `{name}` as another type")
            } else {
                continue;
            };
            faults.push(ValidationFault::new(field, problem));
        }
        if !faults.0.is_empty() {
            return Err(faults);
        }
        let skipped = array.map_or(0, |array| array.len() + 1);
        let below = |name: &str| name[skipped..].to_owned();
        let money = self.money.as_ref();
        Ok(PurchasedItems {
            event: event.to_owned(),
            array: array.map(str::to_owned),
            product: below(names.product),
            price: below(names.price),
            quantity: below(names.quantity),
            is_price_money: money.is_some_and(|money| money.is_money(names.price)),
        })
    }
}
