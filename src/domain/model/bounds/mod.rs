//! Invariance bounds: proves by interval arithmetic that a score stays the same while the
//! encoded columns vary within a box.
//!
//! Rescoring uses this to skip customers if the passage of time cannot change their answer.
//! The segment is invariant in a box if every prototype of another segment is
//! farther than the customer's own prototype, everywhere in the box. With a projection, the
//! box is replaced by a box around its images: see [`projection`].
//!
//! With hysteresis of strength h, a customer leaves its segment for another at distance
//! d < (1 - h) · d(own). In powers that is a power below (1 - h)² times its own, or (1 - h)
//! times with the Manhattan metric; both powers include the offsets. So only a *share* of
//! the own power counts.

pub(crate) mod margin;
pub(crate) mod projection;

use crate::domain::feature::FeatureRow;
use crate::domain::model::bounds::margin::{Margins, Range};
use crate::domain::model::bounds::projection::image;
use crate::domain::model::{Model, Near, Oddity, Scratch};

/// Relative widening of encoded intervals. It exceeds both the rounding to `f32` and the
/// error of a logarithm that is off by its last bit.
pub(crate) const ENCODED_ROUNDING: f64 = 1.0 / (1 << 22) as f64;
/// Unit roundoff of `f32`, 2⁻²⁴: relative error of one operation.
pub(crate) const UNIT_ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

/// Interval of one encoded column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) column: usize,
    /// Both ends, in either order.
    pub(crate) ends: (f32, f32),
}

/// Interval of one column, widened for rounding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) column: usize,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Previous assignment of a customer, with its hysteresis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stay {
    /// The assigned segment, the nearest or not; `None`: unassigned.
    pub(crate) segment: Option<usize>,
    /// The customer leaves only if another segment is nearer than this share of the
    /// distance; 0: never.
    pub(crate) share: f64,
}

/// Invariance check of one row's answer: its segment (or none) and its outlier flag.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    model: &'a Model,
    near: Near,
    vector: &'a [f32],
    /// Input of the decision function: the vector, or its projection.
    place: &'a [f32],
    /// Margins from the assigned segment's prototype: could another segment win?
    own: Margins<'a>,
    /// Margins from the nearest prototype. They matter only with radii, and for the
    /// outliers of a model without an outlier reference.
    nearest: Option<Margins<'a>>,
    spans: &'a mut Vec<Moved>,
    images: &'a mut Vec<Moved>,
    /// Hysteresis is total: no other segment can win.
    stays_anyway: bool,
    /// Relative rounding error of a computed power.
    rounding: f64,
    outlier: bool,
    outlier_alpha: f64,
}

impl Model {
    /// Prepares the invariance check of the answer for `row`; `stay` is the previous
    /// assignment. Never allocates once `scratch` has grown.
    pub(crate) fn hold<'a>(
        &'a self,
        row: &FeatureRow,
        stay: Stay,
        outlier_alpha: f64,
        scratch: &'a mut Scratch,
    ) -> Hold<'a> {
        let score = self.score(row, scratch);
        let (form, projection, width) = (self.form(), self.projection(), self.encoder().width());
        let Scratch { vector, image, gaps, shifts, near_gaps, near_shifts, spans, images } =
            scratch;
        let vector = &vector[..width];
        let place = projection.map_or(vector, |projection| &image[..projection.width(width)]);
        let near = form.two_nearest(place);
        let (own, share) = match stay.segment {
            None => (near.prototype, 1.0),
            Some(segment) if segment == near.segment => (near.prototype, stay.share),
            Some(segment) => (form.nearest_of(segment, place).prototype, stay.share),
        };
        let own = Margins::new(form, place, (own, form.power_of(share)), (gaps, shifts));
        let matters = form.has_reach() || self.oddity().is_none();
        let nearest = matters
            .then(|| Margins::new(form, place, (near.prototype, 1.0), (near_gaps, near_shifts)));
        Hold {
            model: self,
            near,
            vector,
            place,
            own,
            nearest,
            spans,
            images,
            stays_anyway: share <= 0.0,
            // One roundoff per addition in each of eight lanes, and a margin of 18 for the
            // subtraction, the square, the weight, the offset and the sum of the lanes.
            rounding: (place.len() as f64 / 8.0 + 18.0) * UNIT_ROUNDING,
            outlier: score.is_outlier(outlier_alpha),
            outlier_alpha,
        }
    }
}

