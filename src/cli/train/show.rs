//! Report of a finished training run: leaderboard with reasons, and the segments found.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};

use crate::domain::model::UNASSIGNED;
use crate::domain::train::lineage::{LineageEvent, SegmentLineage};
use crate::domain::train::selection::leaderboard::{
    Leaderboard, LeaderboardEntry, PartitionFigures,
};
use crate::domain::train::{CalibrationMethod, OutlierReport, SamplingReport, TrainedModel};

/// Table width that fits a printed page and half a screen.
const WIDTH: u16 = 120;

pub(super) fn training_report(trained: &TrainedModel, data: SamplingReport) -> String {
    let report = &trained.report;
    let mut shown = leaderboard(&report.leaderboard).to_string();
    // Writing to a String cannot fail.
    for note in &report.leaderboard.notes {
        let _ = write!(shown, "\nnote: {note}");
    }
    for failed in &report.leaderboard.failed {
        let segments = failed.segments.map_or_else(String::new, |count| format!(" {count}"));
        let _ = write!(
            shown,
            "\nnot fitted: {}{segments}: {}",
            failed.algorithm_and_variant(),
            failed.reason
        );
    }
    let _ = write!(shown, "\n{}", segments(trained));
    let _ = write!(shown, "\ntrained on {} of {} rows", data.kept, data.seen);
    if data.sampled {
        let _ = write!(shown, ", sampled by seed {}", data.seed);
    }
    let _ = write!(shown, "; {} held out for evaluation", report.held_out_rows);
    let _ = write!(shown, "\n{}", outlier_calibration(&report.outliers));
    if let Some(lineage) = report.lineage.as_ref().filter(|lineage| lineage.predecessor.is_some()) {
        let _ = write!(shown, "\n{}", lineage_summary(lineage));
    }
    if !report.left_out.is_empty() {
        let _ = write!(shown, "\nfeatures not used: {}", report.left_out.join(", "));
    }
    shown
}

fn outlier_calibration(outliers: &OutlierReport) -> String {
    let rows = outliers.calibrating_rows;
    let whose = match outliers.method {
        CalibrationMethod::HeldOut => "the held-out rows",
        CalibrationMethod::LeaveOneOut => "all rows, each measured against the others",
    };
    format!(
        "outliers are ranked among {rows} rows ({whose}); the smallest p-value is 1/{}",
        rows + 1
    )
}

/// Summary of the segment lineage.
fn lineage_summary(lineage: &SegmentLineage) -> String {
    format!(
        "segments kept {}, born {}, died {}; {} of earlier customers changed segment",
        count(lineage, LineageEvent::Kept),
        count(lineage, LineageEvent::Born),
        count(lineage, LineageEvent::Died),
        percent(lineage.relabelled_share),
    )
}

fn count(lineage: &SegmentLineage, event: LineageEvent) -> usize {
    lineage.lines.iter().filter(|line| line.event == event).count()
}

fn leaderboard(board: &Leaderboard) -> Table {
    let mut table = table(&[
        "rank",
        "algorithm",
        "segments",
        "score",
        "reproducibility",
        "silhouette",
        "stability",
        "over RFM",
        "smallest",
        "seconds",
        "reason",
    ]);
    // A name broken in two cannot be searched for.
    if let Some(names) = table.column_mut(1) {
        names.set_constraint(ColumnConstraint::ContentWidth);
    }
    for (place, entry) in board.entries.iter().enumerate() {
        let [silhouette, stability, smallest] = figures(&entry.figures);
        table.add_row([
            if entry.passed() { (place + 1).to_string() } else { "refused".to_owned() },
            entry.variant.as_ref().map_or_else(
                || entry.algorithm.to_string(),
                |variant| format!("{}\n{variant}", entry.algorithm),
            ),
            entry.segments.to_string(),
            entry.score.map_or_else(String::new, |score| format!("{:.3}", score.value)),
            reproducibility(entry),
            silhouette,
            stability,
            over_baseline(entry),
            smallest,
            format!("{:.1}", entry.cost.seconds),
            entry.reason.clone(),
        ]);
    }
    if let Some(baseline) = &board.baseline {
        let [silhouette, stability, smallest] = figures(&baseline.figures);
        let why = "baseline for the candidates".to_owned();
        let segments = baseline.figures.segments.to_string();
        let none = String::new;
        table.add_row([
            none(),
            "RFM rules".to_owned(),
            segments,
            none(),
            none(),
            silhouette,
            stability,
            none(),
            smallest,
            none(),
            why,
        ]);
    }
    table
}

fn segments(trained: &TrainedModel) -> Table {
    let mut table = table(&["segment", "customers", "share", "id"]);
    for segment in trained.model.segments() {
        table.add_row([
            segment.name.to_string(),
            segment.size.to_string(),
            percent(segment.share),
            segment.id.to_string(),
        ]);
    }
    let unassigned = trained.report.unassigned;
    if unassigned > 0 {
        let permille = unassigned * 1000 / trained.report.rows.max(1);
        let share = format!("{}.{} %", permille / 10, permille % 10);
        table.add_row(["in no segment", &*unassigned.to_string(), &*share, UNASSIGNED]);
    }
    table
}

pub(in crate::cli) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(header);
    table
}

/// Silhouette, stability, and the share of the smallest segment.
fn figures(figures: &PartitionFigures) -> [String; 3] {
    let silhouette = figures
        .silhouette
        .map_or_else(|| "unknown".to_owned(), |s| format!("{:.3} ± {:.3}", s.value, s.error));
    let jaccard = figures.stability.as_ref().and_then(|stability| stability.mean_jaccard);
    let stability =
        jaccard.map_or_else(|| "not measured".to_owned(), |jaccard| format!("{jaccard:.3}"));
    [silhouette, stability, percent(figures.smallest_share)]
}

fn reproducibility(entry: &LeaderboardEntry) -> String {
    entry.criteria.map_or_else(String::new, |criteria| {
        let agreement = criteria.reproducibility;
        format!("{:.2} ± {:.2}", agreement.value, agreement.error)
    })
}

fn over_baseline(entry: &LeaderboardEntry) -> String {
    let margin = entry.over_baseline.as_ref().and_then(|margin| margin.silhouette);
    margin.map_or_else(String::new, |margin| format!("{margin:+.3}"))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
