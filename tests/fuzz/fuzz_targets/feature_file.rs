//! A features file (TOML), or exchange rates (CSV). An accepted features file has an equivalent
//! normal form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segmentd::domain::feature::{FeatureSet, RateTable};

#[path = "../../pure/feature/normal_form.rs"]
mod normal_form;

fuzz_target!(|text: &str| {
    if let Err(faults) = RateTable::parse(text) {
        assert!(!faults.is_empty());
    }
    match FeatureSet::parse(text) {
        Ok(set) => {
            let again = FeatureSet::parse(&normal_form::as_toml(set.normal_form()));
            assert_eq!(again.expect("a normal form is valid").id(), set.id());
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
});
