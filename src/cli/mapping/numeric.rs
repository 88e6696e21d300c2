//! Number properties: a column, or the product of several.

use crate::cli::table::{
    ColumnPath, RowFault, TableCell, TableRow, is_integer, parse_money, parse_number,
};

/// The product of columns.
#[derive(Debug, Clone)]
pub(super) struct NumberSource {
    pub(super) factors: Vec<ColumnPath>,
    pub(super) is_money: bool,
    pub(super) divide_by: Option<f64>,
    pub(super) decimal: char,
}

impl NumberSource {
    pub(super) fn push(&self, row: &TableRow<'_>, json: &mut Vec<u8>) -> Result<bool, RowFault> {
        if let ([column], None, false) = (self.factors.as_slice(), self.divide_by, self.is_money) {
            // An integer keeps every digit, so that ids can be numbers.
            let cell = column.read(row);
            match &cell {
                TableCell::Missing => return Ok(false),
                TableCell::Integer(_) => {
                    json.extend_from_slice(cell.text().unwrap_or_default().as_bytes());
                    return Ok(true);
                }
                TableCell::Text(text) | TableCell::Digits(text) if is_json_integer(text) => {
                    json.extend_from_slice(text.as_bytes());
                    return Ok(true);
                }
                _ => {}
            }
        }
        let Some(number) = self.value(row)? else { return Ok(false) };
        push_number(number, json);
        Ok(true)
    }

    /// The product of the columns; missing if one of them is.
    pub(super) fn value(&self, row: &TableRow<'_>) -> Result<Option<f64>, RowFault> {
        let mut product = 1.0;
        let mut decimals = Some(0);
        for column in &self.factors {
            let cell = column.read(row);
            decimals =
                decimals.zip(decimal_places(&cell, self.decimal)).map(|(all, one)| all + one);
            let factor = match &cell {
                TableCell::Missing => return Ok(None),
                TableCell::Number(number) if number.is_finite() => Ok(*number),
                TableCell::Number(_) => Err("is not finite"),
                TableCell::Bool(value) => Ok(f64::from(u8::from(*value))),
                TableCell::Text(text) if self.is_money => parse_money(text, self.decimal),
                TableCell::Text(text) => parse_number(text, self.decimal),
                other => parse_number(&other.text().unwrap_or_default(), '.'),
            };
            match factor {
                Ok(factor) => product *= factor,
                Err(reason) => return Err(cell_fault(row, column, reason)),
            }
        }
        if self.factors.len() > 1 {
            product = rounded(product, decimals);
        }
        if let Some(divisor) = self.divide_by {
            product /= divisor;
        }
        if !product.is_finite() {
            let columns: Vec<&str> =
                self.factors.iter().map(|column| column.name.as_str()).collect();
            let reason = "is a product beyond 1.8e308";
            return Err(RowFault::of_cell(row.line, &columns.join(", "), "", reason));
        }
        Ok(Some(product))
    }
}

/// Decimal places of a number as it is written; `None` where they are unknown.
fn decimal_places(cell: &TableCell<'_>, decimal: char) -> Option<u32> {
    match cell {
        TableCell::Integer(_) | TableCell::Bool(_) => Some(0),
        TableCell::Text(text) | TableCell::Digits(text) if !text.contains(['e', 'E']) => {
            let decimals = text.rsplit_once(decimal).map_or(0, |(_, decimals)| decimals.len());
            u32::try_from(decimals).ok()
        }
        _ => None,
    }
}

/// The double nearest to the product of decimal numbers: 6 × 2.55 is 15.3, not
/// 15.299999999999999.
fn rounded(product: f64, decimals: Option<u32>) -> f64 {
    let Some(decimals) = decimals.filter(|decimals| *decimals <= 9) else { return product };
    let unit = f64::from(10_u32.pow(decimals));
    let scaled = product * unit;
    if scaled.abs() < 1e15 { scaled.round() / unit } else { product }
}

/// Whether `text` is an integer as JSON writes it: without leading zeros.
fn is_json_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    is_integer(text) && (digits == "0" || !digits.starts_with('0'))
}

/// Appends a finite number as JSON.
pub(super) fn push_number(number: f64, json: &mut Vec<u8>) {
    let _ = serde_json::to_writer(json, &number);
}

pub(super) fn cell_fault(row: &TableRow<'_>, column: &ColumnPath, reason: &str) -> RowFault {
    let cell = column.read(row);
    RowFault::of_cell(row.line, &column.name, &cell.text().unwrap_or_default(), reason)
}
