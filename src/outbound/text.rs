//! Text and number formatting shared by the receivers.

use std::fmt::Write as _;

use percent_encoding::percent_decode_str;

use crate::domain::alert::{AlertState, ChartBar, Notification};
use crate::domain::presentation::number_format::format_time;

/// Longest label of a bar in a text table.
const LABEL_CHARACTERS: usize = 24;
/// Most parts of an alert in a message.
const MAX_PARTS: usize = 10;
/// Length of a bar for a share of 1.
const BAR_CHARACTERS: f64 = 20.0;

/// Truncates to `most` characters; the last is an ellipsis where characters were dropped.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Collapses line breaks, control characters and runs of spaces.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// `[critical] Spend in 30 days drifted`, `[resolved] …`.
pub(super) fn headline(notice: &Notification) -> String {
    format!("[{}] {}", state_label(notice), one_line(&notice.title))
}

/// The severity name, or `resolved`.
pub(super) fn state_label(notice: &Notification) -> &'static str {
    match notice.state {
        AlertState::Firing => notice.severity.as_str(),
        AlertState::Resolved => "resolved",
    }
}

/// One `name: value` line per fact.
pub(super) fn facts(notice: &Notification) -> String {
    let lines = notice.facts.iter().map(|fact| format!("{}: {}", fact.name, fact.value));
    lines.collect::<Vec<_>>().join("\n")
}

/// One line per part that fires, the most severe first; empty for an alert with a single part,
/// which its description states.
pub(super) fn parts(notice: &Notification) -> Vec<String> {
    if notice.parts.len() < 2 {
        return Vec::new();
    }
    let firing: Vec<_> = notice.parts.iter().filter(|part| part.ended_at.is_none()).collect();
    let mut lines: Vec<String> = Vec::new();
    for part in firing.iter().take(MAX_PARTS) {
        let (severity, since) = (part.severity.as_str(), format_time(part.since));
        lines.push(format!("{severity}: {} Since {since}.", one_line(&part.description)));
    }
    let (more, ended) = (firing.len() - lines.len(), notice.parts.len() - firing.len());
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    if ended > 0 {
        lines.push(format!("{ended} no longer found"));
    }
    lines
}

/// Decodes a part of a URL.
pub(super) fn percent_decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// A share with one decimal: `12.3 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Shares before and now as a table for a monospaced font.
pub(super) fn bars(bars: &[ChartBar]) -> String {
    let mut lines = format!("{:LABEL_CHARACTERS$} {:>8} {:>8}\n", "", "before", "now");
    for bar in bars {
        let label = cut(&one_line(&bar.label), LABEL_CHARACTERS);
        let (before, now) = (percent(bar.before), percent(bar.now));
        let drawn = "#".repeat(bar_length(bar.now));
        let line = format!("{label:LABEL_CHARACTERS$} {before:>8} {now:>8}  {drawn}");
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{}", line.trim_end());
    }
    lines
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to the longest bar"
)]
fn bar_length(share: f64) -> usize {
    (BAR_CHARACTERS * share.clamp(0.0, 1.0)).round() as usize
}
