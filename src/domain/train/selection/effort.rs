//! Upper bound of the work of a training spec, computed before the run.

use crate::domain::fault::{Fault, Faults};
use crate::domain::train::evaluation::stability::MAX_SLICES;
use crate::domain::train::selection::candidates::SHORTLIST;
use crate::domain::train::spec::TrainSpec;

/// Maximum number of clusterings that a run computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// For the candidates: each algorithm with each number of segments, from each start.
    pub candidates: usize,
    /// For the stability trials of the best candidates.
    pub trials: usize,
}

impl Effort {
    /// Upper bound for `spec`.
    pub fn of(spec: &TrainSpec) -> Self {
        let numbers = spec.segments.most().saturating_sub(spec.segments.fewest()) + 1;
        // Saturating: an overflow must not turn a huge request into a small one.
        let mut candidates = 0_usize;
        for algorithm in spec.competitors() {
            let numbers = if algorithm.finds_number() { 1 } else { numbers };
            candidates = candidates.saturating_add(numbers.saturating_mul(algorithm.starts()));
        }
        let stability = &spec.stability;
        let slices = spec.slices.len().saturating_mul(MAX_SLICES);
        let trials = stability.bootstraps.saturating_add(stability.seeds).saturating_add(slices);
        Self { candidates, trials: trials.saturating_mul(SHORTLIST) }
    }

    /// Total number of fits.
    pub fn fits(self) -> usize {
        self.candidates.saturating_add(self.trials)
    }

    /// Refuses more than `most` fits; the faults name the settings with the largest share.
    pub fn check(self, most: usize) -> Result<(), Faults> {
        let mut faults = Faults::default();
        if self.fits() <= most {
            return Ok(());
        }
        let limit = format!("at most {most} are allowed in total (training.max_fits)");
        if self.candidates >= self.trials || self.candidates > most {
            let problem = format!(
                "algorithms, numbers of segments and starts require {} fits; {limit}",
                self.candidates
            );
            for path in ["algorithms", "segments", "starts"] {
                faults.push(Fault::new(path, problem.clone()));
            }
        }
        if self.trials > self.candidates || self.trials > most {
            let problem = format!(
                "bootstraps, seeds and slices of {SHORTLIST} candidates require {} fits; {limit}",
                self.trials
            );
            for path in ["stability.bootstraps", "stability.seeds", "slices"] {
                faults.push(Fault::new(path, problem.clone()));
            }
        }
        faults.or(())
    }
}
