//! A change of predicted spend in one sentence.

use std::collections::BTreeMap;

use crate::domain::presentation::number_format::{
    format_integer, format_number, format_percent, format_with_unit,
};
use crate::domain::segment_value::OUTLOOK_DAYS;
use crate::domain::segment_value::change::{FlowPart, SegmentValueChange};

/// Flows that are named in each direction; the others are added up.
const NAMED_FLOWS: usize = 3;

/// What the sentence says besides the figures.
#[derive(Debug)]
pub struct ChangeWords<'w> {
    pub segment_name: &'w str,
    /// Unit of spend.
    pub unit: &'w str,
    /// From the earlier snapshot to now.
    pub days: i64,
    /// Names by segment id; an id without a name is shown itself.
    pub names: &'w BTreeMap<Box<str>, Box<str>>,
}

/// `Loyal Customers: predicted 90-day spend 41,200 USD, 6.0 % less than 28 days before: −3,100 by 210
/// customers who left for Fading, …`. Parts that round to nothing are left out.
pub fn describe_change(change: &SegmentValueChange, words: &ChangeWords<'_>) -> String {
    let spend = format_with_unit(change.now, words.unit);
    let when = match words.days {
        1 => "the day before".to_owned(),
        days => format!("{days} days before"),
    };
    let compared = match change.relative() {
        None => format!("none {when}"),
        Some(relative) if format_percent(relative.abs()) == "0.00 %" || relative == 0.0 => {
            format!("as much as {when}")
        }
        Some(relative) => {
            let direction = if relative < 0.0 { "less" } else { "more" };
            format!("{} {direction} than {when}", format_percent(relative.abs()))
        }
    };
    let parts = parts(change, words);
    let name = words.segment_name;
    let head = format!("{name}: predicted {OUTLOOK_DAYS}-day spend {spend}, {compared}");
    if parts.is_empty() { format!("{head}.") } else { format!("{head}: {}.", parts.join(", ")) }
}

fn parts(change: &SegmentValueChange, words: &ChangeWords<'_>) -> Vec<String> {
    let mut parts = Vec::new();
    add_flows(&mut parts, &change.left, "who left for", "who left for other segments", words);
    add_flows(
        &mut parts,
        &change.entered,
        "who entered from",
        "who entered from other segments",
        words,
    );
    let small = change.small_flows;
    let flows_of_few = format!("{} in flows of fewer than 5 customers", customers(small.customers));
    add_part(&mut parts, small.amount, &flows_of_few);
    let stayed = change.stayed;
    let worth = if stayed.amount < 0.0 { "less" } else { "more" };
    let who = if small.customers > 0 && small.amount == 0.0 {
        // Too few to be reported by themselves.
        let all = customers(stayed.customers + small.customers);
        format!("{all} who stayed or moved in flows of fewer than 5 customers")
    } else {
        format!("{} who stayed and are worth {worth}", customers(stayed.customers))
    };
    add_part(&mut parts, stayed.amount, &who);
    let by = "a recalculation of the earlier forecasts";
    // Rounding of sums is no recalculation.
    if change.recalculated.abs() > 1e-6 * change.before.abs() {
        add_part(&mut parts, change.recalculated, by);
    }
    parts
}

fn add_flows(
    parts: &mut Vec<String>,
    flows: &[FlowPart],
    verb: &str,
    others: &str,
    words: &ChangeWords<'_>,
) {
    let (named, rest) = flows.split_at(flows.len().min(NAMED_FLOWS));
    for flow in named {
        let other = match &flow.segment_id {
            Some(id) => words.names.get(id).unwrap_or(id),
            None => "no segment of a model",
        };
        add_part(parts, flow.amount, &format!("{} {verb} {other}", customers(flow.customers)));
    }
    let of_rest = rest.iter().map(|flow| flow.customers).sum();
    let amount = rest.iter().map(|flow| flow.amount).sum();
    add_part(parts, amount, &format!("{} {others}", customers(of_rest)));
}

/// `−3,100 by …`; nothing without an amount.
fn add_part(parts: &mut Vec<String>, amount: f64, cause: &str) {
    let size = format_number(amount.abs());
    if size != "0" {
        let sign = if amount < 0.0 { "−" } else { "+" };
        parts.push(format!("{sign}{size} by {cause}"));
    }
}

fn customers(count: u64) -> String {
    match count {
        1 => "1 customer".to_owned(),
        _ => format!("{} customers", format_integer(count as f64)),
    }
}
