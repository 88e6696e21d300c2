//! Selection among candidates: leaderboard, gates, the baseline, the effort of a search.

pub mod baseline;
pub mod candidates;
pub(crate) mod effort;
pub mod leaderboard;
