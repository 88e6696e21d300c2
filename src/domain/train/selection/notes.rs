//! What a reader should know about the choice, in sentences.

use crate::domain::train::TrainingSpec;
use crate::domain::train::data::outcomes::LEAST_KNOWN;
use crate::domain::train::selection::leaderboard::{Leaderboard, LeaderboardEntry};
use crate::domain::train::spec::SegmentCount;

/// Equally good candidates that are named; the others are counted.
const NAMED: usize = 5;

/// Sentences about the chosen candidate, with `rows` rows for training and `dissolved` segments
/// that were too small: whether the rows form groups, whether others are equally good, and whether
/// the choice is at an end of the range.
pub(crate) fn notes_on_choice(
    board: &Leaderboard,
    dissolved: usize,
    settings: &TrainingSpec,
    rows: usize,
) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(structure) = &board.structure {
        notes.push(structure.explanation().to_owned());
    }
    notes.extend(equally_good(board));
    if let Some(share) = settings.gates.smallest_share.filter(|_| dissolved > 0) {
        notes.push(format!(
            "{dissolved} of the segments had less than {} % of the rows and were dissolved; their \
             rows are in no segment, or in one that reaches them (`gates.smallest_share`)",
            share * 100.0
        ));
    }
    notes.extend(board.winner().and_then(|winner| end_of_range(winner, settings, rows)));
    notes
}

/// Says that an outcome has no part in the choice.
pub(crate) fn unusable_outcome(name: &str) -> String {
    format!(
        "`{name}` has no part in the choice: fewer than {LEAST_KNOWN} of the compared customers \
         have a number, or all have the same"
    )
}

fn equally_good(board: &Leaderboard) -> Option<String> {
    let names: Vec<String> = board
        .entries
        .iter()
        .skip(1)
        .filter(|entry| entry.is_equally_good && entry.passed())
        .map(|entry| format!("{} with {} segments", entry.algorithm_and_variant(), entry.segments))
        .collect();
    let first = match names.len() {
        0 => return None,
        1 => "one other candidate is equally good".to_owned(),
        count => format!("{count} other candidates are equally good"),
    };
    let more = if names.len() > NAMED { ", …" } else { "" };
    let named = names[..names.len().min(NAMED)].join(", ");
    Some(format!("{first}, within one standard error of the score: {named}{more}"))
}

/// Says that the choice is at an end of the range that was tried.
fn end_of_range(winner: &LeaderboardEntry, settings: &TrainingSpec, rows: usize) -> Option<String> {
    let range = settings.segments.range(rows);
    let algorithm = settings.competing_algorithms().into_iter().nth(winner.listed)?;
    if algorithm.finds_segment_count() || range.from == range.to {
        return None;
    }
    let (end, beyond) = match winner.segments {
        chosen if chosen == range.to => ("largest", "more"),
        // Two is the smallest number that divides the rows at all.
        chosen if chosen == range.from && chosen > 2 => ("smallest", "fewer"),
        _ => return None,
    };
    let remedy = match settings.segments {
        SegmentCount::Automatic(_) => "with more customers a wider range is tried",
        SegmentCount::Exact(_) | SegmentCount::Range(_) => "widen `segments` to try them",
    };
    Some(format!(
        "{} segments are the {end} number that was tried, {} to {}: {beyond} may fit better; {remedy}",
        winner.segments, range.from, range.to
    ))
}
