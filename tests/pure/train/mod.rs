//! Training: algorithms, evaluation, selection, lineage.

mod algorithm_properties;
mod algorithms;
mod awkward_data;
mod backtest;
mod candidates;
mod kmeans;
mod leaderboard;
mod lineage;
mod minibatch;
mod quality_indices;
mod reservoir;
mod selection_criteria;
mod stability;
mod training;
