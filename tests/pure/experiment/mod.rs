//! Experiments: assignment, effects, the gate of the sample ratio, planning, worth of a segmentation.

mod assignment;
mod figures;
mod gate;
mod growthbook;
mod moments;
mod segments;
mod simulations;
mod spec;
mod support;
mod worth;
