//! How far a customer may move until the model can say something else.
//!
//! The power of one prototype less that of another is a sum over the columns. So
//! within a box its least value is the sum of the least in each column, and while
//! it is above zero for every prototype of another segment the segment holds
//! everywhere in the box. With a projection the box is put around the images:
//! see `image`.

use crate::domain::encode::Projection;
use crate::domain::feature::FeatureRow;
use crate::domain::model::image::image;
use crate::domain::model::{Form, Metric, Model, Near, Oddity, Scratch};

/// Encoded numbers are widened by this, relatively: more than what rounding to
/// `f32`, or a logarithm that falls by its last bit, can make of a bound.
pub(super) const ENCODED_ROUNDING: f64 = 1.0 / (1 << 22) as f64;
/// Relative rounding of one `f32` operation.
pub(super) const UNIT_ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

/// The range of one encoded column.
#[derive(Debug, Clone, Copy)]
pub(in crate::domain) struct Span {
    pub(in crate::domain) column: usize,
    /// In either order.
    pub(in crate::domain) ends: (f32, f32),
}

/// The range of one column, rounding allowed for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) column: usize,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// One row's answer, ready to be asked how far it holds: its segment or that it
/// is in none, and its outlier flag.
#[derive(Debug)]
pub(in crate::domain) struct Hold<'a> {
    form: &'a Form,
    projection: Option<&'a Projection>,
    near: Near,
    vector: &'a [f32],
    /// The vector, or its image.
    place: &'a [f32],
    /// Power of each prototype less that of the nearest.
    gaps: &'a [f64],
    /// What a box takes off each gap.
    shifts: &'a mut [f64],
    spans: &'a mut Vec<Moved>,
    images: &'a mut Vec<Moved>,
    /// Power of the nearest prototype without its offset.
    own: f64,
    /// Relative rounding of a power as it is computed.
    rounding: f64,
    outlier: bool,
    /// Of the distance to the segment, where there is no oddity.
    limit: f64,
    /// With its limit.
    oddity: Option<(&'a Oddity, f32)>,
}

impl Model {
    /// Never allocates once `scratch` is warm.
    pub(in crate::domain) fn hold<'a>(
        &'a self,
        row: &FeatureRow,
        outlier_alpha: f64,
        scratch: &'a mut Scratch,
    ) -> Hold<'a> {
        let score = self.score(row, scratch);
        let (form, projection, width) = (self.form(), self.projection(), self.encoder().width());
        let Scratch { vector, image, gaps, shifts, spans, images } = scratch;
        let vector = &vector[..width];
        let place = projection.map_or(vector, |projection| &image[..projection.width(width)]);
        let near = form.two_nearest(place);
        gaps.clear();
        gaps.extend((0..form.prototypes().count()).map(|other| gap(form, place, &near, other)));
        shifts.resize(gaps.len(), 0.0);
        Hold {
            form,
            projection,
            near,
            vector,
            place,
            gaps,
            shifts: &mut shifts[..],
            spans,
            images,
            own: form.parts(place, near.prototype).sum(),
            // A subtraction, a square, a weight, an offset, and sums of eight
            // lanes side by side.
            rounding: (place.len() as f64 / 8.0 + 18.0) * UNIT_ROUNDING,
            outlier: score.is_outlier(outlier_alpha),
            limit: f64::from(self.limit(score.nearest, outlier_alpha)),
            oddity: self.oddity().map(|oddity| (oddity, oddity.limit(outlier_alpha))),
        }
    }
}

