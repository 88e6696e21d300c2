//! `segmentd check database`

use crate::app;
use crate::config::AppConfig;

/// Prints one line per check; fails if a check found a problem.
pub(super) async fn database(config: &AppConfig) -> anyhow::Result<()> {
    let findings = Box::pin(app::check_database(config)).await?;
    for finding in &findings {
        let mark = if finding.is_problem { "PROBLEM" } else { "ok" };
        println!("{mark:<8}{}", finding.text);
    }
    let problems = findings.iter().filter(|finding| finding.is_problem).count();
    anyhow::ensure!(problems == 0, "{problems} problem(s) in the database");
    Ok(())
}
