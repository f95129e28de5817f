//! A table that fits: columns that matter less go first, then names are shortened.

use unicode_width::UnicodeWidthStr;

use crate::cli::backends::shortened;

/// One column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub title: &'static str,
    pub right: bool,
    /// The highest go first where there is no room; 0 stays.
    pub dispensable: u8,
    pub cells: Vec<String>,
}

/// What stands before a row and between columns.
const INDENT: usize = 2;
const GAP: usize = 2;
/// No column is shortened below this.
const SHORTEST: usize = 6;

impl Column {
    pub fn new(title: &'static str, right: bool, dispensable: u8, cells: Vec<String>) -> Self {
        Self { title, right, dispensable, cells }
    }

    fn width(&self) -> usize {
        self.cells.iter().map(|cell| cell.width()).chain([self.title.width()]).max().unwrap_or(0)
    }
}

/// Header and rows of a table no wider than `width`, where that can be.
pub(super) fn rows(mut columns: Vec<Column>, width: usize) -> Vec<String> {
    // A column that says nothing is none.
    columns.retain(|column| column.dispensable == 0 || column.cells.iter().any(|cell| !cell.is_empty() && cell != "-"));
    let whole = |columns: &[Column]| INDENT + columns.iter().map(|column| column.width() + GAP).sum::<usize>() - GAP;
    while whole(&columns) > width {
        let Some(least) = columns.iter().map(|column| column.dispensable).max().filter(|least| *least > 0) else {
            break;
        };
        columns.retain(|column| column.dispensable != least);
    }
    let over = whole(&columns).saturating_sub(width);
    if let Some(first) = columns.first_mut().filter(|_| over > 0) {
        let room = first.width().saturating_sub(over).max(SHORTEST);
        for cell in &mut first.cells {
            *cell = shortened(cell, room);
        }
    }
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let row = |cell: &dyn Fn(&Column) -> String| {
        let mut line = " ".repeat(INDENT);
        for (column, width) in columns.iter().zip(&widths) {
            let text = cell(column);
            let blanks = " ".repeat(width.saturating_sub(text.width()));
            line += &if column.right { blanks + &text } else { text + &blanks };
            line += &" ".repeat(GAP);
        }
        line.trim_end().to_owned()
    };
    let count = columns.first().map_or(0, |column| column.cells.len());
    let header = row(&|column| column.title.to_owned());
    std::iter::once(header).chain((0..count).map(|i| row(&|column| column.cells[i].clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        vec![
            Column::new("backend", false, 0, vec!["a-rather-long-name-1".to_owned(), "b".to_owned()]),
            Column::new("state", false, 0, vec!["up".to_owned(), "down".to_owned()]),
            Column::new("flows", true, 2, vec!["1".to_owned(), "22".to_owned()]),
            Column::new("empty", true, 1, vec!["-".to_owned(), String::new()]),
        ]
    }

    #[test]
    fn columns_go_before_names_are_shortened() {
        let wide = rows(columns(), 80);
        assert_eq!(wide[1], "  a-rather-long-name-1  up         1");
        let narrow = rows(columns(), 30);
        assert_eq!(narrow[1], "  a-rather-long-name-1  up");
        let narrower = rows(columns(), 20);
        assert_eq!(narrower, ["  backend      state", "  …ong-name-1  up", "  b            down"].map(str::to_owned));
    }
}
