//! Encoders: map a raw feature row to an `f32` vector, by the same code in training and serving.
//!
//! An encoder is fitted once on the training rows and is immutable afterwards. Each declared
//! number is imputed, winsorised, transformed and scaled. Each declared category becomes one
//! column per value (one-hot encoding). Features without an encoding are skipped. A model may
//! apply a `projection` to the vector afterwards.

mod number;
mod onehot;
mod projection;
mod transform;

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, Sensitivity,
};

use number::NumericEncoding;
use onehot::OneHotEncoding;

pub use projection::LinearProjection;

/// Upper limit of the columns of an encoded vector.
pub(crate) const MAX_COLUMNS: usize = 1024;

/// Bound of encoded values (±): the sum of `MAX_COLUMNS` squares stays far inside the range
/// of `f32`.
pub const MAX_ENCODED: f32 = 1e15;

/// Error of fitting an encoder; names the feature and the correction.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncoderFitError {
    #[error("there are no rows to fit the encoder on")]
    NoRows,
    #[error("no feature has an encoding; give at least one feature an `encoding`")]
    NoEncoding,
    #[error("feature `{0}` is sensitive and must not enter a model; remove its encoding")]
    Sensitive(Box<str>),
    #[error(
        "no feature has a value in any row (`{0}` has none, for one): do the events carry the \
         properties that the features fold?"
    )]
    NoObservations(Box<str>),
    #[error("feature `{0}` falls below zero, where log1p is not meant; use yeo-johnson")]
    BelowZero(Box<str>),
    #[error("feature `{0}` has a spread too large to scale; winsorise it")]
    NotFinite(Box<str>),
}

/// A column of the encoded vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodedColumn {
    /// Index of the feature among the definitions that the encoder was fitted with.
    pub feature: usize,
    /// Display name, for example `spend`, `spend (missing)`, `channel=web`, `channel (other)`.
    pub name: Box<str>,
    pub role: ColumnRole,
}

/// Meaning of a column with respect to its feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnRole {
    /// The number, transformed and scaled.
    Value,
    /// Missing flag: 1 where the number is missing.
    Missing,
    /// Indicator of this category.
    Category(Box<str>),
    /// Indicator of rare categories and of categories not seen in training.
    Other,
}

/// Fitted transform and clipping bounds of a numeric feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FittedNumber {
    pub feature: Box<str>,
    /// `none`, `log1p` or `yeo-johnson`.
    pub transform: &'static str,
    /// Parameter of Yeo-Johnson.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// Bounds that values are clipped at, in the feature's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clipped: Option<[f64; 2]>,
}

/// Position of a numeric feature in the encoded vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain) struct NumericColumn {
    pub(in crate::domain) feature: usize,
    pub(in crate::domain) column: usize,
    code: usize,
}

/// A fitted encoder; immutable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredEncoder")]
pub struct FeatureEncoder {
    codes: Vec<FittedEncoding>,
    columns: Vec<EncodedColumn>,
    /// Vector of a row without values: every encoding starts from a copy of it, so a missing
    /// value costs nothing.
    #[serde(skip)]
    blank: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredEncoder {
    codes: Vec<FittedEncoding>,
    columns: Vec<EncodedColumn>,
}

impl From<StoredEncoder> for FeatureEncoder {
    fn from(StoredEncoder { codes, columns }: StoredEncoder) -> Self {
        let width = codes.iter().map(|code| code.width().min(MAX_COLUMNS + 1)).sum();
        // `check` refuses an encoder that is too wide; do not allocate for one.
        let mut blank = if width <= MAX_COLUMNS { vec![0.0; width] } else { Vec::new() };
        let mut rest = &mut *blank;
        for code in &codes {
            let Some((mine, after)) = rest.split_at_mut_checked(code.width()) else { break };
            // `check` refuses unsound parameters too, and encoding with them could panic.
            if code.is_sound() {
                code.encode(None, mine);
            }
            rest = after;
        }
        Self { codes, columns, blank }
    }
}

/// Fitted encoding of one feature: its slice of the vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FittedEncoding {
    Number(NumericEncoding),
    OneHot(OneHotEncoding),
}

impl FeatureEncoder {
    /// Fits every feature of `defs` that has an encoding on `rows`.
    ///
    /// A feature without a value in any row is left out: imputation has no source. Of more than
    /// `MAX_COLUMNS` columns, the features that are most often the same are left out. Features are
    /// independent and are fitted in parallel in the current rayon pool; the result does not
    /// depend on the size of the pool.
    pub fn fit(defs: &[FeatureDefinition], rows: &[FeatureRow]) -> Result<Self, EncoderFitError> {
        Self::fit_rows(defs, &rows.iter().collect::<Vec<_>>())
    }

