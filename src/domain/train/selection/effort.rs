//! Upper bound of the work of a training spec, computed before the run.

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::train::evaluation::stability::MAX_SLICES;
use crate::domain::train::selection::candidates::{SHORTLIST, TRIAL_STARTS};
use crate::domain::train::selection::screening::DIVISIONS;
use crate::domain::train::selection::structure;
use crate::domain::train::spec::TrainingSpec;

/// Maximum number of clusterings that a run computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchEffort {
    /// For the candidates: each algorithm with each number of segments, from each start, and again
    /// on halves of the rows.
    pub candidates: usize,
    /// For the stability trials of the best candidates, and for the test for structure.
    pub trials: usize,
}

impl SearchEffort {
    /// Upper bound for `spec`.
    pub(crate) fn from_spec(spec: &TrainingSpec) -> Self {
        let range = spec.segments.widest_range();
        let numbers = range.to.saturating_sub(range.from) + 1;
        // Saturating: an overflow must not turn a huge request into a small one.
        let mut candidates = 0_usize;
        for algorithm in spec.competing_algorithms() {
            let numbers = if algorithm.finds_segment_count() { 1 } else { numbers };
            let halves = 2 * DIVISIONS * algorithm.starts().min(TRIAL_STARTS);
            let fits = algorithm.starts().saturating_add(halves);
            candidates = candidates.saturating_add(numbers.saturating_mul(fits));
        }
        let stability = &spec.stability;
        let slices = spec.slices.len().saturating_mul(MAX_SLICES);
        let trials = stability.bootstraps.saturating_add(stability.seeds).saturating_add(slices);
        let references = 2 * structure::REFERENCES * (1 + 2 * structure::DIVISIONS);
        Self { candidates, trials: trials.saturating_mul(SHORTLIST).saturating_add(references) }
    }

    /// Total number of fits.
    pub(crate) fn total_fits(self) -> usize {
        self.candidates.saturating_add(self.trials)
    }

    /// Refuses more than `most` fits; the faults name the settings with the largest share.
    pub(crate) fn check(self, most: usize) -> Result<(), ValidationFaults> {
        let mut faults = ValidationFaults::default();
        if self.total_fits() <= most {
            return Ok(());
        }
        let limit = format!("at most {most} are allowed in total (training.max_fits)");
        if self.candidates >= self.trials || self.candidates > most {
            let problem = format!(
                "algorithms, numbers of segments and starts require {} fits; {limit}",
                self.candidates
            );
            for path in ["algorithms", "segments", "starts"] {
                faults.push(ValidationFault::new(path, problem.clone()));
            }
        }
        if self.trials > self.candidates || self.trials > most {
            let problem = format!(
                "bootstraps, seeds and slices of {SHORTLIST} candidates require {} fits; {limit}",
                self.trials
            );
            for path in ["stability.bootstraps", "stability.seeds", "slices"] {
                faults.push(ValidationFault::new(path, problem.clone()));
            }
        }
        faults.into_result(())
    }
}