impl Hold<'_> {
    /// Whether the answer is the same for all values within `spans`; columns without a span
    /// do not vary.
    pub(crate) fn holds_within(&mut self, spans: impl Iterator<Item = Span>) -> bool {
        self.spans.clear();
        for Span { column, ends } in spans {
            let (low, high) = (f64::from(ends.0.min(ends.1)), f64::from(ends.0.max(ends.1)));
            let at = f64::from(self.vector[column]);
            // A span can be a single point, as a clipped value does not vary any more. Such
            // columns are skipped: widening them would only loosen the bound.
            if low.to_bits() != at.to_bits() || high.to_bits() != at.to_bits() {
                let (low, high) =
                    (low - ENCODED_ROUNDING * low.abs(), high + ENCODED_ROUNDING * high.abs());
                self.spans.push(Moved { column, low, high });
            }
        }
        self.spans.is_empty() || (self.oddity_holds() && self.segment_holds())
    }

    fn oddity_holds(&self) -> bool {
        let stays = |oddity: &Oddity| {
            oddity.stays(self.vector, self.spans, self.outlier, oddity.limit(self.outlier_alpha))
        };
        self.model.oddity().is_none_or(stays)
    }

    fn segment_holds(&mut self) -> bool {
        let (model, place) = (self.model, self.place);
        let moved = match model.projection() {
            None => &*self.spans,
            Some(projection) => {
                if !image(projection, self.vector, self.spans, self.images) {
                    return false;
                }
                &*self.images
            }
        };
        let form = model.form();
        self.own.shift(form, place, moved);
        if let Some(nearest) = &mut self.nearest {
            nearest.shift(form, place, moved);
        }
        let own = Range::of(form, place, self.own.from, moved).most;
        self.is_kept(own)
            && self.nearest.as_ref().is_none_or(|nearest| {
                self.is_on_its_side(nearest, moved) && self.is_reached_still(own, moved)
            })
    }

    /// Whether the customer stays in its segment: no other segment comes near enough, with
    /// rounding considered. The power of the own prototype is at most `most`.
    fn is_kept(&self, most: f64) -> bool {
        let form = self.model.form();
        let (own, slack) = (form.segment_of(self.own.from), self.slack(most));
        let mut others = (0..form.prototypes().count()).filter(|o| form.segment_of(*o) != own);
        self.stays_anyway || others.all(|other| self.own.least(other) > slack)
    }

    /// Whether the customer stays on its side of the radius and of the outlier limit of every
    /// segment that can become the nearest.
    fn is_on_its_side(&self, nearest: &Margins<'_>, moved: &[Moved]) -> bool {
        let form = self.model.form();
        let range = |prototype| Range::of(form, self.place, prototype, moved);
        let most = range(nearest.from).most;
        let slack = self.slack(most);
        (0..form.prototypes().count()).filter(|other| nearest.least(*other) <= slack).all(|other| {
            let range = range(other);
            // While `other` is the nearest, its power is at most that of the old nearest.
            let range = Range { most: range.most.min(most), ..range };
            self.keeps_reach(other, range, self.near.reached)
                && (self.model.oddity().is_some() || self.keeps_limit(other, range))
        })
    }

    /// Whether the customer stays within the radius of its assigned segment, the nearest or
    /// not. The power of the own prototype is at most `most`.
    fn is_reached_still(&self, most: f64, moved: &[Moved]) -> bool {
        let form = self.model.form();
        let (own, slack) = (form.segment_of(self.own.from), self.slack(most));
        let mut siblings = (0..form.prototypes().count())
            .filter(|o| form.segment_of(*o) == own && self.own.least(*o) <= slack);
        // If the own segment is the nearest, `is_on_its_side` has checked its radius.
        own == self.near.segment
            || siblings.all(|sibling| {
                let range = Range::of(form, self.place, sibling, moved);
                self.keeps_reach(sibling, Range { most: range.most.min(most), ..range }, true)
            })
    }

    fn keeps_reach(&self, prototype: usize, power: Range, reached: bool) -> bool {
        let form = self.model.form();
        let reach = form.power_of(f64::from(form.reach(form.segment_of(prototype))));
        let offset = f64::from(form.offset(prototype));
        let slack = self.slack_of_distance(power.most);
        if reached {
            power.most - offset + slack < reach || reach.is_infinite()
        } else {
            power.least - offset - slack > reach
        }
    }

    fn keeps_limit(&self, prototype: usize, power: Range) -> bool {
        let form = self.model.form();
        let limit = self.model.limit(form.segment_of(prototype), self.outlier_alpha);
        let limit = form.power_of(f64::from(limit));
        let slack = self.slack_of_distance(power.most);
        if self.outlier { power.least - slack > limit } else { power.most + slack < limit }
    }

    /// Bound of the rounding error in the difference of two powers of at most `most`.
    fn slack(&self, most: f64) -> f64 {
        3.0 * self.rounding * most + f64::from(f32::MIN_POSITIVE)
    }

    /// Bound of the rounding error in a power compared as a distance. The margin of 8 covers
    /// the root, the division by the segment's scale, and its product in the limit.
    fn slack_of_distance(&self, most: f64) -> f64 {
        (self.rounding + 8.0 * UNIT_ROUNDING) * most
    }
}

impl Moved {
    pub(crate) fn still(column: usize, x: f32) -> Self {
        let x = f64::from(x);
        Self { column, low: x, high: x }
    }
}