    /// [`Self::fit`] on selected rows, without copying them.
    pub(in crate::domain) fn fit_rows(
        defs: &[FeatureDefinition],
        rows: &[&FeatureRow],
    ) -> Result<Self, EncoderFitError> {
        if rows.is_empty() {
            return Err(EncoderFitError::NoRows);
        }
        let fitted: Vec<Result<FittedEncoding, EncoderFitError>> = defs
            .par_iter()
            .enumerate()
            .filter_map(|(feature, def)| {
                def.encoding.map(|encoding| fit_feature(feature, def, encoding, rows))
            })
            .collect();
        let mut codes = Vec::with_capacity(fitted.len());
        let mut without_codes = EncoderFitError::NoEncoding;
        for code in fitted {
            match code {
                Ok(code) => codes.push(code),
                Err(unobserved @ EncoderFitError::NoObservations(_)) => without_codes = unobserved,
                Err(error) => return Err(error),
            }
        }
        if codes.is_empty() {
            return Err(without_codes);
        }
        leave_out_most_constant(&mut codes, rows);
        let columns: Vec<EncodedColumn> =
            codes.iter().flat_map(|code| code.columns(&defs[code.feature()].name)).collect();
        Ok(StoredEncoder { codes, columns }.into())
    }

    /// Transform and clipping bounds of each numeric feature; `defs` are those that the encoder was
    /// fitted with.
    pub(in crate::domain) fn fitted_numbers(
        &self,
        defs: &[FeatureDefinition],
    ) -> Vec<FittedNumber> {
        let numbers = self.codes.iter().filter_map(|code| match code {
            FittedEncoding::Number(coded) => {
                Some(coded.description(&defs.get(coded.feature)?.name))
            }
            FittedEncoding::OneHot(_) => None,
        });
        numbers.collect()
    }

    /// Length of an encoded vector.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    pub fn columns(&self) -> &[EncodedColumn] {
        &self.columns
    }

    /// Writes the vector of `row` into `out`, which is [`Self::width`] long.
    ///
    /// Never allocates. Every number written is finite and within ±[`MAX_ENCODED`]. A value of
    /// the wrong kind, or beyond the end of the row, counts as missing.
    pub fn encode(&self, row: &FeatureRow, out: &mut [f32]) {
        debug_assert_eq!(out.len(), self.width());
        out.copy_from_slice(&self.blank);
        let mut rest = out;
        for code in &self.codes {
            let Some((mine, after)) = rest.split_at_mut_checked(code.width()) else { return };
            if let Some(value @ (FeatureValue::Number(_) | FeatureValue::Category(_))) =
                row.0.get(code.feature())
            {
                code.encode(Some(value), mine);
            }
            rest = after;
        }
    }

    /// Indices of the features that the encoder reads.
    pub(in crate::domain) fn feature_indices(&self) -> impl Iterator<Item = usize> {
        self.codes.iter().map(FittedEncoding::feature)
    }

    /// The number that replaces a missing value of a feature, in the feature's unit; `None` for a
    /// category, whose absence is a value of its own.
    pub(in crate::domain) fn imputed_number(&self, feature: usize) -> Option<f64> {
        self.codes.iter().find_map(|code| match code {
            FittedEncoding::Number(coded) if coded.feature == feature => Some(coded.fill),
            _ => None,
        })
    }

    /// The columns with transformed numbers, without missing flags.
    pub(in crate::domain) fn numeric_columns(&self) -> impl Iterator<Item = NumericColumn> {
        let mut next = 0;
        self.codes.iter().enumerate().filter_map(move |(code, coded)| {
            let column = next;
            next += coded.width();
            matches!(coded, FittedEncoding::Number(_)).then_some(NumericColumn {
                feature: coded.feature(),
                column,
                code,
            })
        })
    }

    /// The column value that [`Self::encode`] writes for a number. Monotone in the number.
    pub(in crate::domain) fn encode_number(&self, at: NumericColumn, number: f64) -> f32 {
        match self.codes.get(at.code) {
            Some(FittedEncoding::Number(coded)) => coded.column(number),
            _ => 0.0,
        }
    }

    /// Change of a number, in its own unit, that changes its column by 1 while the number is not
    /// clipped; `None` when the transform makes that depend on the number.
    pub(in crate::domain) fn number_per_column_unit(&self, at: NumericColumn) -> Option<f64> {
        match self.codes.get(at.code) {
            Some(FittedEncoding::Number(coded)) => coded.own_unit(),
            _ => None,
        }
    }

    /// Column value of a row's category; `None` for a feature without categories.
    pub(in crate::domain) fn category_weight(&self, feature: usize) -> Option<f64> {
        self.codes.iter().find_map(|code| match code {
            FittedEncoding::OneHot(coded) if coded.feature == feature => Some(coded.weight()),
            _ => None,
        })
    }

    /// Validates a deserialised encoder against `defs`; the error names the defect.
    pub(in crate::domain) fn check(&self, defs: &[FeatureDefinition]) -> Result<(), &'static str> {
        if self.columns.is_empty() || self.columns.len() > MAX_COLUMNS {
            return Err("the encoder has no columns or too many");
        }
        let mut expected = Vec::with_capacity(self.columns.len());
        for code in &self.codes {
            let Some(def) = defs.get(code.feature()) else {
                return Err("the encoder reads a feature that does not exist");
            };
            if def.sensitivity == Sensitivity::Sensitive {
                return Err("the encoder reads a sensitive feature");
            }
            if !code.is_sound() {
                return Err("an encoder parameter is out of range");
            }
            if expected.len() + code.width() > MAX_COLUMNS {
                return Err("the encoder has too many columns");
            }
            expected.extend(code.columns(&def.name));
        }
        if expected == self.columns { Ok(()) } else { Err("the encoder's columns disagree") }
    }
}

