//! Value models: forecasts, fits, choice of the model, intervals.

mod choice;
mod fits;
mod forecasts;
mod support;
