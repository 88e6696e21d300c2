//! Features: declarations, folds, customer state.

mod commerce;
mod complete_journey;
mod feature_set;
mod file_faults;
mod folds;
mod normal_form;
mod state_properties;
pub(crate) mod support;
