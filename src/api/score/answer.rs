//! Streaming JSON writer of a scoring response: one score is written as each row is read.

use std::ops::Range;

use serde::Serialize;
use serde_json::Result;

use crate::domain::drift::Source;
use crate::domain::feature::{FeatureRow, Value};
use crate::domain::model::{Direction, Model, Reason, Score, Scratch, Unusual};
use crate::service::scoring::deployment::{Lineup, Verdict};
use crate::service::scoring::observations::Tally;

/// The contribution of one feature to the distance, in the unit of the feature.
#[derive(Serialize)]
struct ReasonBody {
    feature: String,
    unit: String,
    share: f64,
    value: serde_json::Value,
    typical: serde_json::Value,
    direction: &'static str,
}

impl ReasonBody {
    fn new(model: &Model, reason: Reason) -> Self {
        let def = &model.features()[reason.feature];
        Self {
            feature: def.name.to_string(),
            unit: def.unit.to_string(),
            share: reason.share,
            value: value_body(reason.value),
            typical: value_body(reason.typical),
            direction: match reason.direction {
                Direction::Higher => "higher",
                Direction::Lower => "lower",
                Direction::Same => "same",
                Direction::Different => "different",
            },
        }
    }
}

/// A feature's value as JSON; null where it is missing.
pub(in crate::api) fn value_body(value: Value) -> serde_json::Value {
    match value {
        Value::Missing => serde_json::Value::Null,
        Value::Number(number) => number.into(),
        Value::Category(text) => text.into_string().into(),
    }
}

/// Writer of a scoring response. The score of a single row is written at the top level,
/// the scores of several rows under `scores`.
pub(super) struct Scores<'l> {
    lineup: &'l Lineup,
    explain: bool,
    scratch: Scratch,
    tally: Tally,
    json: Vec<u8>,
    /// By segment: ranges of the JSON that all scores of the segment share. They are
    /// serialised once, then copied.
    written: Vec<Written>,
    listed: bool,
}

/// Ranges of the JSON where the parts of a segment were first written; empty until then.
#[derive(Clone, Default)]
struct Written {
    nearest: Range<usize>,
    runner_up: Range<usize>,
}

impl<'l> Scores<'l> {
    pub(super) fn new(lineup: &'l Lineup, explain: bool, body_bytes: usize) -> Self {
        // Rows of few features have the longest answers relative to their size.
        let json = Vec::with_capacity(512 + 3 * body_bytes);
        let segments = lineup.active.as_ref().map_or(1, |model| model.segments().len());
        let written = vec![Written::default(); segments];
        let (scratch, tally) = (Scratch::default(), Tally::of(Source::Rows));
        Self { lineup, explain, scratch, tally, json, written, listed: true }
    }

    /// Scores a row and writes the score.
    pub(super) fn add(&mut self, row: &FeatureRow, bare: bool) -> Result<()> {
        if self.json.is_empty() {
            self.open(bare)?;
        } else {
            self.json.extend_from_slice(b",{");
        }
        let verdict = self.lineup.score(row, &mut self.scratch);
        self.lineup.note(&mut self.tally, row, &verdict);
        if let (Some(model), Some(score)) = (&self.lineup.active, &verdict.score) {
            self.scored(&verdict, score)?;
            if self.explain {
                let reasons = model.explain(row, score).into_iter();
                let reasons: Vec<_> = reasons.map(|one| ReasonBody::new(model, one)).collect();
                put(&mut self.json, ",\"reasons\":", &reasons)?;
            }
        } else {
            put(&mut self.json, "\"segment\":", verdict.segment)?;
            put(&mut self.json, ",\"label\":", verdict.label)?;
            self.json.extend_from_slice(NO_DISTANCES.as_bytes());
        }
        self.json.push(b'}');
        Ok(())
    }

    /// Completes the response. Returns its JSON and the drift counts of its scores.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Tally)> {
        if self.json.is_empty() {
            self.open(false)?;
            self.json.pop();
        }
        if self.listed {
            self.json.extend_from_slice(b"]}");
        }
        Ok((self.json, self.tally))
    }

    /// Writes the fields that precede the first score.
    fn open(&mut self, bare: bool) -> Result<()> {
        let model = self.lineup.active.as_ref().map(|model| model.id().as_str());
        let json = &mut self.json;
        put(json, "{\"model\":", &model)?;
        put(json, ",\"fallback\":", &model.is_none())?;
        put(json, ",\"generation\":", &self.lineup.generation)?;
        json.extend_from_slice(if bare { b"," } else { b",\"scores\":[{" });
        self.listed = !bare;
        Ok(())
    }

    fn scored(&mut self, verdict: &Verdict<'_>, score: &Score) -> Result<()> {
        let json = &mut self.json;
        let names = |json: &mut Vec<u8>| {
            put(json, "\"segment\":", verdict.segment)?;
            put(json, ",\"label\":", verdict.label)?;
            put(json, ",\"nearest\":", &verdict.nearest)
        };
        match verdict.index {
            Some(index) => once(json, &mut self.written[index].nearest, names)?,
            None => names(json)?,
        }
        put(json, ",\"distance\":", &score.distance)?;
        match score.runner_up {
            Some(index) => once(json, &mut self.written[index].runner_up, |json| {
                put(json, ",\"runner_up\":", &verdict.runner_up)
            })?,
            None => json.extend_from_slice(b",\"runner_up\":null"),
        }
        put(json, ",\"margin\":", &score.margin())?;
        put(json, ",\"confidence\":", &score.confidence())?;
        put(json, ",\"p_value\":", &score.p_value)?;
        put(json, ",\"outlier\":", &verdict.outlier)?;
        put(json, ",\"edge_p_value\":", &score.edge_p_value)?;
        put(json, ",\"unusual\":", &verdict.unusual.map(Unusual::name))
    }
}

/// The fields of a score that the rule-based fallback cannot compute.
const NO_DISTANCES: &str = concat!(
    ",\"nearest\":null,\"distance\":null,\"runner_up\":null,\"margin\":null",
    ",\"confidence\":null,\"p_value\":null,\"outlier\":false",
    ",\"edge_p_value\":null,\"unusual\":null"
);

fn put(json: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
    json.extend_from_slice(name.as_bytes());
    serde_json::to_writer(json, value)
}

/// Copies the JSON at `at`; writes it and records the range if that is still empty.
fn once(
    json: &mut Vec<u8>,
    at: &mut Range<usize>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    if Range::is_empty(at) {
        at.start = json.len();
        write(json)?;
        at.end = json.len();
    } else {
        json.extend_from_within(at.clone());
    }
    Ok(())
}
