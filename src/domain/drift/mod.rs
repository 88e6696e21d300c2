//! Whether what is scored still looks like what the model was trained on.
//!
//! Everything is told from counts on bins that were fixed at training. A
//! difference is a *finding* when it is certain, it matters, and there is enough to
//! tell: its p-value holds after the correction for all that is tested at once, its
//! size reaches a limit, and it rests on a minimum of rows. What is told of a score
//! counts each score once: a customer who is scored often counts often.
//!
//! Beside these checks of one window, detectors add up the evidence of many hours, for
//! what is small or slow and lasts ([`mod@stream`]): of what they find the p-value is how
//! often chance raises such an alarm in as many hours, and it is held to no level. Within a segment, means are compared,
//! by sums that are kept beside the counts.
//!
//! The modules stand in import order.

mod source;
mod cells;
pub mod psi;
pub mod ks;
pub mod categorical;
pub mod wasserstein;
pub mod adjust;
pub mod mix;
mod churn;
pub mod window;
pub mod ranks;
pub mod martingale;
pub mod page_hinkley;
pub mod adwin;
pub mod stream;
mod inside;
pub mod welch;
mod within;
mod figures;
mod limits;
mod alarm;
mod words;
mod by_key;
mod finding;
mod check;
pub mod influence;
mod facts;
mod lasting;
mod picture;

pub use alarm::{Alarm, AlarmRules, MOST_CHECKS, Step};
pub use by_key::{ByKey, KeyShare, MOST_KEYS, NO_KEY, OTHER_KEYS, RESTS_ON_FACT, RestsOn};
pub use cells::Cells;
pub use check::{Check, Test, check, check_within};
pub use churn::{Apart, Churn, SegmentChurn, Share, Start, Way, churn};
pub use facts::{facts, headline};
pub use figures::{BinChange, CategoryChange, FeatureFigures, Rows, ValueFigures};
pub use finding::{About, Finding};
pub use influence::{KeyCheck, KeyChecks, key_checks, mark_influence};
pub use inside::{Inside, Yardstick};
pub use lasting::{lasting, lasting_facts};
pub use limits::{Limits, Severity, Steps};
pub use mix::{Outliers, Rate};
pub use picture::{Bar, Drawn, escaped, picture};
pub use source::Source;
pub use stream::{Hour, Method, Stream, stream};
pub use window::{FeatureCounts, Layout, P_VALUE_BINS, View, Window, WrongLength};
pub use within::{FeatureWithin, LEAST_ROWS, MovedWithin, Which, WithinFigures};
pub use words::percent;
