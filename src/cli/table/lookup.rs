//! Lookup tables: add the columns of smaller tables to the rows of a large one (hash join).
//!
//! Each lookup table is in memory: its key and the columns that are added.

use std::collections::HashMap;

use anyhow::Context as _;
use indicatif::ProgressBar;
use serde::Deserialize;

use super::TableReader;
use super::cell::TableCell;
use super::row::{ColumnPath, JoinedCells, TableColumns, TableRow};
use super::settings::TableSettings;
use super::source::TableSource;
use super::status::RowStatus;

/// A `[[lookup]]` section of a mapping.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupSettings {
    /// File name, in the folder of the table.
    table: String,
    /// Column of both tables; in the lookup table each value occurs once.
    key: String,
    /// Columns that are added.
    columns: Vec<String>,
}

/// The lookup tables of one table.
#[derive(Debug, Default)]
pub struct LookupTables {
    tables: Vec<LookupTable>,
    /// Number of columns of the table itself.
    first: usize,
    /// The added cells of the current row.
    cells: Vec<TableCell<'static>>,
}

#[derive(Debug)]
struct LookupTable {
    key: ColumnPath,
    width: usize,
    rows: HashMap<String, Box<[TableCell<'static>]>>,
}

impl LookupTables {
    /// Reads the lookup tables; returns them with the columns that rows have after the join.
    /// A later lookup can use a column that an earlier one added.
    pub fn read(
        settings: &[LookupSettings],
        source: &TableSource,
        columns: &TableColumns,
    ) -> anyhow::Result<(Self, TableColumns)> {
        let mut joined = columns.clone();
        let mut lookups = Self { first: columns.names.len(), ..Self::default() };
        for (index, lookup) in settings.iter().enumerate() {
            let table = LookupTable::read(lookup, source, &mut joined);
            lookups.tables.push(table.with_context(|| format!("in lookup[{index}]"))?);
        }
        Ok((lookups, joined))
    }

    /// The row with the cells of the lookup tables; those of an unknown key are missing.
    pub fn join<'a>(&'a mut self, row: TableRow<'a>) -> TableRow<'a> {
        if self.tables.is_empty() {
            return row;
        }
        self.cells.clear();
        for table in &self.tables {
            let joined = JoinedCells { first: self.first, cells: &self.cells };
            let key = table.key.read(&TableRow { joined, ..row });
            let found = key.text().and_then(|key| table.rows.get(key.as_ref()));
            match found {
                Some(cells) => self.cells.extend_from_slice(cells),
                None => self.cells.resize(self.cells.len() + table.width, TableCell::Missing),
            }
        }
        TableRow { joined: JoinedCells { first: self.first, cells: &self.cells }, ..row }
    }
}

impl LookupTable {
    fn read(
        lookup: &LookupSettings,
        source: &TableSource,
        joined: &mut TableColumns,
    ) -> anyhow::Result<Self> {
        let key = joined.find(&lookup.key).map_err(anyhow::Error::msg)?;
        let path = source.folder().map(|folder| folder.join(&lookup.table));
        let file = TableSource::File(path.unwrap_or_else(|| lookup.table.clone().into()));
        let bar = ProgressBar::hidden();
        let reader = TableReader::open(&file, &TableSettings::default(), &bar);
        let mut reader = reader.with_context(|| format!("in {}", file.path()))?;
        let own_key = reader.columns().find(&lookup.key).map_err(anyhow::Error::msg)?;
        let mut columns = Vec::with_capacity(lookup.columns.len());
        for name in &lookup.columns {
            anyhow::ensure!(
                !joined.names.contains(name),
                "the column {name:?} is in another table already"
            );
            columns.push(reader.columns().find(name).map_err(anyhow::Error::msg)?);
            joined.names.push(name.clone());
        }
        let mut rows = HashMap::new();
        loop {
            match reader.advance()? {
                RowStatus::Row => {}
                RowStatus::Faulty(fault) => {
                    anyhow::bail!("{}, line {}: {fault}", file.path(), fault.line)
                }
                RowStatus::End => break,
            }
            let row = reader.row();
            let id = own_key.read(&row);
            let Some(id) = id.text() else { continue };
            let cells = columns.iter().map(|column| column.read(&row).into_owned()).collect();
            let known = rows.insert(id.as_ref().to_owned(), cells);
            anyhow::ensure!(
                known.is_none(),
                "{}, line {}: {:?} occurs twice in the column {:?}; it must identify one row",
                file.path(),
                row.line,
                id,
                lookup.key
            );
        }
        Ok(Self { key, width: columns.len(), rows })
    }
}