impl Hold<'_> {
    /// Whether the answer is the same wherever each of `spans` ends up; columns
    /// without one stay where they are.
    pub(in crate::domain) fn holds_within(&mut self, spans: impl Iterator<Item = Span>) -> bool {
        self.spans.clear();
        for Span { column, ends } in spans {
            let (low, high) = (f64::from(ends.0.min(ends.1)), f64::from(ends.0.max(ends.1)));
            let at = f64::from(self.vector[column]);
            // Beyond a clip nothing moves any more.
            if low.to_bits() != at.to_bits() || high.to_bits() != at.to_bits() {
                let (low, high) =
                    (low - ENCODED_ROUNDING * low.abs(), high + ENCODED_ROUNDING * high.abs());
                self.spans.push(Moved { column, low, high });
            }
        }
        self.spans.is_empty() || (self.oddity_holds() && self.segment_holds())
    }

    fn oddity_holds(&self) -> bool {
        let stays = |(oddity, limit): (&Oddity, f32)| {
            oddity.stays(self.vector, self.spans, self.outlier, limit)
        };
        self.oddity.is_none_or(stays)
    }

    fn segment_holds(&mut self) -> bool {
        let moved = match self.projection {
            None => &*self.spans,
            Some(projection) => {
                if !image(projection, self.vector, self.spans, self.images) {
                    return false;
                }
                &*self.images
            }
        };
        self.shifts.fill(0.0);
        let (mut least, mut most) = (self.own, self.own);
        let prototypes = self.form.prototypes();
        let own = prototypes.row(self.near.prototype);
        for span in moved {
            let column = span.column;
            let (at, own) = (f64::from(self.place[column]), f64::from(own[column]));
            let measure = Measure::new(self.form, self.near.segment, column);
            let here = measure.power(at - own);
            least += measure.power(own.clamp(span.low, span.high) - own) - here;
            most += measure.power(span.low - own).max(measure.power(span.high - own)) - here;
            for (other, (shift, values)) in
                self.shifts.iter_mut().zip(prototypes.rows()).enumerate()
            {
                let other = self.form.segment_of(other);
                let to = (f64::from(values[column]), Measure::new(self.form, other, column));
                *shift += least_gap((own, measure), to, span) - column_gap((own, measure), to, at);
            }
        }
        let near = self.near;
        let offset = f64::from(self.form.offset(near.prototype));
        let slack = 3.0 * self.rounding * (most + offset) + f64::from(f32::MIN_POSITIVE);
        self.is_nearest(slack) && self.is_on_its_side(least, most)
    }

    /// Whether no rounding in either power can bring another segment nearer.
    fn is_nearest(&self, slack: f64) -> bool {
        let mut least = self.gaps.iter().zip(&*self.shifts).enumerate();
        least.all(|(other, (gap, shift))| {
            gap + shift > slack || self.form.segment_of(other) == self.near.segment
        })
    }

    /// Whether neither the reach nor the limit of the segment can be crossed; the
    /// power of its nearest prototype, without the offset, is from `least` to `most`.
    fn is_on_its_side(&self, least: f64, most: f64) -> bool {
        let Self { form, near, .. } = *self;
        // Another prototype of the segment may take over.
        let siblings = |prototype: &usize| form.segment_of(*prototype) == near.segment;
        let closer = |prototype: usize| self.gaps[prototype] + self.shifts[prototype];
        let mut bounds = (0.0_f64, f64::INFINITY, 0.0_f64);
        for prototype in (0..self.gaps.len()).filter(siblings) {
            let offset = f64::from(form.offset(prototype));
            bounds.0 = bounds.0.min(closer(prototype));
            bounds.1 = bounds.1.min(offset);
            bounds.2 = bounds.2.max(offset);
        }
        let (takes_over, least_offset, most_offset) = bounds;
        let offset = f64::from(form.offset(near.prototype));
        let (least, most) = (least + offset + takes_over, most + offset);
        // A root, a division by the segment's scale, and its product in the limit.
        let slack = (self.rounding + 8.0 * UNIT_ROUNDING) * most;
        let power = |distance: f64| match form.metric() {
            Metric::Euclidean => distance * distance,
            Metric::Manhattan => distance,
        };
        let (reach, limit) = (power(f64::from(form.reach(near.segment))), power(self.limit));
        let is_within_reach = if near.reached {
            most - least_offset + slack < reach || reach.is_infinite()
        } else {
            least - most_offset - slack > reach
        };
        // With an oddity, it tells the outliers.
        let is_within_limit = self.oddity.is_some()
            || if self.outlier { least - slack > limit } else { most + slack < limit };
        is_within_reach && is_within_limit
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

fn gap(form: &Form, place: &[f32], near: &Near, other: usize) -> f64 {
    let prototypes = form.prototypes();
    let columns = prototypes.row(near.prototype).iter().zip(prototypes.row(other)).zip(place);
    let segments = (near.segment, form.segment_of(other));
    let sum: f64 = columns
        .enumerate()
        .map(|(column, ((own, other), x))| {
            let measure = |segment| Measure::new(form, segment, column);
            let own = (f64::from(*own), measure(segments.0));
            column_gap(own, (f64::from(*other), measure(segments.1)), f64::from(*x))
        })
        .sum();
    sum + f64::from(form.offset(other)) - f64::from(form.offset(near.prototype))
}

impl Moved {
    pub(super) fn still(column: usize, x: f32) -> Self {
        let x = f64::from(x);
        Self { column, low: x, high: x }
    }
}
