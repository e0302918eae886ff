//! Figures as SVG: inline in a page, a panel at a time, or as a file of their own.
//!
//! Written here and not by a plotting library: the page needs colours that follow light, dark and print by style sheet, dashes
//! and markers from the model, a text for readers of the screen, and files small enough to hold a hundred of them in one page.
//! Colours are classes whose `color` the marks take as `currentColor`, which also programs understand that know no variables.

mod canvas;
mod legend;
mod panel;
mod text;

use std::fmt::Write as _;

use canvas::{Canvas, number};

use crate::figure::{PanelSize, Plot, Shape};
use crate::report::Report;
use crate::stats::real;

/// The style sheet of all figures; a page includes it once.
pub const STYLE: &str = include_str!("figure.css");

/// The width of a page's figures.
const PAGE: f64 = 960.0;
/// Between panels.
const GAP: f64 = 18.0;

/// How wide a panel is drawn.
#[must_use]
pub const fn width(size: PanelSize) -> f64 {
    match size {
        PanelSize::Wide => PAGE,
        PanelSize::Half => 470.0,
        PanelSize::Third => 308.0,
    }
}

/// Each panel of a figure as an element of its own, for a page that holds [`STYLE`]. `id` is unique in the page.
#[must_use]
pub fn panels(plot: &Plot, id: &str) -> Vec<String> {
    let width = width(plot.size);
    let draw = |(n, panel): (usize, &crate::figure::Panel)| {
        let mut canvas = Canvas::new();
        let height = panel::draw(&mut canvas, panel, width);
        let label = match panel.title.as_str() {
            "" => plot.title.clone(),
            title => format!("{}: {title}", plot.title),
        };
        format!(
            "<svg class=\"figure\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
             role=\"img\" aria-label=\"{}\" aria-describedby=\"{id}-{n}\"><desc id=\"{id}-{n}\">{}</desc>{}</svg>",
            text::escape(&label),
            text::escape(&panel::describe(panel)),
            canvas.finish(),
            w = number(width),
            h = number(height)
        )
    };
    plot.panels.iter().enumerate().map(draw).collect()
}

/// The legend's entries for a page: a swatch and its text each.
#[must_use]
pub fn legend(plot: &Plot) -> Vec<(String, String)> {
    let entry = |(label, style, shape): (&str, crate::figure::Style, Shape)| {
        let mut canvas = Canvas::new();
        legend::swatch(&mut canvas, 0.0, 7.0, style, shape);
        let swatch = format!(
            "<svg class=\"figure\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} 14\" width=\"{w}\" height=\"14\" \
             aria-hidden=\"true\">{}</svg>",
            canvas.finish(),
            w = number(legend::SWATCH)
        );
        (swatch, label.to_owned())
    };
    plot.legend().into_iter().map(entry).collect()
}

/// The whole figure as a file: title, legend, all panels, caption, and its own style.
#[must_use]
pub fn file(plot: &Plot) -> String {
    let each = width(plot.size);
    let columns = match plot.size {
        PanelSize::Wide => 1,
        PanelSize::Half => 2,
        PanelSize::Third => 3,
    };
    let columns = columns.min(plot.panels.len().max(1));
    let total = columns_width(columns, each).max(if plot.panels.len() == 1 { each } else { 0.0 });
    let mut canvas = Canvas::new();
    let mut top = 14.0;
    canvas.text(0.0, top, "heading", &plot.title);
    top += 14.0;
    let entries = plot.legend();
    if !entries.is_empty() {
        top = legend::draw(&mut canvas, top, total, &entries);
    }
    for row in plot.panels.chunks(columns) {
        let mut tallest: f64 = 0.0;
        for (n, panel) in row.iter().enumerate() {
            let mut inner = Canvas::new();
            let height = panel::draw(&mut inner, panel, each);
            canvas.group(real(n) * (each + GAP), top, &inner.finish());
            tallest = tallest.max(height);
        }
        top += tallest + GAP;
    }
    for line in text::wrap(&plot.caption, total, 11.0) {
        top += 14.0;
        canvas.text(0.0, top, "soft small", &line);
    }
    let (width, height) = (total + 24.0, top + 18.0);
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg class=\"figure\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-12 -8 {w} {h}\" width=\"{w}\" height=\"{h}\" \
         role=\"img\" aria-labelledby=\"title description\">\n<title id=\"title\">{}</title>\n<desc id=\"description\">{}</desc>\n\
         <style>\n{STYLE}</style>\n<rect class=\"paper\" x=\"-12\" y=\"-8\" width=\"{w}\" height=\"{h}\"/>\n{}\n</svg>\n",
        text::escape(&plot.title),
        text::escape(&plot.panels.iter().map(panel::describe).collect::<Vec<_>>().join(" ")),
        canvas.finish(),
        w = number(width),
        h = number(height)
    );
    out
}

/// Every figure of these reports with the name of its file; where there are several reports, it begins with the number of its own.
#[must_use]
pub fn files(reports: &[Report]) -> Vec<(String, String)> {
    let several = reports.len() > 1;
    let named = |n: usize, plot: &Plot| {
        let number = if several { format!("{}-", n + 1) } else { String::new() };
        (format!("{number}{}.svg", plot.id), file(plot))
    };
    reports
        .iter()
        .enumerate()
        .flat_map(|(n, report)| report.figures.all().map(move |plot| named(n, plot)))
        .collect()
}

fn columns_width(columns: usize, each: f64) -> f64 {
    real(columns) * each + (real(columns) - 1.0).max(0.0) * GAP
}

#[cfg(test)]
mod tests;
