//! Price elasticities from units by product and week.

use proptest::prelude::*;
use segmentd::domain::persona::price_elasticity::{
    ElasticityShortcoming, LEAST_BUYERS, LEAST_PRODUCTS, PriceElasticity, ProductWeek,
};

const WEEKS: usize = 20;

/// Units that follow an elasticity exactly, of products and weeks that differ.
fn demand(products: usize, elasticity: f64) -> Vec<ProductWeek> {
    let mut cells = Vec::new();
    for product in 0..products {
        for week in 0..WEEKS {
            let price = if (product + week * week) % 3 == 0 { 7.0 } else { 10.0 };
            let effects = (1 + product) as f64 * if week > 10 { 3.0 } else { 1.0 };
            let units = effects * f64::powf(price, elasticity);
            cells.push(ProductWeek { product, week, price, units });
        }
    }
    cells
}

/// Of `price` less 10 %.
#[test]
fn an_elasticity_is_said_beside_that_of_all_customers() {
    let measured = |elasticity: f64, noise: f64| {
        let mut cells = demand(20, elasticity);
        for (i, cell) in cells.iter_mut().enumerate() {
            cell.units *= 1.0 + noise * if i % 2 == 0 { 1.0 } else { -1.0 };
        }
        PriceElasticity::measure(&cells, 200).unwrap()
    };
    let (own, all) = (measured(-2.0, 0.01), measured(-1.0, 0.01));
    assert_eq!((own.products(), own.weeks()), (20, WEEKS));
    let text = own.describe(Some(&all));
    let (begin, end) = ("A price 10 % lower goes with 23 % more units", "with 11 % more units.");
    assert!(text.starts_with(begin) && text.ends_with(end), "{text}");
    let alone = own.describe(None);
    assert!(!alone.contains("all customers") && alone.ends_with(")."), "{alone}");
    // Nothing to see: the interval contains 0.
    let text = measured(0.0, 0.3).describe(None);
    assert!(text.starts_with("No relation between price and units is visible: "), "{text}");
}

#[test]
fn data_that_show_no_elasticity_say_why() {
    let enough = demand(LEAST_PRODUCTS, -1.0);
    assert!(PriceElasticity::measure(&enough, LEAST_BUYERS).is_ok());
    assert_eq!(
        PriceElasticity::measure(&enough, LEAST_BUYERS - 1),
        Err(ElasticityShortcoming::TooFewBuyers)
    );
    let few = demand(LEAST_PRODUCTS - 1, -1.0);
    let too_few = Err(ElasticityShortcoming::TooFewProducts);
    assert_eq!(PriceElasticity::measure(&few, 100), too_few);
    assert_eq!(PriceElasticity::measure(&[], 100), too_few);
    // One price each, and prices that only rise together.
    let steady = |price: fn(&ProductWeek) -> f64| {
        let cells: Vec<ProductWeek> =
            demand(20, -1.0).iter().map(|c| ProductWeek { price: price(c), ..*c }).collect();
        PriceElasticity::measure(&cells, 100)
    };
    let unknown = Err(ElasticityShortcoming::SteadyPrices);
    assert_eq!(steady(|cell| 1.0 + cell.product as f64), unknown);
    assert_eq!(steady(|cell| (1.0 + cell.product as f64) * (1.0 + cell.week as f64)), unknown);
    // Prices that differ by less than a rounding.
    assert_eq!(steady(|cell| 5.0 + 0.01 * (cell.week * cell.product % 2) as f64), unknown);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_constant_elasticity_is_found_in_any_unit_of_money(
        elasticity in -4.0..1.0_f64,
        scale in 0.01..100.0_f64,
    ) {
        let mut cells = demand(12, elasticity);
        for cell in &mut cells {
            cell.price *= scale;
        }
        let found = PriceElasticity::measure(&cells, 100).unwrap();
        prop_assert!((found.value() - elasticity).abs() < 1e-6, "{found:?}");
        prop_assert!(found.interval()[0] <= found.interval()[1]);
    }

    #[test]
    fn any_units_give_a_finite_elasticity_or_none(
        units in proptest::collection::vec(prop_oneof![Just(0.0), 0.0..1e6_f64], 240),
        prices in proptest::collection::vec(1e-3..1e6_f64, 240),
    ) {
        let cells: Vec<ProductWeek> = units
            .into_iter()
            .zip(prices)
            .enumerate()
            .map(|(i, (units, price))| {
                ProductWeek { product: i / WEEKS, week: i % WEEKS, price, units }
            })
            .collect();
        if let Ok(found) = PriceElasticity::measure(&cells, 100) {
            let [low, high] = found.interval();
            prop_assert!(low <= found.value() && found.value() <= high, "{found:?}");
            prop_assert!(low.is_finite() && high.is_finite(), "{found:?}");
        }
    }
}
