//! Title and description of a drift alert.
//!
//! The first sentence is for readers who know the data but no statistics: the changed feature, the
//! affected rows, the start, and the values now and at training. Statistics are the last paragraph.

use crate::domain::drift::alerts::alarm::WorstFinding;
use crate::domain::drift::alerts::grouping::DriftAlertKey;
use crate::domain::drift::finding::{ComparedQuantity, DriftChange, DriftFinding};
use crate::domain::drift::source::ScoreSource;
use crate::domain::presentation::number_format::format_time;
use crate::domain::time::Timestamp;

/// The content of a drift alert, from which its text is written.
#[derive(Debug)]
pub struct DriftAlertText<'a> {
    pub key: &'a DriftAlertKey,
    /// The largest finding of the latest check.
    pub lead: &'a DriftFinding,
    /// The finding of `lead` at its worst, if it was more severe than now.
    pub worst: Option<&'a WorstFinding>,
    /// Findings that joined the alert later than its announcement, in this check.
    pub joined: &'a [&'a DriftFinding],
    /// Number of different features among the firing parts.
    pub features: usize,
    /// Number of firing parts.
    pub parts: usize,
    /// Begin of the first and of the last firing part.
    pub first_since: Timestamp,
    pub last_since: Timestamp,
    /// Parts that begin within this time begin together.
    pub window_millis: i64,
}

impl DriftAlertText<'_> {
    /// The headline, one line.
    pub fn title(&self) -> String {
        if let [first, ..] = self.joined {
            return format!("New: {}", first.title());
        }
        if self.features < 2 {
            return self.lead.title();
        }
        let others = match self.features - 1 {
            1 => "another feature".to_owned(),
            others => format!("{others} other features"),
        };
        let what = match self.lead.about {
            ComparedQuantity::Missing => &self.lead.change.predicate,
            _ => "changed",
        };
        format!("{} and {others} {what}", self.lead.change.subject)
    }

    /// Plain sentences, then a paragraph of statistics.
    pub fn description(&self) -> String {
        let mut sentences = Vec::new();
        match self.joined {
            [] => {}
            [finding] => sentences.push(format!("New: {}", finding.description())),
            [finding, others @ ..] => {
                let others = others.len();
                sentences.push(format!("New, with {others} more: {}", finding.description()));
            }
        }
        sentences.push(self.change());
        if let Some(WorstFinding { description, found_at, .. }) = self.worst {
            sentences.push(format!("At its worst, on {}: {description}", format_time(*found_at)));
        }
        let DriftFinding { change: DriftChange { subject, .. }, statistics, .. } = self.lead;
        format!("{}\n\nStatistics ({subject}): {statistics}.", sentences.join(" "))
    }

    fn change(&self) -> String {
        let DriftChange { subject, predicate, comparison } = &self.lead.change;
        let (rows, since) = (self.affected_rows(), format_time(self.first_since));
        if self.features < 2 {
            let others = match self.parts {
                0 | 1 => String::new(),
                2 => " Another change began with it.".to_owned(),
                parts => format!(" {} other changes began with it.", parts - 1),
            };
            return format!("{subject} {predicate} {rows} (since {since}): {comparison}.{others}");
        }
        let count = self.features;
        let is_together = self.last_since.millis() - self.first_since.millis() < self.window_millis;
        let begin = if is_together {
            format!("{count} features have changed together {rows} since {since}")
        } else {
            let last = format_time(self.last_since);
            format!(
                "{count} features have changed {rows}, the first since {since}, the last since \
                 {last}"
            )
        };
        format!("{begin}, most of all {subject}, which {predicate}: {comparison}.")
    }

    /// The rows in which the change was found, as a phrase.
    fn affected_rows(&self) -> String {
        if let Some(key) = self.key.api_key() {
            return format!("in the rows of API key {key} alone");
        }
        match self.key.source {
            ScoreSource::Rows => "in the rows sent to be scored",
            ScoreSource::Events => "among customers with new events",
            ScoreSource::Customers => "among the stored customers",
        }
        .into()
    }
}
