//! Value models: forecasts, fits, choice of the model, intervals; changes of the value of segments.

mod choice;
mod fits;
mod forecasts;
mod segment_changes;
mod segment_totals;
mod support;
