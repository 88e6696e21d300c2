//! `segmentd train` without `--from`: requests a run, waits for it and shows its result.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, stderr};

use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::app::{Application, FinishedTraining};
use crate::cli::train::backtest::backtest_report;
use crate::config::AppConfig;
use crate::domain::train::backtest::BacktestReport;
use crate::store::models::runs::TrainingRunRow;

/// Requests a training run, and waits for its result unless `no_wait`.
pub(super) async fn request_run(
    mut config: AppConfig,
    changes: Map<String, Value>,
    no_wait: bool,
) -> anyhow::Result<()> {
    config.http.listen_address.set_port(0);
    config.admin.bind.set_port(0);
    config.training.schedule = None;
    let app = Application::build_for_command(config).await?;
    let outcome = request_and_wait(&app, changes, no_wait).await;
    app.close().await?;
    outcome
}

async fn request_and_wait(
    app: &Application,
    changes: Map<String, Value>,
    no_wait: bool,
) -> anyhow::Result<()> {
    let run = app.request_training(changes).await?;
    if no_wait {
        println!("run {run}");
        return Ok(());
    }
    let progress = RunProgressLines::default();
    let finished = app.wait_for_training(&run, |row| progress.show(row)).await;
    progress.finish();
    println!("{}", result(&finished?));
    Ok(())
}

/// The progress of a run on standard error: one line that changes on a terminal, otherwise a
/// line for each stage.
#[derive(Debug, Default)]
struct RunProgressLines {
    shown_stage: RefCell<String>,
}

impl RunProgressLines {
    fn show(&self, run: &TrainingRunRow) {
        let stage = if run.status == "queued" { "queued" } else { &run.stage };
        if stderr().is_terminal() {
            // Carriage return, and erase the rest of the line.
            eprint!("\r\x1b[Ktraining run {}: {stage} {}/{}", run.run_id, run.done, run.total);
        } else if *self.shown_stage.borrow() != stage {
            eprintln!("training run {}: {stage}", run.run_id);
        }
        stage.clone_into(&mut self.shown_stage.borrow_mut());
    }

    fn finish(&self) {
        if stderr().is_terminal() && !self.shown_stage.borrow().is_empty() {
            eprintln!();
        }
    }
}

/// The model, its segments and its quality.
fn result(finished: &FinishedTraining) -> String {
    let FinishedTraining { run, model } = finished;
    let mut text = format!("model {}\nsegments {}", model.id(), model.segments().len());
    for segment in model.segments() {
        let (id, size, name) = (&segment.id, segment.size, &segment.name);
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {name}: {size} customers ({:.1} %), {id}", segment.share * 100.0);
    }
    let backtest = run.report.as_ref().and_then(|report| report.get("backtest"));
    let backtest = backtest.and_then(|backtest| BacktestReport::deserialize(backtest).ok());
    let board = run.report.as_ref().and_then(|report| report.get("leaderboard"));
    if let Some(board) = board {
        let _ = write!(text, "\nquality {}", quality(&board["entries"][0]));
        for note in board["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = write!(text, "\nnote: {note}");
        }
    }
    if let Some(backtest) = backtest {
        let _ = write!(text, "\n{}", backtest_report(&backtest));
    }
    text
}

/// Score of the chosen candidate with its standard error, stability (mean Jaccard similarity), and
/// the share of the smallest segment; figures that were not measured are left out.
fn quality(chosen: &Value) -> String {
    let number = |pointer: &str| chosen.pointer(pointer).and_then(Value::as_f64);
    let mut known = Vec::new();
    if let (Some(value), Some(error)) = (number("/score/value"), number("/score/error")) {
        known.push(format!("score {value:.3} ± {error:.3}"));
    }
    if let Some(jaccard) = number("/figures/stability/mean_jaccard") {
        known.push(format!("stability {jaccard:.3}"));
    }
    if let Some(share) = number("/figures/smallest_share") {
        known.push(format!("smallest segment {:.1} %", share * 100.0));
    }
    known.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_figures_are_left_out() {
        let all = json!({
            "score": { "value": 0.41234, "error": 0.011 },
            "figures": { "stability": { "mean_jaccard": 0.93 }, "smallest_share": 0.0812 },
        });
        assert_eq!(quality(&all), "score 0.412 ± 0.011, stability 0.930, smallest segment 8.1 %");
        assert_eq!(
            quality(&json!({ "figures": { "smallest_share": 1.0 } })),
            "smallest segment 100.0 %"
        );
    }
}
