//! Rows of an experiment from tables: one exposed customer each.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use indicatif::ProgressBar;

use crate::cli::feature_rows::{FeatureColumns, OtherColumns, cell_number, read_features};
use crate::cli::table::{RowStatus, TableCell, TableReader, TableRow, TableSettings, TableSource};
use crate::domain::experiment::{CustomerOutcome, ExperimentSample, ExposedCustomer, NameTable};
use crate::domain::feature::{FeatureRow, FeatureSet};
use crate::domain::model::{Model, ScoringScratch, UNASSIGNED};

/// Columns of the tables, by name.
#[derive(Debug)]
pub(super) struct ColumnNames<'a> {
    pub(super) variation: &'a str,
    pub(super) metric: &'a str,
    pub(super) denominator: Option<&'a str>,
    pub(super) covariate: Option<&'a str>,
    /// Identifies customers that occur more than once.
    pub(super) customer: Option<&'a str>,
    pub(super) day: Option<&'a str>,
}

/// Where the segment of a row comes from.
pub(super) enum SegmentSource<'a> {
    None,
    Column(&'a str),
    /// The model scores the columns of the features; so does another model, to compare both.
    Model {
        model: &'a Model,
        other: Option<&'a Model>,
        features: &'a FeatureSet,
    },
}

/// All rows of an experiment.
#[derive(Debug, Default)]
pub(super) struct ExperimentRows {
    pub(super) sample: ExperimentSample,
    /// The segments of the customers by the other model, in the order of the sample; empty without one.
    pub(super) other_segments: Vec<usize>,
    /// Customers in more than one variation, which are left out.
    pub(super) ambiguous: u64,
    /// Rows without a value of the metric, which count as 0.
    pub(super) without_metric: u64,
}

/// Position of a column; the error names the columns that there are.
pub(super) fn column_index(names: &[String], name: &str) -> anyhow::Result<usize> {
    let found = names.iter().position(|known| known == name);
    found.with_context(|| {
        format!("there is no column `{name}`; the columns are `{}`", names.join("`, `"))
    })
}

fn optional_index(names: &[String], name: Option<&str>) -> anyhow::Result<Option<usize>> {
    name.map(|name| column_index(names, name)).transpose()
}

/// Positions of the columns of one table.
struct ColumnIndices {
    variation: usize,
    metric: usize,
    denominator: Option<usize>,
    covariate: Option<usize>,
    customer: Option<usize>,
    day: Option<usize>,
    segment: Option<usize>,
    features: Option<FeatureColumns>,
}

impl ColumnIndices {
    fn find(
        known: &[String],
        names: &ColumnNames<'_>,
        segments: &SegmentSource<'_>,
    ) -> anyhow::Result<Self> {
        let segment = match segments {
            SegmentSource::Column(name) => Some(column_index(known, name)?),
            _ => None,
        };
        let features = match segments {
            SegmentSource::Model { features, .. } => {
                let known = known.iter().map(String::as_str);
                Some(FeatureColumns::find(known, features, OtherColumns::Ignored)?)
            }
            _ => None,
        };
        Ok(Self {
            variation: column_index(known, names.variation)?,
            metric: column_index(known, names.metric)?,
            denominator: optional_index(known, names.denominator)?,
            covariate: optional_index(known, names.covariate)?,
            customer: optional_index(known, names.customer)?,
            day: optional_index(known, names.day)?,
            segment,
            features,
        })
    }
}

/// Reads the rows of all tables. `control` gets the first index.
pub(super) fn read_rows(
    sources: &[TableSource],
    names: &ColumnNames<'_>,
    segments: &SegmentSource<'_>,
    control: &str,
) -> anyhow::Result<ExperimentRows> {
    let mut collector = RowCollector::new(segments);
    collector.rows.sample.variations.index_of(control);
    for source in sources {
        collector.read_table(source, names).with_context(|| format!("in {}", source.path()))?;
    }
    let RowCollector { mut rows, ids, variation_of, .. } = collector;
    // A customer that meets two variations says nothing about either.
    let ambiguous: HashSet<String> =
        variation_of.into_iter().filter(|(_, known)| known.is_none()).map(|(id, _)| id).collect();
    rows.ambiguous = ambiguous.len() as u64;
    let mut is_clear = Vec::with_capacity(ids.len());
    for id in &ids {
        is_clear.push(id.as_ref().is_none_or(|id| !ambiguous.contains(id)));
    }
    retain_clear(&mut rows.sample.customers, &is_clear);
    retain_clear(&mut rows.other_segments, &is_clear);
    Ok(rows)
}

/// Removes the rows that are not clear; `rows` may be empty.
fn retain_clear<T>(rows: &mut Vec<T>, is_clear: &[bool]) {
    let mut is_clear = is_clear.iter();
    rows.retain(|_| is_clear.next() != Some(&false));
}

