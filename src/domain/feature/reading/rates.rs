//! Exchange rates by currency and date.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use crate::domain::fault::{ValidationFault, ValidationFaults};

const COLUMNS: [&str; 3] = ["date", "currency", "rate"];
/// Upper bound of a rate and of its inverse, so that converted amounts stay summable.
const MAX_RATE: f64 = 1e6;

/// Rates of each currency by day since 1970-01-01.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RateTable(BTreeMap<Box<str>, BTreeMap<i64, f64>>);

impl RateTable {
    /// Parses CSV with the columns `date` (2024-02-29), `currency` and `rate`: one unit of the
    /// currency is worth `rate` units of the feature set's currency. The error has every fault.
    pub fn parse(csv_text: &str) -> Result<Self, ValidationFaults> {
        let text = csv_text.trim_start_matches('\u{feff}');
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let columns = match reader.headers() {
            Ok(header) => COLUMNS.map(|column| header.iter().position(|name| *name == *column)),
            Err(_) => [None; 3],
        };
        let [Some(date), Some(currency), Some(rate)] = columns else {
            let problem = "must have the columns date, currency and rate in its first line";
            return Err(ValidationFaults::single("rates", problem));
        };
        let (mut table, mut faults) = (Self::default(), Vec::new());
        for (row, record) in reader.records().enumerate() {
            let line = record.as_ref().ok().and_then(csv::StringRecord::position);
            let line = line.map_or(row + 2, |position| position.line() as usize);
            let fields = record.map(|record| {
                [date, currency, rate].map(|at| record.get(at).unwrap_or_default().to_owned())
            });
            let added = match fields {
                Ok([date, currency, rate]) => table.add(&date, &currency, &rate),
                Err(_) => Err("must have as many fields as the first line".to_owned()),
            };
            if let Err(problem) = added {
                faults.push(ValidationFault { line: Some(line), path: "rates".into(), problem });
            }
        }
        ValidationFaults(faults).into_result(table)
    }

    fn add(&mut self, date: &str, currency: &str, rate: &str) -> Result<(), String> {
        let day = NaiveDate::parse_from_str(date, "%Y-%m-%d")
            .map_err(|_| format!("date must be a day such as 2024-02-29; it is `{date}`"))?
            .to_epoch_days();
        let number =
            rate.parse::<f64>().ok().filter(|rate| (1.0 / MAX_RATE..=MAX_RATE).contains(rate));
        let Some(rate) = number else {
            return Err(format!(
                "rate must be a number from {} to {MAX_RATE}; it is `{rate}`",
                1.0 / MAX_RATE
            ));
        };
        let currency = currency.to_ascii_uppercase();
        if currency.is_empty() {
            return Err("currency must be a code such as USD; it is blank".to_owned());
        }
        let rates = self.0.entry(currency.into()).or_default();
        match rates.insert(i64::from(day), rate) {
            None => Ok(()),
            Some(_) => Err(format!("has two rates for one currency on {date}: remove one")),
        }
    }

    /// The newest rate on or before a day.
    pub(in crate::domain::feature) fn rate(&self, currency: &str, day: i64) -> Option<f64> {
        let (_, rate) = self.0.get(currency)?.range(..=day).next_back()?;
        Some(*rate)
    }
}
