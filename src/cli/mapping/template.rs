//! Text with placeholders: `{column}`, `{file}`, `{line}`, `{content}`; `{{` and `}}` are
//! braces.

use crate::cli::table::{ColumnPath, RowFault, TableColumns, TableRow};

/// Where a row stands in its table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowContext<'a> {
    /// File name without folder.
    pub(super) file: &'a str,
    /// Id derived from the content of the row or of its group.
    pub(super) content: &'a str,
}

/// Text with placeholders, bound to the columns of a table.
#[derive(Debug, Clone)]
pub(super) struct TextTemplate {
    parts: Vec<TemplatePart>,
}

#[derive(Debug, Clone)]
enum TemplatePart {
    Text(String),
    Column(ColumnPath),
    File,
    Line,
    Content,
}

/// Outcome of filling a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TemplateFill {
    Complete,
    /// A cell is missing; its column is the one at this index of the template.
    Missing(usize),
}

impl TextTemplate {
    pub(super) fn bind(text: &str, columns: &TableColumns) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if after.starts_with(brace) {
                literal.push_str(brace);
                rest = &after[1..];
                continue;
            }
            if brace == "}" {
                return Err(format!("{text:?}: a `}}` without `{{`; a literal brace is `}}}}`"));
            }
            let Some(close) = after.find('}') else {
                return Err(format!("{text:?}: a `{{` without `}}`; a literal brace is `{{{{`"));
            };
            if !literal.is_empty() {
                parts.push(TemplatePart::Text(std::mem::take(&mut literal)));
            }
            parts.push(match &after[..close] {
                "file" => TemplatePart::File,
                "line" => TemplatePart::Line,
                "content" => TemplatePart::Content,
                name => TemplatePart::Column(columns.find(name).map_err(|problem| {
                    format!("{text:?}: {problem}; a literal brace is `{{{{`")
                })?),
            });
            rest = &after[close + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(TemplatePart::Text(literal));
        }
        Ok(Self { parts })
    }

    pub(super) fn uses_file(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, TemplatePart::File))
    }

    pub(super) fn uses_content(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, TemplatePart::Content))
    }

    /// Whether every row fills the template with the same text.
    pub(super) fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, TemplatePart::Text(_)))
    }

    /// Whether the text depends on the number of the row.
    pub(super) fn uses_line(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, TemplatePart::Line))
    }

    /// The names of its columns, for messages.
    pub(super) fn columns(&self) -> String {
        let names: Vec<&str> = self.parts.iter().filter_map(TemplatePart::column).collect();
        names.join(", ")
    }

    /// The name of the column at an index of the template.
    pub(super) fn column_at(&self, index: usize) -> &str {
        self.parts.get(index).and_then(TemplatePart::column).unwrap_or_default()
    }

    /// Appends the filled text.
    pub(super) fn fill(
        &self,
        row: &TableRow<'_>,
        context: RowContext<'_>,
        text: &mut String,
    ) -> TemplateFill {
        let mut outcome = TemplateFill::Complete;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                TemplatePart::Text(part) => text.push_str(part),
                TemplatePart::Column(column) => match column.read(row).text() {
                    Some(cell) => text.push_str(&cell),
                    None if outcome == TemplateFill::Complete => {
                        outcome = TemplateFill::Missing(index);
                    }
                    None => {}
                },
                TemplatePart::File => text.push_str(context.file),
                TemplatePart::Line => text.push_str(&row.number.to_string()),
                TemplatePart::Content => text.push_str(context.content),
            }
        }
        outcome
    }

    /// Fails if a cell is a number that has lost digits, and so cannot be part of an id.
    pub(super) fn check_id(&self, row: &TableRow<'_>) -> Result<(), RowFault> {
        for part in &self.parts {
            if let TemplatePart::Column(column) = part {
                let cell = column.read(row);
                if let Some(reason) = cell.lost_digits() {
                    let text = cell.text().unwrap_or_default();
                    return Err(RowFault::of_cell(row.line, &column.name, &text, reason));
                }
            }
        }
        Ok(())
    }
}

impl TemplatePart {
    fn column(&self) -> Option<&str> {
        match self {
            Self::Column(column) => Some(&column.name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> TableColumns {
        TableColumns { names: vec!["id".to_owned(), "When".to_owned()], optional: Vec::new() }
    }

    #[test]
    fn braces_are_escaped_by_doubling() {
        let template = TextTemplate::bind("{{x}}-", &columns()).expect("a template");
        assert!(template.is_constant());
        let TemplatePart::Text(text) = &template.parts[0] else { panic!("no text") };
        assert_eq!(text, "{x}-");
    }

    #[test]
    fn unknown_columns_and_single_braces_are_refused() {
        for text in ["{", "a}b", "{when", "{Id}", "{}"] {
            let problem = TextTemplate::bind(text, &columns()).expect_err(text);
            assert!(problem.contains("a literal brace is"), "{problem}");
        }
        let problem = TextTemplate::bind("{Id}", &columns()).expect_err("an unknown column");
        assert!(problem.contains("it has \"id\", \"When\""), "{problem}");
    }
}
