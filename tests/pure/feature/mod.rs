//! Features: declarations, folds, customer state.

mod commerce;
mod complete_journey;
mod feature_set;
mod file_faults;
mod folds;
pub(crate) mod normal_form;
mod order_properties;
mod property_history;
mod purchases;
mod segment_set;
mod state_properties;
pub(crate) mod support;
mod unused;
mod value_bounds;
