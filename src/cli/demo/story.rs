//! What the demo shows of the trained model: its segments in numbers, and one household.

use anyhow::Context;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use futures_util::TryStreamExt as _;
use serde_json::{Map, Value, json};
use url::Url;

use crate::api::ApiState;
use crate::domain::feature::rfm::RfmInput;
use crate::domain::feature::{CustomerState, FeatureRow, FeatureValue};
use crate::domain::model::{Model, ModelSegment, ScoringScratch, SegmentScore, TypicalValue};
use crate::domain::presentation::number_format::{
    format_integer, format_percent, format_with_unit,
};
use crate::outbound::service_client::ServiceClient;
use crate::service::scoring::deployment::Deployment;
use crate::store::customers;

/// Widest table, in characters.
const WIDTH: u16 = 118;
/// Features that describe a segment.
const SHOWN_FEATURES: usize = 4;

/// Difference between the two names for the best customers.
const BEST_NAMES_EXPLAINED: &str = " Of the frequent shoppers who came lately, Champions are those\nwho spend \
                             most, and Loyal Customers the others.";

/// Shows the deployment of a running service.
pub(super) struct Story<'a> {
    pub api: &'a str,
    pub key: &'a str,
    pub state: &'a ApiState,
}

/// A stored customer with its features and its score by the active model.
struct Household {
    id: String,
    row: FeatureRow,
    score: SegmentScore,
    is_outlier: bool,
}

impl Story<'_> {
    /// A table of the segments: size, spend, last order and forecasts.
    #[expect(clippy::cast_precision_loss, reason = "numbers of households")]
    pub(super) async fn show_segments(&self) -> anyhow::Result<()> {
        let deployment = self.state.deployments.snapshot();
        let model = deployment.active.as_ref().context("no model is live")?;
        let households = self.households(&deployment, model).await?;
        let rules = deployment.features.rfm();
        let unit = deployment.features.monetary_unit();
        let total: f64 = households.iter().filter_map(|one| one.number(&rules.monetary)).sum();
        let mut table = new_table(&[
            "segment",
            "households",
            "share of sales",
            &format!("spend per household, {unit}"),
            "last order",
            "chance they have left",
            &format!("expected sales, {unit}"),
            &format!("of these may not come, {unit}"),
        ]);
        // Headings have several lines, figures one.
        if let Some(names) = table.column_mut(0) {
            names.set_constraint(ColumnConstraint::ContentWidth);
        }
        for (column, width) in [(1, 13), (3, 12), (4, 14), (6, 12)] {
            if let Some(figures) = table.column_mut(column) {
                figures.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
            }
        }
        let mut rows = Vec::new();
        for (index, segment) in model.segments().iter().enumerate() {
            let members: Vec<&Household> =
                households.iter().filter(|one| one.score.segment() == Some(index)).collect();
            let of = |input: &RfmInput| -> Vec<f64> {
                members.iter().filter_map(|one| one.number(input)).collect()
            };
            let spend = of(&rules.monetary).iter().sum::<f64>();
            let spend_each = spend / members.len().max(1) as f64;
            let value = segment.value.as_ref();
            let size = segment.size as f64;
            let cells = [
                segment.name.to_string(),
                format!(
                    "{} ({})",
                    members.len(),
                    format_percent(members.len() as f64 / households.len().max(1) as f64)
                ),
                format_percent(spend / total.max(f64::MIN_POSITIVE)),
                format_integer(spend_each),
                format!("{} days ago", format_integer(median(of(&rules.recency)))),
                value.map_or_else(unknown, |value| format_percent(value.churn_probability.value)),
                value.map_or_else(unknown, |value| format_integer(value.spend.value * size)),
                value
                    .map_or_else(unknown, |value| format_integer(value.value_at_risk.value * size)),
            ];
            rows.push((spend_each, cells));
        }
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let has_champions = rows.iter().any(|(_, cells)| cells[0] == "Champions");
        let names = if has_champions { BEST_NAMES_EXPLAINED } else { "" };
        table.add_rows(rows.into_iter().map(|(_, cells)| cells));
        println!(
            "\nThe segments found in these purchases, best customers first. An order is a basket paid at the\n\
             till. Sales and spend are those of the last 365 days, and the last order is that of the\n\
             household in the middle: half of the segment came more recently. The three columns on the\n\
             right are forecasts: the average chance that a household has already left for good; the sales\n\
             expected in the next 365 days, which allow for that; and how much of these may still not come,\n\
             because households may have left (the expected sales of each household times its chance of\n\
             having left).{names}\n\
             {table}"
        );
        Ok(())
    }

    /// One household of the segment that spends most: what places it there, and how to ask
    /// for it.
    pub(super) async fn show_household(&self) -> anyhow::Result<()> {
        let deployment = self.state.deployments.snapshot();
        let model = deployment.active.as_ref().context("no model is live")?;
        let households = self.households(&deployment, model).await?;
        let household = typical_household(&deployment, model, &households)?;
        let segment = &model.segments()[household.score.nearest];
        println!(
            "\nHousehold {} is in “{}”. Its confidence is {:.2}: 1 is a textbook example of the\n\
             segment, and 0 could just as well belong to another one. What sets this segment apart:",
            household.id,
            segment.name,
            household.score.confidence()
        );
        println!("{}", comparison(model, segment, household));
        let header = "-H \"Authorization: Bearer $KEY\"";
        let body = json!({ "features": household.inputs(model) }).to_string();
        println!("Ask for it, and score the same values without the database:\n");
        println!("KEY={}", self.key);
        println!("curl -s {}/v1/customers/{} {header}", self.api, household.id);
        println!("curl -s {}/v1/score {header} \\\n  -d '{body}'\n", self.api);
        let url = Url::parse(&format!("{}/v1/score", self.api))?;
        let response = ServiceClient::new(self.key)?.post(&url, body).await?;
        println!("{}", response.text().await?);
        Ok(())
    }

    /// Every stored customer that the active model can read.
    async fn households(
        &self,
        deployment: &Deployment,
        model: &Model,
    ) -> anyhow::Result<Vec<Household>> {
        let now = self.state.ingestion.now();
        let mut scratch = ScoringScratch::default();
        let stored: Vec<_> = customers::stream_states(&self.state.db).try_collect().await?;
        let mut households = Vec::new();
        for stored in stored {
            let Ok(state) = CustomerState::from_bytes(&deployment.features, &stored.state) else {
                continue;
            };
            let row = state.feature_row(&deployment.features, now);
            let score = model.score(&row, &mut scratch);
            let is_outlier = score.is_outlier(deployment.rules.outlier_alpha);
            households.push(Household { id: stored.customer.to_string(), row, score, is_outlier });
        }
        Ok(households)
    }
}

