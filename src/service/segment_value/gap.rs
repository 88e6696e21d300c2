//! Why there are no snapshots of the value of segments.

use crate::domain::model::Model;
use crate::domain::value::ValueModel;
use crate::service::ServiceError;
use crate::service::segment_value::SegmentValueService;
use crate::store::models;

/// Reason why no snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentValueGap {
    #[error("snapshots are disabled: `value.snapshot_every_days` is 0")]
    Disabled,
    #[error("no model is active")]
    NoModel,
    #[error("the active model has no model of customer value")]
    NoValueModel,
    #[error("the forecasts of the active model are not reliable")]
    Unreliable,
    #[error("the active model does not predict order values")]
    NoOrderValues,
}

/// The value model of a model, if the forecasts for its customers can be added up.
pub(super) fn usable_value(model: &Model) -> Result<&ValueModel, SegmentValueGap> {
    let value = model.value().ok_or(SegmentValueGap::NoValueModel)?;
    if !value.evaluation.is_reliable() {
        return Err(SegmentValueGap::Unreliable);
    }
    if value.spend.is_none() {
        return Err(SegmentValueGap::NoOrderValues);
    }
    Ok(value)
}

impl SegmentValueService {
    /// Why no snapshot can be taken now; `None` if one can.
    pub fn gap(&self) -> Option<SegmentValueGap> {
        if self.settings.snapshot_every_days == 0 {
            return Some(SegmentValueGap::Disabled);
        }
        match &self.serving.snapshot().active {
            None => Some(SegmentValueGap::NoModel),
            Some(model) => usable_value(model).err(),
        }
    }

    /// The reason in words, with that of the training run or of the evaluation.
    pub(super) async fn describe_gap(&self, gap: SegmentValueGap) -> Result<String, ServiceError> {
        let deployment = self.serving.snapshot();
        let Some(model) = &deployment.active else { return Ok(gap.to_string()) };
        let reason = match gap {
            SegmentValueGap::NoValueModel => {
                let row = models::find(self.db.read(), model.id()).await?;
                let report = row.and_then(|row| row.report.get("value_gap").cloned());
                report.and_then(|reason| reason.as_str().map(str::to_owned))
            }
            SegmentValueGap::Unreliable => model.value().map(|value| {
                let reasons = value.evaluation.shortcomings.iter().map(ToString::to_string);
                reasons.collect::<Vec<String>>().join("; ")
            }),
            _ => None,
        };
        Ok(reason.map_or_else(|| gap.to_string(), |reason| format!("{gap}: {reason}")))
    }
}
