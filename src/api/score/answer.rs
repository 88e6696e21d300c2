//! Streaming JSON writer of a scoring response: one score is written as each row is read. Its
//! form is that of [`ScoreResponseBody`](super::body::ScoreResponseBody).

use std::ops::Range;

use serde::Serialize;
use serde_json::Result;

use crate::api::experiments::participation::ParticipationBody;
use crate::api::score::body::{AnomalyBody, InputDefaultBody, ScoreReasonBody};
use crate::domain::audience::CustomerAudiences;
use crate::domain::drift::{CustomerBucket, ScoreSource};
use crate::domain::experiment::spec::CustomerContext;
use crate::domain::fault::ValidationFault;
use crate::domain::feature::FeatureRow;
use crate::domain::id::CustomerKey;
use crate::domain::model::{ScoringScratch, SegmentScore};
use crate::service::scoring::assignment::evaluate_row_audiences;
use crate::service::scoring::deployment::{Deployment, RowScore};
use crate::service::scoring::observations::BatchCounts;

/// Writer of a scoring response. The score of a single row is written at the top level,
/// the scores of a list under `scores`.
pub(super) struct ScoreWriter<'l> {
    deployment: &'l Deployment,
    is_explained: bool,
    /// Of the single row.
    customer: Option<CustomerKey>,
    scratch: ScoringScratch,
    tally: BatchCounts,
    json: Vec<u8>,
    /// By segment: ranges of the JSON that all scores of the segment share. They are
    /// serialised once, then copied.
    segment_parts: Vec<SegmentParts>,
    is_list: bool,
    rows: usize,
    /// Fault of a row that is not scored.
    refused: Option<ValidationFault>,
}

/// Ranges of the JSON where the parts of a segment were first written; empty until then.
#[derive(Clone, Default)]
struct SegmentParts {
    nearest: Range<usize>,
    runner_up: Range<usize>,
}

impl<'l> ScoreWriter<'l> {
    pub(super) fn new(
        deployment: &'l Deployment,
        is_explained: bool,
        customer: Option<CustomerKey>,
        body_bytes: usize,
    ) -> Self {
        let segments = deployment.active.as_ref().map_or(1, |model| model.segments().len());
        Self {
            deployment,
            is_explained,
            customer,
            scratch: ScoringScratch::default(),
            tally: BatchCounts::new(ScoreSource::Rows),
            // Rows of few features have the longest answers relative to their size.
            json: Vec::with_capacity(512 + 3 * body_bytes),
            segment_parts: vec![SegmentParts::default(); segments],
            is_list: true,
            rows: 0,
            refused: None,
        }
    }

