//! How much work a training spec asks for, before anything is computed.

use crate::domain::fault::{Fault, Faults};
use crate::domain::train::clustering::algorithm::Algorithm;
use crate::domain::train::evaluation::stability::MAX_SLICES;
use crate::domain::train::selection::candidates::SHORTLIST;
use crate::domain::train::spec::TrainSpec;

/// Fits of a clustering that a run takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Of candidates: each algorithm with each number of segments, each from every start.
    pub candidates: usize,
    /// To try how stable the best candidates are.
    pub trials: usize,
}

impl Effort {
    pub fn of(spec: &TrainSpec) -> Self {
        let numbers = spec.segments.most().saturating_sub(spec.segments.fewest()) + 1;
        let competitors = spec.competitors();
        let starts = |algorithm: &Algorithm| {
            let numbers = if algorithm.finds_number() { 1 } else { numbers };
            numbers.saturating_mul(algorithm.starts())
        };
        let candidates = competitors.iter().map(starts).fold(0, usize::saturating_add);
        let stability = &spec.stability;
        let slices = spec.slices.len().saturating_mul(MAX_SLICES);
        let trials = stability.bootstraps.saturating_add(stability.seeds).saturating_add(slices);
        Self { candidates, trials: trials.saturating_mul(SHORTLIST) }
    }

    pub fn fits(self) -> usize {
        self.candidates.saturating_add(self.trials)
    }

    /// More fits than `most` are a fault of the settings that ask for most of them.
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
