//! Customer value in a trained model: the fitted value model, and the forecasts of each segment.

use rayon::prelude::*;

use crate::domain::feature::{FeatureRow, PurchaseHistory};
use crate::domain::model::{Model, SegmentValue};
use crate::domain::stats::{Estimate, GroupTotal};
use crate::domain::train::{SampledCustomers, TrainedModel, TrainingError, TrainingProgress};
use crate::domain::value::{ShopOrders, ValueModel, ValueSummary, fit_value_model};

/// Customers scored by one thread at a time.
const CHUNK_CUSTOMERS: usize = 256;

/// Fewest customers with an order for which means of a segment are published.
const LEAST_VALUED: usize = 30;

/// A customer with its segment and its forecasts.
struct ValuedCustomer {
    segment: Option<usize>,
    value: Option<ValueSummary>,
}

/// Fits a value model to the orders of the shop and adds it to the model, with the value of each segment
/// over the sampled customers. Without a value model, the report has the reason (`value_gap`), and the model
/// is unchanged.
pub fn add_value(
    mut trained: TrainedModel,
    sample: &SampledCustomers,
    orders: &ShopOrders,
    progress: &dyn TrainingProgress,
) -> Result<TrainedModel, TrainingError> {
    if progress.should_stop() {
        return Err(TrainingError::Stopped);
    }
    progress.report("value", 0, 1);
    match fit_value_model(orders, progress.pause()) {
        Err(gap) => trained.report.value_gap = Some(gap.to_string().into()),
        Ok(value) => {
            let of_segments = if value.evaluation.is_reliable() {
                segment_values(&trained.model, &value, sample, progress.pause())
            } else {
                vec![None; trained.model.segments().len()]
            };
            trained.bytes = trained.model.with_value(value, of_segments)?;
            trained.model = Model::open(&trained.bytes)?;
        }
    }
    progress.report("value", 1, 1);
    Ok(trained)
}

fn segment_values(
    model: &Model,
    value: &ValueModel,
    sample: &SampledCustomers,
    pause: fn(),
) -> Vec<Option<SegmentValue>> {
    let now = model.provenance().as_of;
    let value_rows = |(rows, purchases): (&[FeatureRow], &[Option<PurchaseHistory>])| {
        pause();
        let mut scratch = model.scratch();
        let mut valued = Vec::with_capacity(rows.len());
        for (row, history) in rows.iter().zip(purchases) {
            valued.push(ValuedCustomer {
                segment: model.score(row, &mut scratch).segment(),
                value: history.as_ref().map(|history| value.summarise(history, now)),
            });
        }
        valued
    };
    let customers: Vec<ValuedCustomer> = sample
        .rows
        .par_chunks(CHUNK_CUSTOMERS)
        .zip(sample.purchases.par_chunks(CHUNK_CUSTOMERS))
        .flat_map(value_rows)
        .collect();
    // A customer without an order has no value, and nothing to leave.
    let column = |figure: fn(&ValueSummary) -> f64| -> Vec<f64> {
        customers.iter().map(|one| one.value.as_ref().map_or(0.0, figure)).collect()
    };
    let spend = column(|value| value.predicted_spend.unwrap_or_default());
    let value_at_risk =
        column(|value| value.churn_probability * value.predicted_spend.unwrap_or_default());
    let orders = column(|value| value.predicted_orders);
    (0..model.segments().len())
        .map(|segment| {
            let is_member = |row: usize| customers[row].segment == Some(segment);
            let churn: Vec<f64> = customers
                .iter()
                .filter(|one| one.segment == Some(segment))
                .filter_map(|one| Some(one.value.as_ref()?.churn_probability))
                .collect();
            let total =
                GroupTotal::measure(&spend, is_member).filter(|_| churn.len() >= LEAST_VALUED)?;
            let mean_of_members = |column: &[f64]| {
                let members: Vec<f64> = (0..column.len())
                    .filter(|row| is_member(*row))
                    .map(|row| column[row])
                    .collect();
                Estimate::mean_of(&members)
            };
            Some(SegmentValue {
                churn_probability: Estimate::mean_of(&churn),
                orders: mean_of_members(&orders),
                spend_share: total.share,
                spend: total.mean,
                top_fifth_share: total.top_fifth_share,
                value_at_risk: mean_of_members(&value_at_risk),
            })
        })
        .collect()
}
