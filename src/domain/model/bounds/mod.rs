//! How far a customer may move until the model can say something else.
//!
//! While every prototype of another segment is farther than the one where the
//! customer stands, everywhere in a box, the segment holds there. With hysteresis
//! others may be nearer, and what counts of its own power is a share. With a
//! projection the box is put around the images: see `image`.
//!
//! With h, a customer leaves for d < (1 - h) · d(own), which is a power below
//! (1 - h)² of its own one, with the Manhattan metric below (1 - h) of it: offsets
//! are part of either.

pub(crate) mod margin;
pub(crate) mod projection;

use crate::domain::feature::FeatureRow;
use crate::domain::model::bounds::margin::{Margins, Range};
use crate::domain::model::bounds::projection::image;
use crate::domain::model::{Model, Near, Oddity, Scratch};

/// Encoded numbers are widened by this, relatively: more than what rounding to
/// `f32`, or a logarithm that falls by its last bit, can make of a bound.
pub(crate) const ENCODED_ROUNDING: f64 = 1.0 / (1 << 22) as f64;
/// Relative rounding of one `f32` operation.
pub(crate) const UNIT_ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

/// The range of one encoded column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) column: usize,
    /// In either order.
    pub(crate) ends: (f32, f32),
}

/// The range of one column, rounding allowed for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) column: usize,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// What a customer's segment is kept by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stay {
    /// Where it stands, the nearest or not; `None`: in none.
    pub(crate) segment: Option<usize>,
    /// It stays until another segment is nearer than this share of the distance; 0:
    /// however near another is.
    pub(crate) share: f64,
}

/// One row's answer, ready to be asked how far it holds: its segment or that it
/// is in none, and its outlier flag.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    model: &'a Model,
    near: Near,
    vector: &'a [f32],
    /// The vector, or its image.
    place: &'a [f32],
    /// Seen from where the customer stands: who is near enough to be moved to.
    own: Margins<'a>,
    /// Seen from the nearest prototype, where it matters which that is: for a reach,
    /// and for the outliers of a model without an oddity.
    nearest: Option<Margins<'a>>,
    spans: &'a mut Vec<Moved>,
    images: &'a mut Vec<Moved>,
    stays_anyway: bool,
    /// Relative rounding of a power as it is computed.
    rounding: f64,
    outlier: bool,
    outlier_alpha: f64,
}

impl Model {
    /// `stay` is where the customer of `row` stands. Never allocates once `scratch`
    /// is warm.
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
            // A subtraction, a square, a weight, an offset, and sums of eight
            // lanes side by side.
            rounding: (place.len() as f64 / 8.0 + 18.0) * UNIT_ROUNDING,
            outlier: score.is_outlier(outlier_alpha),
            outlier_alpha,
        }
    }
}

impl Hold<'_> {
    /// Whether the answer is the same wherever each of `spans` ends up; columns
    /// without one stay where they are.
    pub(crate) fn holds_within(&mut self, spans: impl Iterator<Item = Span>) -> bool {
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

    /// Whether no rounding in either power can bring another segment near enough;
    /// the power of the prototype where the customer stands is up to `most`.
    fn is_kept(&self, most: f64) -> bool {
        let form = self.model.form();
        let (own, slack) = (form.segment_of(self.own.from), self.slack(most));
        let mut others = (0..form.prototypes().count()).filter(|o| form.segment_of(*o) != own);
        self.stays_anyway || others.all(|other| self.own.least(other) > slack)
    }

    /// Whether neither the reach nor the limit of any segment that can be the
    /// nearest is crossed.
    fn is_on_its_side(&self, nearest: &Margins<'_>, moved: &[Moved]) -> bool {
        let form = self.model.form();
        let range = |prototype| Range::of(form, self.place, prototype, moved);
        let most = range(nearest.from).most;
        let slack = self.slack(most);
        (0..form.prototypes().count()).filter(|other| nearest.least(*other) <= slack).all(|other| {
            let range = range(other);
            let range = Range { most: range.most.min(most), ..range };
            self.keeps_reach(other, range, self.near.reached)
                && (self.model.oddity().is_some() || self.keeps_limit(other, range))
        })
    }

    /// Whether the segment where the customer stands reaches it still, the nearest
    /// or not; the power there is up to `most`.
    fn is_reached_still(&self, most: f64, moved: &[Moved]) -> bool {
        let form = self.model.form();
        let (own, slack) = (form.segment_of(self.own.from), self.slack(most));
        let mut siblings = (0..form.prototypes().count())
            .filter(|o| form.segment_of(*o) == own && self.own.least(*o) <= slack);
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

    /// What rounding may make of the difference of two powers, the greater of which
    /// is up to `most`.
    fn slack(&self, most: f64) -> f64 {
        3.0 * self.rounding * most + f64::from(f32::MIN_POSITIVE)
    }

    /// A root, a division by the segment's scale, and its product in the limit.
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
