//! Lower bounds of the margins between prototypes, while columns vary within a box.
//!
//! The difference between the powers of two prototypes is a sum over the columns. So its
//! least value in a box is the sum of the least values per column.

use crate::domain::model::bounds::interval::ColumnInterval;
use crate::domain::model::{DecisionFunction, DistanceMetric};

/// The prototype from which margins are measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MarginOrigin {
    pub(crate) prototype: usize,
    /// Factor of its power against prototypes of other segments (hysteresis). Against
    /// prototypes of its own segment its full power counts.
    pub(crate) power_share: f64,
}

/// Margins of all prototypes within a box, measured from one of them.
#[derive(Debug)]
pub(crate) struct PrototypeMargins<'a> {
    pub(crate) origin: MarginOrigin,
    /// Largest decrease of each margin within the box, at most 0.
    shifts: &'a mut Vec<f64>,
}

/// Range of the power of one prototype within a box, its offset included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PowerRange {
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl<'a> PrototypeMargins<'a> {
    /// `shifts` is a buffer.
    pub(crate) fn new(origin: MarginOrigin, shifts: &'a mut Vec<f64>) -> Self {
        Self { origin, shifts }
    }

    /// Sets the box: the columns of `intervals` vary, all others are fixed at `decision_vector`.
    pub(crate) fn set_box(
        &mut self,
        decision_function: &DecisionFunction,
        decision_vector: &[f32],
        intervals: &[ColumnInterval],
    ) {
        self.shifts.clear();
        for other in 0..decision_function.prototypes().count() {
            let pair = PrototypePair::new(decision_function, self.origin, other);
            let mut shift = 0.0;
            for interval in intervals {
                let terms = pair.column(interval.column);
                let here = f64::from(decision_vector[interval.column]);
                shift += terms.least_gap(*interval) - terms.gap_at(here);
            }
            self.shifts.push(shift);
        }
    }

    /// Least margin of another prototype within the box: its power less the counted power of the
    /// origin. `powers` are those of all prototypes at the customer's own vector.
    pub(crate) fn least(
        &self,
        decision_function: &DecisionFunction,
        powers: &[f64],
        other: usize,
    ) -> f64 {
        let share = self.origin.share_against(decision_function, other);
        powers[other] - share * powers[self.origin.prototype] + self.shifts[other]
    }
}

impl MarginOrigin {
    /// Share of the origin's power that counts against another prototype.
    fn share_against(self, decision_function: &DecisionFunction, other: usize) -> f64 {
        let own_segment = decision_function.segment_of(self.prototype);
        if decision_function.segment_of(other) == own_segment { 1.0 } else { self.power_share }
    }
}

impl PowerRange {
    pub(crate) fn within(
        decision_function: &DecisionFunction,
        decision_vector: &[f32],
        prototype: usize,
        intervals: &[ColumnInterval],
    ) -> Self {
        let here: f64 = decision_function.distance_terms(decision_vector, prototype).sum();
        let (mut least, mut most) = (here, here);
        let weighted = WeightedPrototype::new(decision_function, prototype);
        for interval in intervals {
            let term = weighted.column(interval.column);
            let here = term.power_at(f64::from(decision_vector[interval.column]));
            // Least at the point of the interval nearest to the prototype, most at an end.
            least += term.power_at(term.value.clamp(interval.low, interval.high)) - here;
            most += term.power_at(interval.low).max(term.power_at(interval.high)) - here;
        }
        let offset = f64::from(decision_function.offset(prototype));
        Self { least: least + offset, most: most + offset }
    }
}

/// The origin and another prototype, with powers that are compared column by column.
struct PrototypePair<'f> {
    own: WeightedPrototype<'f>,
    other: WeightedPrototype<'f>,
}

/// Values and weights of one prototype.
struct WeightedPrototype<'f> {
    metric: DistanceMetric,
    values: &'f [f32],
    /// Empty: all 1.
    weights: &'f [f32],
    /// Multiplies every weight.
    factor: f64,
}

/// Both prototypes in one column.
struct ColumnTerms {
    own: ColumnTerm,
    other: ColumnTerm,
}

/// One column's term in the power of one prototype.
#[derive(Clone, Copy)]
struct ColumnTerm {
    metric: DistanceMetric,
    value: f64,
    weight: f64,
}

impl<'f> PrototypePair<'f> {
    fn new(decision_function: &'f DecisionFunction, origin: MarginOrigin, other: usize) -> Self {
        let mut own = WeightedPrototype::new(decision_function, origin.prototype);
        own.factor = origin.share_against(decision_function, other);
        Self { own, other: WeightedPrototype::new(decision_function, other) }
    }

    fn column(&self, column: usize) -> ColumnTerms {
        ColumnTerms { own: self.own.column(column), other: self.other.column(column) }
    }
}

impl<'f> WeightedPrototype<'f> {
    fn new(decision_function: &'f DecisionFunction, prototype: usize) -> Self {
        Self {
            metric: decision_function.metric(),
            values: decision_function.prototypes().row(prototype),
            weights: decision_function.weights(decision_function.segment_of(prototype)),
            factor: 1.0,
        }
    }

    fn column(&self, column: usize) -> ColumnTerm {
        let weight = self.weights.get(column).map_or(1.0, |weight| f64::from(*weight));
        ColumnTerm {
            metric: self.metric,
            value: f64::from(self.values[column]),
            weight: self.factor * weight,
        }
    }
}

impl ColumnTerm {
    fn power_at(self, x: f64) -> f64 {
        let difference = x - self.value;
        match self.metric {
            DistanceMetric::Euclidean => self.weight * difference * difference,
            DistanceMetric::Manhattan => self.weight * difference.abs(),
        }
    }
}

impl ColumnTerms {
    /// This column's term in the gap between both prototypes, at x.
    fn gap_at(&self, x: f64) -> f64 {
        let Self { own, other } = self;
        let has_equal_weights = own.weight.to_bits() == other.weight.to_bits();
        if own.metric == DistanceMetric::Euclidean && has_equal_weights {
            // The factored difference of squares: no cancellation near the border between
            // both prototypes, where the gap is small.
            own.weight * (own.value - other.value) * (2.0 * x - own.value - other.value)
        } else {
            other.power_at(x) - own.power_at(x)
        }
    }

    /// The least gap for x in an interval.
    ///
    /// It lies at an end, at a kink of the Manhattan distance, or at the vertex of the
    /// parabola, where the slope of a difference of weighted squares is zero.
    fn least_gap(&self, interval: ColumnInterval) -> f64 {
        let Self { own, other } = self;
        let ends = self.gap_at(interval.low).min(self.gap_at(interval.high));
        match own.metric {
            DistanceMetric::Manhattan => ends
                .min(self.gap_at(own.value.clamp(interval.low, interval.high)))
                .min(self.gap_at(other.value.clamp(interval.low, interval.high))),
            // Otherwise the parabola opens downwards or is a line: an end is least.
            DistanceMetric::Euclidean if other.weight > own.weight => {
                let vertex = (other.weight * other.value - own.weight * own.value)
                    / (other.weight - own.weight);
                ends.min(self.gap_at(vertex.clamp(interval.low, interval.high)))
            }
            DistanceMetric::Euclidean => ends,
        }
    }
}
