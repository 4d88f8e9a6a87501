//! Tables that are read on a wide screen, on a phone, and aloud.

use std::fmt::Write;

/// A table. The first cell of each row is its header.
pub(super) struct Grid<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    pub(super) caption: &'a str,
    pub(super) columns: &'a [Column<'a>],
    /// In HTML.
    pub(super) rows: Vec<Vec<String>>,
    /// Whether rows become cards on a phone. Otherwise the table is moved sideways there.
    pub(super) stacks: bool,
}

/// A column.
#[derive(Clone, Copy)]
pub(super) struct Column<'a> {
    pub(super) name: &'a str,
    pub(super) is_number: bool,
}

/// A column of text.
pub(super) const fn words(name: &str) -> Column<'_> {
    Column { name, is_number: false }
}

/// A column of numbers.
pub(super) const fn numbers(name: &str) -> Column<'_> {
    Column { name, is_number: true }
}

/// How many rows a page shows: more are for programs.
const MOST: usize = 100;

impl Grid<'_> {
    /// The table, in a box that can be reached and moved by keyboard where it is wider than the window.
    ///
    /// The roles are those that the elements have: browsers forget them where rows become cards.
    pub(super) fn html(&self) -> String {
        let Self { id, caption, columns, rows, stacks } = self;
        let mut html = format!(
            "<div class=\"scroll\" id=\"{id}\" role=\"region\" aria-labelledby=\"{id}-caption\" tabindex=\"0\">\
             <table role=\"table\"{stacks}><caption id=\"{id}-caption\">{caption}</caption>\
             <thead role=\"rowgroup\"><tr role=\"row\">",
            stacks = if *stacks { " class=\"stacks\"" } else { "" },
        );
        for Column { name, is_number } in *columns {
            let class = class(*is_number);
            let _ = write!(html, "<th role=\"columnheader\" scope=\"col\"{class}>{name}</th>");
        }
        html.push_str("</tr></thead><tbody role=\"rowgroup\">\n");
        for row in rows.iter().take(MOST) {
            html.push_str("<tr role=\"row\">");
            for (index, (cell, Column { name, is_number })) in row.iter().zip(*columns).enumerate() {
                let class = class(*is_number);
                let _ = if index == 0 {
                    write!(html, "<th role=\"rowheader\" scope=\"row\">{cell}</th>")
                } else {
                    write!(html, "<td role=\"cell\" data-label=\"{name}\"{class}><div>{cell}</div></td>")
                };
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
        if let Some(more @ 1..) = rows.len().checked_sub(MOST) {
            let _ = writeln!(html, "<p class=\"soft\">And {more} more, which are in dashboard.json.</p>");
        }
        html
    }
}

fn class(is_number: bool) -> &'static str {
    if is_number { " class=\"number\"" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told() {
        let rows = vec![vec!["a".to_owned()]; 103];
        let html = Grid { id: "x", caption: "All", columns: &[words("Name")], rows, stacks: true }.html();
        assert_eq!(html.matches("rowheader").count(), 100);
        assert!(html.ends_with("<p class=\"soft\">And 3 more, which are in dashboard.json.</p>\n"), "{html}");
    }

    #[test]
    fn every_cell_knows_its_row_and_column() {
        let grid = Grid {
            id: "x",
            caption: "All",
            columns: &[words("Name"), numbers("Count")],
            rows: vec![vec!["a".to_owned(), "1".to_owned()], vec!["b".to_owned(), "2".to_owned()]],
            stacks: true,
        };
        let html = grid.html();
        for part in [
            "aria-labelledby=\"x-caption\" tabindex=\"0\"",
            "<caption id=\"x-caption\">All</caption>",
            "<th role=\"columnheader\" scope=\"col\" class=\"number\">Count</th>",
            "<th role=\"rowheader\" scope=\"row\">b</th>\
             <td role=\"cell\" data-label=\"Count\" class=\"number\"><div>2</div></td>",
        ] {
            assert!(html.contains(part), "no {part} in {html}");
        }
    }
}