struct RowCollector<'a> {
    segments: &'a SegmentSource<'a>,
    rows: ExperimentRows,
    /// The customer id of each row, if the tables have one.
    ids: Vec<Option<String>>,
    /// Names of the segments of the other model.
    other_names: NameTable,
    /// The variation of each customer; `None` for several.
    variation_of: HashMap<String, Option<usize>>,
    scratch: ScoringScratch,
}

impl<'a> RowCollector<'a> {
    fn new(segments: &'a SegmentSource<'a>) -> Self {
        Self {
            segments,
            rows: ExperimentRows::default(),
            ids: Vec::new(),
            other_names: NameTable::default(),
            variation_of: HashMap::new(),
            scratch: ScoringScratch::default(),
        }
    }

    fn read_table(&mut self, source: &TableSource, names: &ColumnNames<'_>) -> anyhow::Result<()> {
        let settings = TableSettings::default();
        let mut reader = TableReader::open(source, &settings, &ProgressBar::hidden())?;
        let columns = ColumnIndices::find(&reader.columns().names, names, self.segments)?;
        loop {
            match reader.advance()? {
                RowStatus::Row => {}
                RowStatus::Faulty(fault) => anyhow::bail!("line {}: {fault}", fault.line),
                RowStatus::End => return Ok(()),
            }
            let row = reader.row();
            self.add(&row, &columns, settings.decimal_mark())
                .with_context(|| format!("line {}", row.line))?;
        }
    }

    fn add(
        &mut self,
        row: &TableRow<'_>,
        columns: &ColumnIndices,
        decimal: char,
    ) -> anyhow::Result<()> {
        let variation = required(row, columns.variation, "the variation")?.into_owned();
        let variation = self.rows.sample.variations.index_of(&variation);
        let metric = number(&row.cell(columns.metric), decimal).context("the metric")?;
        self.rows.without_metric += u64::from(metric.is_none());
        let denominator = match columns.denominator {
            Some(column) => number(&row.cell(column), decimal).context("the denominator")?,
            None => Some(1.0),
        };
        let covariate = match columns.covariate {
            Some(column) => number(&row.cell(column), decimal).context("the covariate")?,
            None => None,
        };
        let outcome = CustomerOutcome {
            metric: metric.unwrap_or(0.0),
            denominator: denominator.unwrap_or(0.0),
            covariate: covariate.unwrap_or(0.0),
        };
        let segment = self.segment(row, columns, decimal)?;
        let day = match columns.day {
            Some(column) => {
                let text = required(row, column, "the day")?;
                // An instant counts for its day.
                self.rows.sample.days.index_of(text.get(..10).unwrap_or(&text))
            }
            None => 0,
        };
        let customer = match columns.customer {
            Some(column) => Some(required(row, column, "the customer id")?.into_owned()),
            None => None,
        };
        if let Some(id) = &customer
            && let Some(known) = self.variation_of.insert(id.clone(), Some(variation))
        {
            anyhow::ensure!(
                known != Some(variation),
                "the customer `{id}` occurs twice: give one row for each customer"
            );
            self.variation_of.insert(id.clone(), None);
        }
        self.ids.push(customer);
        self.rows.sample.customers.push(ExposedCustomer { variation, segment, day, outcome });
        Ok(())
    }

    /// Index of the segment of a row; 0 without segments.
    fn segment(
        &mut self,
        row: &TableRow<'_>,
        columns: &ColumnIndices,
        decimal: char,
    ) -> anyhow::Result<usize> {
        if let Some(column) = columns.segment {
            let cell = row.cell(column);
            let name = cell.text().unwrap_or(Cow::Borrowed("(none)"));
            return Ok(self.rows.sample.segments.index_of(&name));
        }
        let (SegmentSource::Model { model, other, features }, Some(columns)) =
            (self.segments, &columns.features)
        else {
            return Ok(0);
        };
        let values = read_features(row, columns, features, decimal)?;
        if let Some(other) = other {
            let name = segment_name(other, &values, &mut self.scratch);
            self.rows.other_segments.push(self.other_names.index_of(name));
        }
        let name = segment_name(model, &values, &mut self.scratch);
        Ok(self.rows.sample.segments.index_of(name))
    }
}

/// Name of the segment of a feature row.
fn segment_name<'m>(model: &'m Model, row: &FeatureRow, scratch: &mut ScoringScratch) -> &'m str {
    let score = model.score(row, scratch);
    score.segment().map_or(UNASSIGNED, |index| &model.segments()[index].name)
}

/// The text of a cell that must not be empty.
fn required<'r>(row: &'r TableRow<'_>, column: usize, what: &str) -> anyhow::Result<Cow<'r, str>> {
    let text = row.cell(column).text().map(|text| Cow::Owned(text.into_owned()));
    text.with_context(|| format!("{what} is empty"))
}

/// The number in a cell; an empty cell is `None`.
fn number(cell: &TableCell<'_>, decimal: char) -> anyhow::Result<Option<f64>> {
    let number = cell_number(cell, decimal).map_err(anyhow::Error::msg)?;
    anyhow::ensure!(number.is_none_or(f64::is_finite), "must be a finite number");
    Ok(number)
}