impl FittedEncoding {
    fn feature(&self) -> usize {
        match self {
            Self::Number(number) => number.feature,
            Self::OneHot(onehot) => onehot.feature,
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Number(number) => number.width(),
            Self::OneHot(onehot) => onehot.width(),
        }
    }

    fn is_sound(&self) -> bool {
        match self {
            Self::Number(number) => number.is_sound(),
            Self::OneHot(onehot) => onehot.is_sound(),
        }
    }

    fn encode(&self, value: Option<&FeatureValue>, out: &mut [f32]) {
        match self {
            Self::Number(number) => number.encode(value, out),
            Self::OneHot(onehot) => onehot.encode(value, out),
        }
    }

    fn columns(&self, feature_name: &str) -> Vec<EncodedColumn> {
        let feature = self.feature();
        let roles = match self {
            Self::Number(number) => number.roles(),
            Self::OneHot(onehot) => onehot.roles(),
        };
        roles
            .into_iter()
            .map(|role| {
                let name = match &role {
                    ColumnRole::Value => feature_name.into(),
                    ColumnRole::Missing => format!("{feature_name} (missing)").into(),
                    ColumnRole::Category(category) => format!("{feature_name}={category}").into(),
                    ColumnRole::Other => format!("{feature_name} (other)").into(),
                };
                EncodedColumn { feature, name, role }
            })
            .collect()
    }
}

/// Leaves out the features with the largest share of rows with one and the same value, until at
/// most [`MAX_COLUMNS`] columns are left.
fn leave_out_most_constant(codes: &mut Vec<FittedEncoding>, rows: &[&FeatureRow]) {
    let mut width: usize = codes.iter().map(FittedEncoding::width).sum();
    if width <= MAX_COLUMNS {
        return;
    }
    let mut order: Vec<(usize, usize)> = codes
        .par_iter()
        .enumerate()
        .map(|(place, code)| (most_common_count(code.feature(), rows), place))
        .collect();
    // Of equally constant features the last ones go first.
    order.sort_unstable_by(|a, b| b.cmp(a));
    let mut is_left_out = vec![false; codes.len()];
    for (_, place) in order {
        if width <= MAX_COLUMNS {
            break;
        }
        is_left_out[place] = true;
        width -= codes[place].width();
    }
    let mut left_out = is_left_out.into_iter();
    codes.retain(|_| !left_out.next().unwrap_or_default());
}

/// Number of rows with the most common value of a feature.
fn most_common_count(feature: usize, rows: &[&FeatureRow]) -> usize {
    let mut counts: HashMap<(u64, &str), usize> = HashMap::new();
    for row in rows {
        let value = match row.0.get(feature) {
            Some(FeatureValue::Number(number)) => (number.to_bits(), ""),
            Some(FeatureValue::Category(name)) => (0, &**name),
            Some(FeatureValue::Missing) | None => (u64::MAX, ""),
        };
        *counts.entry(value).or_default() += 1;
    }
    counts.into_values().max().unwrap_or_default()
}

fn fit_feature(
    feature: usize,
    def: &FeatureDefinition,
    encoding: FeatureEncoding,
    rows: &[&FeatureRow],
) -> Result<FittedEncoding, EncoderFitError> {
    if def.sensitivity == Sensitivity::Sensitive {
        return Err(EncoderFitError::Sensitive(def.name.clone()));
    }
    let values = rows.iter().map(|row| row.0.get(feature));
    match encoding {
        FeatureEncoding::Number { missing, missing_flag, winsorise, transform, scale, weight } => {
            let recipe =
                number::NumericSteps { missing, missing_flag, winsorise, transform, scale, weight };
            NumericEncoding::fit(feature, &def.name, recipe, values).map(FittedEncoding::Number)
        }
        FeatureEncoding::OneHot { floor, weight } => {
            Ok(FittedEncoding::OneHot(OneHotEncoding::fit(feature, floor, weight, values)))
        }
    }
}