impl Household {
    fn number(&self, input: &RfmInput) -> Option<f64> {
        match self.row.0.get(input.index) {
            Some(FeatureValue::Number(value)) => Some(*value),
            _ => None,
        }
    }

    /// The values that the model reads, by name.
    fn inputs(&self, model: &Model) -> Map<String, Value> {
        let mut inputs = Map::new();
        for column in model.encoder().columns() {
            let value = match &self.row.0[column.feature] {
                FeatureValue::Missing => continue,
                // Six digits are enough for the same segment.
                FeatureValue::Number(number) => json!((number * 1e6).round() / 1e6),
                FeatureValue::Category(text) => json!(text),
            };
            inputs.insert(model.features()[column.feature].name.to_string(), value);
        }
        inputs
    }
}

/// The household of the segment with the highest spend that has the most inputs and, among these,
/// the highest confidence; no outlier.
fn typical_household<'h>(
    deployment: &Deployment,
    model: &Model,
    households: &'h [Household],
) -> anyhow::Result<&'h Household> {
    let monetary = &deployment.features.rfm().monetary;
    let mut spend = vec![0.0; model.segments().len()];
    for household in households {
        if let (Some(segment), Some(amount)) =
            (household.score.segment(), household.number(monetary))
        {
            spend[segment] += amount;
        }
    }
    let best = (0..spend.len()).max_by(|a, b| spend[*a].total_cmp(&spend[*b]));
    households
        .iter()
        .filter(|one| one.score.segment() == best && !one.is_outlier)
        .max_by(|a, b| {
            let inputs = a.inputs(model).len().cmp(&b.inputs(model).len());
            inputs.then(a.score.confidence().total_cmp(&b.score.confidence()))
        })
        .context("no household is assigned to a segment")
}

/// The household beside its segment and all households, in the features that describe the
/// segment.
fn comparison(model: &Model, segment: &ModelSegment, household: &Household) -> Table {
    let mut table =
        new_table(&["", "this household", "middle of the segment", "middle of all households"]);
    for standout in segment.standouts.iter().take(SHOWN_FEATURES) {
        let def = &model.features()[standout.feature];
        let profile = segment.profile.iter().find(|profile| profile.feature == standout.feature);
        let Some(profile) = profile else { continue };
        let own = match &household.row.0[standout.feature] {
            FeatureValue::Number(number) => format_with_unit(*number, &def.unit),
            FeatureValue::Category(text) => text.to_string(),
            FeatureValue::Missing => "unknown".to_owned(),
        };
        table.add_row([
            title_with_period(&def.title),
            own,
            typical(&profile.here, &def.unit),
            typical(&profile.everybody, &def.unit),
        ]);
    }
    table
}

/// `Orders, 28 days` as `Orders, last 28 days`.
fn title_with_period(title: &str) -> String {
    match title.split_once(", ") {
        Some((subject, period)) if period.starts_with(|first: char| first.is_ascii_digit()) => {
            format!("{subject}, last {period}")
        }
        _ => title.to_owned(),
    }
}

fn typical(value: &TypicalValue, unit: &str) -> String {
    match value {
        TypicalValue::Number { median, .. } => format_with_unit(*median, unit),
        TypicalValue::Category { most_frequent, .. } => most_frequent.to_string(),
        TypicalValue::Unknown => "unknown".to_owned(),
    }
}

/// Shown where there is no forecast.
fn unknown() -> String {
    "unknown".to_owned()
}

/// The middle value; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(header);
    table
}
