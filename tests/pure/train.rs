//! A trained model: the same bytes whatever the threads, outliers at the
//! stated rate, and a document that refuses to be tampered with.

use segmentd::domain::model::{Model, Scratch};

use crate::model_support::{shop_features, shop_model, shoppers, spec, train};

#[test]
fn threads_do_not_change_a_byte() {
    let bytes = [1, 2, 4].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| shop_model().bytes)
    });
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(bytes[0], bytes[2]);
}

/// Fresh rows of the same distribution: each share lies in the binomial 95 %
/// band around alpha, widened by the calibration's own binomial noise.
#[test]
fn outliers_are_flagged_at_the_stated_rate() {
    let trained = train(spec(4), &shop_features(), &shoppers(40_000, 2)).unwrap();
    let model = &trained.model;
    let fresh = shoppers(20_000, 3);
    let calibrated = 40_000.0 * spec(4).holdout_share;
    let mut scratch = Scratch::default();
    let scores: Vec<_> = fresh.iter().map(|row| model.score(row, &mut scratch)).collect();
    for alpha in [0.005, 0.01, 0.05] {
        let flagged = scores.iter().filter(|score| score.is_outlier(alpha)).count();
        let rate = f64::from(u32::try_from(flagged).unwrap()) / 20_000.0;
        let band = 1.96 * (alpha * (1.0 - alpha) * (1.0 / 20_000.0 + 1.0 / calibrated)).sqrt();
        assert!((rate - alpha).abs() <= band, "alpha {alpha}: {rate}, band {band}");
    }
}

#[test]
fn a_damaged_document_is_refused_and_never_panics() {
    let bytes = shop_model().bytes;
    assert_eq!(Model::open(&bytes).unwrap().id(), shop_model().model.id());
    for at in (0..bytes.len()).step_by(bytes.len() / 400 + 1) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x15;
        if let Ok(model) = Model::open(&damaged) {
            // Another document has another address; it still scores.
            assert_ne!(model.id(), shop_model_id(&bytes));
        }
        assert!(Model::open(&bytes[..at]).is_err());
    }
}

fn shop_model_id(bytes: &[u8]) -> &'static segmentd::domain::id::ModelId {
    static ID: std::sync::OnceLock<segmentd::domain::id::ModelId> = std::sync::OnceLock::new();
    ID.get_or_init(|| segmentd::domain::id::ModelId::of(bytes))
}

#[test]
fn training_says_what_would_be_right() {
    let few = train(spec(4), &shop_features(), &shoppers(10, 1)).unwrap_err().to_string();
    assert!(few.contains("10"), "{few}");
    assert!(spec(0).check().unwrap_err().to_string().contains("segments"));
}
