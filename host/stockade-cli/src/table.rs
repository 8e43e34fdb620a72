//! Tables: columns as wide as what is in them, without lines between.

use comfy_table::{CellAlignment, Table, presets};

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows as lines of text, each column aligned so. Ends with a newline where there is a row.
pub(crate) fn table<const N: usize>(
    align: [Align; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    rows.into_iter().for_each(|row| _ = table.add_row(row));
    for (column, align) in table.column_iter_mut().zip(align) {
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [["a", "1", "one"], ["long", "1,000", ""]];
        let rows = rows.map(|row| row.map(String::from));
        let shown = table([Align::Left, Align::Right, Align::Left], rows);
        assert_eq!(shown, "a         1  one\nlong  1,000\n");
    }
}
