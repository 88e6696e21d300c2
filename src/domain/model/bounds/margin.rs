//! By how much the other prototypes are farther than one of them, at least, while
//! columns move.
//!
//! The power of one prototype less that of another is a sum over the columns. So
//! within a box its least value is the sum of the least in each column.

use crate::domain::model::bounds::Moved;
use crate::domain::model::{Form, Metric};

/// Seen from one prototype.
#[derive(Debug)]
pub(crate) struct Margins<'a> {
    pub(crate) from: usize,
    /// What counts of its power; of those of its own segment all does.
    share: f64,
    /// Power of each prototype less what counts of that of `from`.
    gaps: &'a [f64],
    /// What a box takes off each gap.
    shifts: &'a mut [f64],
}

/// The power of a prototype, with its offset, within a box.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl<'a> Margins<'a> {
    pub(crate) fn new(
        form: &Form,
        place: &[f32],
        (from, share): (usize, f64),
        (gaps, shifts): (&'a mut Vec<f64>, &'a mut Vec<f64>),
    ) -> Self {
        gaps.clear();
        let gap = |other| gap(form, place, (from, share), other);
        gaps.extend((0..form.prototypes().count()).map(gap));
        shifts.clear();
        shifts.resize(gaps.len(), 0.0);
        Self { from, share, gaps, shifts }
    }

    /// Makes the box the one in which the columns `moved` are within their ranges,
    /// the others where they are in `place`.
    pub(crate) fn shift(&mut self, form: &Form, place: &[f32], moved: &[Moved]) {
        self.shifts.fill(0.0);
        let prototypes = form.prototypes();
        let own = prototypes.row(self.from);
        for span in moved {
            let column = span.column;
            let (at, own) = (f64::from(place[column]), f64::from(own[column]));
            for (other, (shift, values)) in
                self.shifts.iter_mut().zip(prototypes.rows()).enumerate()
            {
                let (mine, theirs) = measures(form, (self.from, self.share), other, column);
                let (own, other) = ((own, mine), (f64::from(values[column]), theirs));
                *shift += least_gap(own, other, span) - column_gap(own, other, at);
            }
        }
    }

    /// By how much another prototype is farther, within the box.
    pub(crate) fn least(&self, other: usize) -> f64 {
        self.gaps[other] + self.shifts[other]
    }
}

impl Range {
    pub(crate) fn of(form: &Form, place: &[f32], prototype: usize, moved: &[Moved]) -> Self {
        let here: f64 = form.parts(place, prototype).sum();
        let (mut least, mut most) = (here, here);
        let (segment, values) = (form.segment_of(prototype), form.prototypes().row(prototype));
        for span in moved {
            let column = span.column;
            let (at, value) = (f64::from(place[column]), f64::from(values[column]));
            let measure = Measure::new(form, segment, column);
            let here = measure.power(at - value);
            least += measure.power(value.clamp(span.low, span.high) - value) - here;
            let ends = (measure.power(span.low - value), measure.power(span.high - value));
            most += ends.0.max(ends.1) - here;
        }
        let offset = f64::from(form.offset(prototype));
        Self { least: least + offset, most: most + offset }
    }
}

/// How one column counts towards one segment.
#[derive(Clone, Copy)]
struct Measure {
    metric: Metric,
    weight: f64,
}

impl Measure {
    fn new(form: &Form, segment: usize, column: usize) -> Self {
        let weight = form.weights(segment).get(column).map_or(1.0, |weight| f64::from(*weight));
        Self { metric: form.metric(), weight }
    }

    fn power(self, difference: f64) -> f64 {
        match self.metric {
            Metric::Euclidean => self.weight * difference * difference,
            Metric::Manhattan => self.weight * difference.abs(),
        }
    }
}

/// How a column counts towards one prototype, of whose power a share counts, and
/// towards another one.
fn measures(form: &Form, from: (usize, f64), other: usize, column: usize) -> (Measure, Measure) {
    let measure = |prototype| Measure::new(form, form.segment_of(prototype), column);
    let (mine, share) = (measure(from.0), share(form, from, other));
    (Measure { weight: share * mine.weight, ..mine }, measure(other))
}

fn share(form: &Form, (from, share): (usize, f64), other: usize) -> f64 {
    if form.segment_of(from) == form.segment_of(other) { 1.0 } else { share }
}

/// What one column adds to the gap between two prototypes, at x.
fn column_gap(own: (f64, Measure), other: (f64, Measure), x: f64) -> f64 {
    let ((own, own_measure), (other, other_measure)) = (own, other);
    let plain = own_measure.metric == Metric::Euclidean
        && own_measure.weight.to_bits() == other_measure.weight.to_bits();
    if plain {
        // In a form that keeps its digits near the border.
        own_measure.weight * (own - other) * (2.0 * x - own - other)
    } else {
        other_measure.power(x - other) - own_measure.power(x - own)
    }
}

/// The least of it for x in `span`: at an end, at a kink of the Manhattan
/// distance, or where the slope of a difference of weighted squares is zero.
fn least_gap(own: (f64, Measure), other: (f64, Measure), span: &Moved) -> f64 {
    let at = |x: f64| column_gap(own, other, x.clamp(span.low, span.high));
    let ends = at(span.low).min(at(span.high));
    match own.1.metric {
        Metric::Manhattan => ends.min(at(own.0)).min(at(other.0)),
        Metric::Euclidean => {
            let (mine, theirs) = (own.1.weight, other.1.weight);
            if theirs > mine {
                ends.min(at((theirs * other.0 - mine * own.0) / (theirs - mine)))
            } else {
                ends
            }
        }
    }
}

fn gap(form: &Form, place: &[f32], from: (usize, f64), other: usize) -> f64 {
    let prototypes = form.prototypes();
    let columns = prototypes.row(from.0).iter().zip(prototypes.row(other)).zip(place);
    let sum: f64 = columns
        .enumerate()
        .map(|(column, ((own, theirs), x))| {
            let (mine, measure) = measures(form, from, other, column);
            column_gap((f64::from(*own), mine), (f64::from(*theirs), measure), f64::from(*x))
        })
        .sum();
    sum + f64::from(form.offset(other)) - share(form, from, other) * f64::from(form.offset(from.0))
}
