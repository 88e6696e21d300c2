//! Tests by route: the files mirror `src/api`. Behaviour that spans routes is in
//! `crate::scenarios`.

mod alerting;
mod audience_evaluation;
mod audiences;
mod customers;
mod documentation;
mod drift;
mod events;
mod experiments;
mod inference;
mod keys;
mod models;
mod score;
mod segments;
