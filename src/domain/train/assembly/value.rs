//! Customer value in a trained model: the fitted value model, and the forecasts of each segment.

use rayon::prelude::*;

use crate::domain::feature::{FeatureRow, PurchaseHistory};
use crate::domain::model::{ForecastSegments, Model, SegmentValue, StandoutFeature};
use crate::domain::stats::{self, Estimate, GroupTotal};
use crate::domain::train::assembly::segment_names;
use crate::domain::train::assembly::segment_rows::SegmentRows;
use crate::domain::train::selection::baseline::RfmFeatures;
use crate::domain::train::{
    CheckedTrainingSpec, SampledCustomers, TrainedModel, TrainingError, TrainingProgress,
};
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
/// over the sampled customers, and names that agree with it. Without a value model, the report has the reason
/// (`value_gap`), and the model is unchanged.
pub fn add_value(
    mut trained: TrainedModel,
    spec: &CheckedTrainingSpec,
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
            let of_segments = value.evaluation.is_reliable().then(|| {
                let customers = value_customers(&trained.model, &value, sample, progress.pause());
                let segments = trained.model.segments().len();
                let values: Vec<_> =
                    (0..segments).map(|segment| value_of_segment(&customers, segment)).collect();
                let rfm = spec.spec().baseline.as_ref();
                let names = name_segments(&trained.model, rfm, sample, &customers, &values);
                ForecastSegments { values, names }
            });
            trained.bytes = trained.model.with_value(value, of_segments)?;
            trained.model = Model::open(&trained.bytes)?;
        }
    }
    progress.report("value", 1, 1);
    Ok(trained)
}

fn value_customers(
    model: &Model,
    value: &ValueModel,
    sample: &SampledCustomers,
    pause: fn(),
) -> Vec<ValuedCustomer> {
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
    sample
        .rows
        .par_chunks(CHUNK_CUSTOMERS)
        .zip(sample.purchases.par_chunks(CHUNK_CUSTOMERS))
        .flat_map(value_rows)
        .collect()
}

/// Drafts the names again, with the churn probabilities.
fn name_segments(
    model: &Model,
    rfm: Option<&RfmFeatures>,
    sample: &SampledCustomers,
    customers: &[ValuedCustomer],
    values: &[Option<SegmentValue>],
) -> Vec<Box<str>> {
    let segment_of: Vec<Option<usize>> = customers.iter().map(|one| one.segment).collect();
    let segments = model.segments();
    let described = SegmentRows {
        features: model.features(),
        rows: &sample.rows,
        segment_of: &segment_of,
        segments: segments.len(),
    };
    let churn: Vec<Option<f64>> =
        values.iter().map(|value| Some(value.as_ref()?.churn_probability.value)).collect();
    let evidence = segment_names::rfm_evidence(rfm, described, &churn);
    let standouts: Vec<&[StandoutFeature]> =
        segments.iter().map(|segment| segment.standouts.as_slice()).collect();
    let of_all: Vec<f64> =
        customers.iter().filter_map(|one| Some(one.value.as_ref()?.churn_probability)).collect();
    let mean_churn = stats::mean(&of_all);
    segment_names::name_segments(model.features(), &standouts, evidence.as_deref(), mean_churn)
}

/// `None` with fewer than [`LEAST_VALUED`] customers with an order.
fn value_of_segment(customers: &[ValuedCustomer], segment: usize) -> Option<SegmentValue> {
    // A customer without an order has no value, and nothing to leave.
    let column = |figure: fn(&ValueSummary) -> f64| -> Vec<f64> {
        customers.iter().map(|one| one.value.as_ref().map_or(0.0, figure)).collect()
    };
    let spend = column(|value| value.predicted_spend.unwrap_or_default());
    let value_at_risk =
        column(|value| value.churn_probability * value.predicted_spend.unwrap_or_default());
    let orders = column(|value| value.predicted_orders);
    let is_member = |row: usize| customers[row].segment == Some(segment);
    let churn: Vec<f64> = customers
        .iter()
        .filter(|one| one.segment == Some(segment))
        .filter_map(|one| Some(one.value.as_ref()?.churn_probability))
        .collect();
    let total = GroupTotal::measure(&spend, is_member).filter(|_| churn.len() >= LEAST_VALUED)?;
    let mean_of_members = |column: &[f64]| {
        let members: Vec<f64> =
            (0..column.len()).filter(|row| is_member(*row)).map(|row| column[row]).collect();
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
}
