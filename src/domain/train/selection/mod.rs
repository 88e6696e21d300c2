//! Model selection: candidates, their screening, gates, leaderboard, baseline, the test for
//! structure, and the cost of a search.

pub mod baseline;
pub mod candidates;
pub mod criteria;
pub(crate) mod effort;
pub mod leaderboard;
pub(crate) mod notes;
pub(crate) mod screening;
pub(crate) mod served_fit;
pub mod structure;
mod variants;
