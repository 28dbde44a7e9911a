//! Columns for people.

/// Columns of every table.
pub(crate) const COLUMNS: usize = 8;

/// A row of a table.
pub(crate) fn row<T: ToString>(cells: [T; COLUMNS]) -> [String; COLUMNS] {
    cells.map(|cell| cell.to_string())
}

/// Rows under each other, each column as wide as its widest cell.
pub(crate) fn aligned(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..COLUMNS).map(width).collect();
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}
