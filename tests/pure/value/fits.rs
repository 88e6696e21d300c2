//! Fits equal those of lifetimes and pymc-marketing, and recover the parameters of drawn customers.

use segmentd::domain::feature::PurchaseHistory;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::value::PurchaseModelKind;
use segmentd::domain::value::fit::{fit_purchases, fit_spend};

use crate::value::support::{
    PymcFit, draw_customers, golden, history, model, no_pause, pymc_golden,
};

#[test]
fn fits_equal_those_of_lifetimes() {
    let mut compared = 0;
    for case in golden().fits {
        let histories = case.histories();
        for kind in PurchaseModelKind::ALL {
            let Some(expected) = case.fits.get(kind.name()) else { continue };
            let fitted = fit_purchases(kind, &histories, no_pause);
            // Donors of the one set never leave: parameters are without bound there.
            let is_determined = expected.values().all(|value| (1e-3..1e3).contains(value));
            if !is_determined {
                continue;
            }
            for (name, value) in fitted.model.parameters() {
                let expected = expected[name];
                assert!(
                    (value - expected).abs() <= 1e-4 * expected,
                    "{} {kind:?}: {name} is {value}, not {expected}",
                    case.name
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 40, "{compared} parameters compared");
}

/// pymc-marketing computes likelihoods and gradients in another way than lifetimes.
#[test]
fn fits_equal_those_of_pymc_marketing() {
    let (cases, pymc) = (golden().fits, pymc_golden().fits);
    assert_eq!(pymc.len(), 12);
    for PymcFit { case, model, parameters } in &pymc {
        let (case, kind) = (&cases[*case], *model);
        let fitted = fit_purchases(kind, &case.histories(), no_pause);
        for (name, value) in fitted.model.parameters() {
            let expected = parameters[name];
            assert!(
                (value - expected).abs() <= 1e-4 * expected,
                "{} {kind:?}: {name} is {value}, not {expected}",
                case.name
            );
        }
    }
}

#[test]
fn the_fit_of_order_values_equals_those_of_lifetimes_and_pymc_marketing() {
    let golden = golden().gamma_gamma;
    let histories: Vec<PurchaseHistory> = golden
        .rows
        .iter()
        .map(|(days, mean)| PurchaseHistory {
            valued_repeat_days: *days,
            repeat_value: f64::from(*days) * mean,
            ..history(*days, *days, 100)
        })
        .collect();
    let fitted = fit_spend(&histories, no_pause).unwrap();
    for golden in [golden.fit, pymc_golden().gamma_gamma.parameters] {
        for (name, value) in [("p", fitted.p), ("q", fitted.q), ("v", fitted.v)] {
            let right = golden[name];
            assert!((value - right).abs() <= 1e-4 * right, "{name} is {value}, not {right}");
        }
    }
}

/// The parameters that customers were drawn with lie within four standard errors of the fit. Orders are
/// rare, so that whole days are as good as instants.
#[test]
fn fits_recover_the_parameters_of_drawn_customers() {
    let cases = [
        (PurchaseModelKind::BgNbd, [0.7, 300.0, 0.8, 2.5]),
        (PurchaseModelKind::MbgNbd, [0.9, 400.0, 0.7, 3.0]),
        (PurchaseModelKind::ParetoNbd, [0.8, 300.0, 0.7, 1_200.0]),
    ];
    for (kind, parameters) in cases {
        let mut rng = RandomStream::new(24, 1);
        let drawn = draw_customers(&mut rng, &model(kind, parameters), 9_000, 20_000);
        let histories: Vec<PurchaseHistory> =
            drawn.customers.iter().map(|one| one.history).collect();
        let fitted = fit_purchases(kind, &histories, no_pause);
        let covariance = fitted.covariance.unwrap();
        for (i, (name, value)) in fitted.model.parameters().into_iter().enumerate() {
            let error = covariance[i][i].sqrt();
            let distance = (value / parameters[i]).ln() / error;
            assert!(
                distance.abs() < 4.0 && error < 0.2,
                "{kind:?}: {name} is {value}, not {}; error of its logarithm {error}",
                parameters[i]
            );
        }
    }
}

#[test]
fn a_fit_does_not_depend_on_the_number_of_threads() {
    let mut rng = RandomStream::new(24, 2);
    let drawn = model(PurchaseModelKind::ParetoNbd, [0.8, 30.0, 0.7, 120.0]);
    let drawn = draw_customers(&mut rng, &drawn, 800, 12_000);
    let histories: Vec<PurchaseHistory> = drawn.customers.iter().map(|one| one.history).collect();
    for kind in PurchaseModelKind::ALL {
        let with_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fit_purchases(kind, &histories, no_pause).model.parameters())
        };
        assert_eq!(with_threads(1), with_threads(4));
    }
}

/// A customer with hundreds of orders who fell silent years ago has odds beyond the largest number.
#[test]
fn a_fit_survives_customers_who_have_certainly_left() {
    let mut rng = RandomStream::new(24, 6);
    for kind in PurchaseModelKind::ALL {
        let drawn = draw_customers(&mut rng, &model(kind, [0.8, 30.0, 0.7, 2.5]), 800, 2_000);
        let mut histories: Vec<PurchaseHistory> =
            drawn.customers.iter().map(|one| one.history).collect();
        histories.push(history(900, 1_000, 9_000));
        let fitted = fit_purchases(kind, &histories, no_pause);
        let parameters = fitted.model.parameters();
        assert!(parameters.iter().all(|(_, value)| value.is_finite()), "{parameters:?}");
        let left = fitted.model.posterior(histories.last().unwrap());
        assert!(left.probability_alive() < 1e-9);
        let [orders] = left.expected_orders([365.0]);
        assert!((0.0..1e-6).contains(&orders), "{kind:?}: {orders}");
    }
}