    pub(super) fn deployment(&self) -> &'l Deployment {
        self.deployment
    }

    /// The fault of the row at which [`Self::add`] failed, if it has no value to score.
    pub(super) fn into_refused(self) -> Option<ValidationFault> {
        self.refused
    }

    /// Scores a row and writes the score. Fails for a row without any value.
    pub(super) fn add(&mut self, row: &FeatureRow, is_single: bool) -> Result<()> {
        let inputs = self.deployment.check_inputs(row);
        if inputs.is_empty {
            let path =
                if is_single { "features".to_owned() } else { format!("rows[{}]", self.rows) };
            let problem = self.deployment.empty_row_problem();
            self.refused = Some(ValidationFault::new(path, problem));
            return Err(serde::ser::Error::custom("a row has no value"));
        }
        self.rows += 1;
        if self.json.is_empty() {
            self.open(is_single)?;
        } else {
            self.json.extend_from_slice(b",{");
        }
        let verdict = self.deployment.score_row(row, &mut self.scratch);
        let bucket = self.customer.as_ref().map(CustomerBucket::of);
        self.deployment.count_score(&mut self.tally, row, &verdict, bucket);
        if let (Some(model), Some(score)) = (&self.deployment.active, &verdict.score) {
            self.write_score(&verdict, score)?;
            if self.is_explained {
                let reasons = model.explain_score(row, score).into_iter();
                let reasons: Vec<_> =
                    reasons.map(|reason| ScoreReasonBody::new(model, reason)).collect();
                write_member(&mut self.json, ",\"reasons\":", &reasons)?;
            }
        } else {
            write_member(&mut self.json, "\"segment_id\":", verdict.segment_id)?;
            write_member(&mut self.json, ",\"segment_name\":", verdict.segment_name)?;
            self.json.extend_from_slice(NO_DISTANCES.as_bytes());
        }
        write_member(&mut self.json, ",\"missing_inputs\":", &inputs.missing)?;
        if self.is_explained {
            let defaults = self.deployment.input_defaults(row).into_iter();
            let defaults: Vec<_> = defaults.map(InputDefaultBody::from).collect();
            write_member(&mut self.json, ",\"defaults\":", &defaults)?;
        }
        if is_single {
            self.write_experiments(row, &verdict)?;
        }
        self.json.push(b'}');
        Ok(())
    }

    /// Writes the experiments that the customer of the row takes part in.
    fn write_experiments(&mut self, row: &FeatureRow, verdict: &RowScore<'_>) -> Result<()> {
        let experiments = &self.deployment.experiments;
        let customer = self.customer.as_ref().filter(|_| experiments.running().next().is_some());
        let Some(customer) = customer else { return Ok(()) };
        let audiences = if experiments.reads_audiences() {
            evaluate_row_audiences(self.deployment, row, verdict)
        } else {
            CustomerAudiences::default()
        };
        let found = experiments.participations(&CustomerContext {
            customer_id: customer.as_str(),
            segment_id: verdict.segment_id,
            audiences: audiences.ids(),
            seen: &[],
        });
        let found: Vec<_> = found.iter().map(ParticipationBody::from).collect();
        write_member(&mut self.json, ",\"experiments\":", &found)
    }

    /// Completes the response. Returns its JSON and the drift counts of its scores.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, BatchCounts)> {
        if self.json.is_empty() {
            self.open(false)?;
            self.json.pop();
        }
        if self.is_list {
            self.json.extend_from_slice(b"]}");
        }
        Ok((self.json, self.tally))
    }

    /// Writes the fields that precede the first score.
    fn open(&mut self, is_single: bool) -> Result<()> {
        let model = self.deployment.active.as_ref().map(|model| model.id().as_str());
        let json = &mut self.json;
        write_member(json, "{\"model_id\":", &model)?;
        write_member(json, ",\"fallback\":", &model.is_none())?;
        write_member(json, ",\"generation\":", &self.deployment.generation)?;
        let smallest_p_value =
            self.deployment.active.as_ref().map(|model| model.smallest_p_value());
        write_member(json, ",\"smallest_p_value\":", &smallest_p_value)?;
        json.extend_from_slice(if is_single { b"," } else { b",\"scores\":[{" });
        self.is_list = !is_single;
        Ok(())
    }

    fn write_score(&mut self, verdict: &RowScore<'_>, score: &SegmentScore) -> Result<()> {
        let json = &mut self.json;
        match verdict.segment_index {
            Some(index) => write_or_copy(json, &mut self.segment_parts[index].nearest, |json| {
                write_segment(json, verdict)
            })?,
            None => write_segment(json, verdict)?,
        }
        write_member(json, ",\"distance\":", &score.distance)?;
        match score.runner_up {
            Some(index) => write_or_copy(json, &mut self.segment_parts[index].runner_up, |json| {
                write_member(json, ",\"runner_up_segment_id\":", &verdict.runner_up_segment_id)
            })?,
            None => json.extend_from_slice(b",\"runner_up_segment_id\":null"),
        }
        write_member(json, ",\"margin\":", &score.margin())?;
        write_member(json, ",\"confidence\":", &score.confidence())?;
        write_member(json, ",\"p_value\":", &score.p_value)?;
        write_member(json, ",\"outlier\":", &verdict.is_outlier)?;
        write_member(json, ",\"edge_p_value\":", &score.edge_p_value)?;
        write_member(json, ",\"anomaly\":", &verdict.anomaly.map(AnomalyBody::from))
    }
}

/// The fields of a score that the rule-based fallback cannot compute.
const NO_DISTANCES: &str = concat!(
    ",\"nearest_segment_id\":null,\"distance\":null,\"runner_up_segment_id\":null",
    ",\"margin\":null",
    ",\"confidence\":null,\"p_value\":null,\"outlier\":false",
    ",\"edge_p_value\":null,\"anomaly\":null"
);

/// The fields of a score that only depend on its segment.
fn write_segment(json: &mut Vec<u8>, verdict: &RowScore<'_>) -> Result<()> {
    write_member(json, "\"segment_id\":", verdict.segment_id)?;
    write_member(json, ",\"segment_name\":", verdict.segment_name)?;
    write_member(json, ",\"nearest_segment_id\":", &verdict.nearest_segment_id)
}

fn write_member(json: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
    json.extend_from_slice(name.as_bytes());
    serde_json::to_writer(json, value)
}

/// Copies the JSON at `at`; writes it and records the range if that is still empty.
fn write_or_copy(
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
