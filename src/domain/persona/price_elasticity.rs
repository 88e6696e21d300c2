//! Price elasticity of demand: how the units that customers buy of a product go with its price.
//!
//! The elasticity is the coefficient of the logarithm of the price in a Poisson regression of the units of each
//! product in each week, with an effect of each product (some sell more) and of each week (in some weeks
//! everything sells more). It compares weeks of the same product, so it is an association: promotions lower
//! prices and advertise at the same time.

use crate::domain::presentation::number_format::format_percent;
use crate::domain::stats::fixed_effects_poisson::{self, PanelCell, PanelSlope, UnknownSlope};

/// Fewest customers with a purchase whose elasticity is shown.
pub const LEAST_BUYERS: u64 = 30;
/// Fewest products: standard errors are clustered by product.
pub const LEAST_PRODUCTS: usize = 10;
/// Least spread of prices within products, as a share of the price.
const LEAST_PRICE_SPREAD: f64 = 0.02;
/// The change of price that sentences are about.
const LOWER_PRICE: f64 = 0.9;

/// Units of one product in one week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProductWeek {
    /// Small numbers, such as a rank.
    pub product: usize,
    pub week: usize,
    /// Above 0.
    pub price: f64,
    pub units: f64,
}

/// A measured elasticity: units are proportional to the price to this power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PriceElasticity(PanelSlope);

/// Why an elasticity is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElasticityShortcoming {
    TooFewBuyers,
    /// Fewer products were bought in at least two weeks.
    TooFewProducts,
    /// Prices of the same product hardly changed from week to week, or too little was bought to tell.
    SteadyPrices,
}

impl PriceElasticity {
    /// Of what `buyers` customers bought.
    pub fn measure(
        product_weeks: &[ProductWeek],
        buyers: u64,
    ) -> Result<Self, ElasticityShortcoming> {
        if buyers < LEAST_BUYERS {
            return Err(ElasticityShortcoming::TooFewBuyers);
        }
        let cells: Vec<PanelCell> = product_weeks
            .iter()
            .map(|cell| PanelCell {
                row: cell.product,
                column: cell.week,
                regressor: cell.price.ln(),
                count: cell.units,
            })
            .collect();
        match fixed_effects_poisson::fit(&cells, LEAST_PRODUCTS) {
            Ok(slope) if slope.regressor_spread >= LEAST_PRICE_SPREAD => Ok(Self(slope)),
            Err(UnknownSlope::TooFewRows) => Err(ElasticityShortcoming::TooFewProducts),
            Ok(_) | Err(UnknownSlope::Undetermined) => Err(ElasticityShortcoming::SteadyPrices),
        }
    }

    pub fn value(&self) -> f64 {
        self.0.value
    }

    /// 95 % confidence interval.
    pub fn interval(&self) -> [f64; 2] {
        self.0.interval
    }

    /// Products that were bought in at least two weeks.
    pub fn products(&self) -> usize {
        self.0.rows
    }

    pub fn weeks(&self) -> usize {
        self.0.columns
    }

    pub fn units(&self) -> f64 {
        self.0.total
    }

    /// This elasticity beside that of all customers, in a sentence.
    pub fn describe(&self, all: Option<&Self>) -> String {
        let [low, high] = self.interval();
        let change = describe_change(self.value());
        let ends = [high, low].map(|end| format_percent(change_of_units(end)));
        let beside = all.map_or_else(String::new, |all| {
            format!("; among all customers, with {}", describe_change(all.value()))
        });
        let interval = format!("(95 % interval {} to {})", ends[0], ends[1]);
        if low <= 0.0 && high >= 0.0 {
            return format!(
                "No relation between price and units is visible: a price 10 % lower goes with {change} of a \
                 product in a week {interval}{beside}."
            );
        }
        format!("A price 10 % lower goes with {change} of a product in a week {interval}{beside}.")
    }
}

impl ElasticityShortcoming {
    /// A sentence about the customers of a segment.
    pub fn describe(self) -> String {
        match self {
            Self::TooFewBuyers => format!(
                "Fewer than {LEAST_BUYERS} of the sampled customers bought a product with a price and a \
                 quantity in this period."
            ),
            Self::TooFewProducts => format!(
                "Fewer than {LEAST_PRODUCTS} products were bought in two weeks or more of this period."
            ),
            Self::SteadyPrices => {
                "The prices of the same product hardly changed from week to week, or too little was bought \
                 to tell what another price goes with."
                    .into()
            }
        }
    }
}

/// Relative change of the units with a price 10 % lower.
fn change_of_units(elasticity: f64) -> f64 {
    LOWER_PRICE.powf(elasticity) - 1.0
}

/// Such as "21 % more units".
fn describe_change(elasticity: f64) -> String {
    let change = change_of_units(elasticity);
    let direction = if change < 0.0 { "fewer" } else { "more" };
    format!("{} {direction} units", format_percent(change.abs()))
}
