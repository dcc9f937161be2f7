//! A picture of how near the passes come to a copy.

use crate::norm::Kind;
use crate::row::Row;
use crate::subject::Subject;

const LEFT: f64 = 330.0;
const WIDTH: f64 = 620.0;
const BAR: f64 = 13.0;

/// Bars of the share of the copy's rate at which each pass moves the bytes that must move, by problem: of lines that
/// force no strategy and no tile.
pub fn svg(head: &str, rows: &[Row]) -> String {
    let rows: Vec<(&Row, Subject)> = rows
        .iter()
        .filter_map(|row| Some((row, row.subject?)))
        .filter(|(_, subject)| subject.line.common().tuning == Default::default())
        .collect();
    let widest = rows.iter().map(|(row, _)| row.share()).fold(1.0, f64::max);
    let scale = WIDTH / (widest * 1.05);
    let mut bars = String::new();
    let mut top = 64.0;
    let mut problem = String::new();
    for (row, subject) in rows {
        if row.problem.to_string() != problem {
            problem = row.problem.to_string();
            top += 10.0;
            bars.push_str(&text(
                LEFT - 130.0,
                top + BAR - 3.0,
                "end",
                "bold",
                &problem,
            ));
        }
        let share = row.share();
        bars.push_str(&text(
            LEFT - 8.0,
            top + BAR - 3.0,
            "end",
            "normal",
            &subject.work(),
        ));
        bars.push_str(&format!(
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>\n",
            share * scale,
            BAR - 2.0,
            color(&subject),
        ));
        let label = format!("{:.0} %  {:.3} ms", 100.0 * share, row.median());
        bars.push_str(&text(
            LEFT + share * scale + 5.0,
            top + BAR - 3.0,
            "start",
            "normal",
            &label,
        ));
        top += BAR;
    }
    let (bottom, right) = (top + 12.0, LEFT + WIDTH + 110.0);
    // Each tenth of the copy's rate; the copy itself in black.
    let grid: String = (1..=(widest * 10.0) as u32)
        .map(|tenth| {
            let x = LEFT + f64::from(tenth) / 10.0 * scale;
            let stroke = if tenth == 10 { "#000" } else { "#ddd" };
            format!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"66\" y2=\"{top}\" stroke=\"{stroke}\"/>\n"
            )
        })
        .collect();
    let mut titles = text(
        10.0,
        18.0,
        "start",
        "bold",
        "Bytes that must move, at which share of the fastest copy's rate (black line)",
    );
    for (line, y) in head.lines().zip([34.0, 48.0]) {
        titles.push_str(&text(10.0, y, "start", "normal", line));
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{right}\" height=\"{bottom}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{titles}{grid}{bars}</svg>\n"
    )
}

fn text(x: f64, y: f64, anchor: &str, weight: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{text}</text>\n"
    )
}

/// A color for each kind of pass, told apart without red and green.
fn color(subject: &Subject) -> &'static str {
    let has_epilogue = subject.line.epilogue() != Default::default();
    match subject.line.kind() {
        _ if subject.then_relu => "#cc79a7",
        Kind::Forward if has_epilogue => "#009e73",
        Kind::Forward => "#0072b2",
        Kind::Eval => "#56b4e9",
        Kind::Backward => "#d55e00",
        Kind::FrozenBackward => "#e69f00",
        Kind::Piece => "#999999",
    }
}
