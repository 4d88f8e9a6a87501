//! The table of handshakes as a picture: a block of bars for each of its columns.

use std::fmt::Write as _;

const BAR: usize = 14;
const GAP: usize = 18;
const LEFT: usize = 100;
const WIDTH: usize = 520;
/// Right of the longest bar, for its figure.
const RIGHT: usize = 70;
/// Ours first, then the others; what is no server last.
const COLOURS: [&str; 6] = ["#0b6e4f", "#8a8f98", "#8a8f98", "#8a8f98", "#8a8f98", "#d5d8dc"];

/// Draws the rows of a table that are figures, and not ratios.
pub(crate) fn draw(table: &str) -> String {
    let mut lines = table.lines().map(cells);
    let (title, columns) = lines.next().and_then(|line| Some((*line.first()?, line[1..].to_vec()))).unwrap_or_default();
    let rows: Vec<(&str, Vec<f64>)> = lines
        .filter(|line| line.first().is_some_and(|name| !name.contains('÷')))
        .filter_map(|line| {
            Some((*line.first()?, line[1..].iter().map(|cell| cell.parse().ok()).collect::<Option<_>>()?))
        })
        .collect();
    let block = rows.len() * BAR + GAP + BAR;
    let (width, height) = (LEFT + WIDTH + RIGHT, columns.len() * block + GAP + BAR);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"10\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"4\" y=\"{BAR}\" font-size=\"12\">{title}</text>\n"
    );
    for (index, column) in columns.iter().enumerate() {
        let top = GAP + BAR + index * block;
        let most = rows.iter().map(|(_, figures)| figures[index]).fold(1.0, f64::max);
        let _ = writeln!(svg, "<text x=\"4\" y=\"{}\" font-weight=\"bold\">{column}</text>", top + BAR - 4);
        for (number, (name, figures)) in rows.iter().enumerate() {
            let y = top + BAR + number * BAR;
            let length = figures[index] / most * WIDTH as f64;
            let colour = COLOURS[number.min(COLOURS.len() - 1)];
            let text = y + BAR - 4;
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{name}</text>\
                 <rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{text}\">{}</text>",
                LEFT - 6,
                y + 1,
                BAR - 2,
                LEFT as f64 + length + 4.0,
                figures[index]
            );
        }
    }
    svg + "</svg>\n"
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}
