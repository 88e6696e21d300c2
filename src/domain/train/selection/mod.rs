//! Model selection: candidates, gates, leaderboard, baseline, and the cost of a search.

pub mod baseline;
pub mod candidates;
pub mod criteria;
pub(crate) mod effort;
pub mod leaderboard;
