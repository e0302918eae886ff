//! Elements of a drawing, written one after the other. Every place goes through [`number`], every text through
//! [`super::text::escape`].

use std::fmt::Write as _;

use super::text::escape;
use crate::figure::style::{Marker, Style};

/// A tenth of a pixel is enough to see and short to write. What is no number would make the whole drawing vanish, so it
/// becomes 0 (the model's tests see to it that there is none).
#[must_use]
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "0".to_owned();
    }
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The class of a style's colour.
#[must_use]
pub fn colour(style: Style) -> String {
    style.colour().map_or_else(|| "control".to_owned(), |number| format!("c{number}"))
}

/// A dash as an attribute, with a space before it; empty for whole lines.
#[must_use]
pub fn dash(style: Style) -> String {
    let lengths: Vec<_> = style.dash().iter().map(ToString::to_string).collect();
    if lengths.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", lengths.join(" ")) }
}

/// A drawing in the making.
#[derive(Debug, Default)]
pub struct Canvas(String);

impl Canvas {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All elements.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    /// A text whose class says how it is aligned; `y` is its base line.
    pub fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let _ = write!(
            self.0,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>",
            number(x),
            number(y),
            escape(text)
        );
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(number);
        let _ = write!(self.0, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
    }

    /// A rectangle; `title` is shown where a pointer rests on it.
    pub fn rect(&mut self, class: &str, corner: (f64, f64), size: (f64, f64), title: Option<&str>) {
        let [x, y, w, h] = [corner.0, corner.1, size.0.max(0.0), size.1.max(0.0)].map(number);
        let title = title.map(|title| format!("<title>{}</title>", escape(title))).unwrap_or_default();
        let _ = write!(
            self.0,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\">{title}</rect>"
        );
    }

    /// A line through points, or with `closed` the area within.
    pub fn path(&mut self, class: &str, attributes: &str, points: &[(f64, f64)], closed: bool) {
        if points.is_empty() {
            return;
        }
        let mut place = String::new();
        let mut last: Option<(String, String)> = None;
        for (x, y) in points {
            let (x, y) = (number(*x), number(*y));
            match &last {
                None => place = format!("M{x} {y}"),
                Some((before, level)) if *before == x && *level == y => continue,
                Some((_, level)) if *level == y => place += &format!("H{x}"),
                Some((before, _)) if *before == x => place += &format!("V{y}"),
                Some(_) => place += &format!("L{x} {y}"),
            }
            last = Some((x, y));
        }
        let end = if closed { "Z" } else { "" };
        let _ = write!(self.0, "<path class=\"{class}\"{attributes} d=\"{place}{end}\"/>");
    }

    /// A whisker from `from` to `to` with caps across it.
    pub fn whisker(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let across = if (from.0 - to.0).abs() < f64::EPSILON { (3.5, 0.0) } else { (0.0, 3.5) };
        let mut place = format!("M{} {}L{} {}", number(from.0), number(from.1), number(to.0), number(to.1));
        for (x, y) in [from, to] {
            let [a, b, c, d] = [x - across.0, y - across.1, x + across.0, y + across.1].map(number);
            place += &format!("M{a} {b}L{c} {d}");
        }
        let _ = write!(self.0, "<path class=\"{class}\" d=\"{place}\"/>");
    }

    /// A marker around a point.
    pub fn marker(&mut self, class: &str, marker: Marker, (x, y): (f64, f64), title: Option<&str>) {
        let r = 3.6;
        let polygon = |points: &[(f64, f64)]| {
            let places: Vec<_> = points
                .iter()
                .map(|(dx, dy)| format!("{} {}", number(x + dx * r), number(y + dy * r)))
                .collect();
            format!("M{}Z", places.join("L"))
        };
        let strokes = |lines: [[f64; 4]; 2]| {
            lines.map(|[a, b, c, d]| {
                let [a, b, c, d] = [x + a * r, y + b * r, x + c * r, y + d * r].map(number);
                format!("M{a} {b}L{c} {d}")
            })
        };
        let place = match marker {
            Marker::Circle => {
                let [left, right, y, r] = [x - r, x + r, y, r].map(number);
                format!("M{left} {y}A{r} {r} 0 1 0 {right} {y}A{r} {r} 0 1 0 {left} {y}Z")
            }
            Marker::Square => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Marker::Triangle => polygon(&[(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)]),
            Marker::Down => polygon(&[(0.0, 1.15), (1.1, -0.85), (-1.1, -0.85)]),
            Marker::Diamond => polygon(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
            Marker::Plus => strokes([[-1.1, 0.0, 1.1, 0.0], [0.0, -1.1, 0.0, 1.1]]).concat(),
            Marker::Cross => strokes([[-0.9, -0.9, 0.9, 0.9], [-0.9, 0.9, 0.9, -0.9]]).concat(),
        };
        let title = title.map(|title| format!("<title>{}</title>", escape(title))).unwrap_or_default();
        let _ = write!(self.0, "<path class=\"{class}\" d=\"{place}\">{title}</path>");
    }

    /// Elements drawn elsewhere, moved.
    pub fn group(&mut self, x: f64, y: f64, elements: &str) {
        let _ = write!(self.0, "<g transform=\"translate({} {})\">{elements}</g>", number(x), number(y));
    }

    /// Elements of one colour.
    pub fn coloured(&mut self, style: Style, draw: impl FnOnce(&mut Self)) {
        let _ = write!(self.0, "<g class=\"{}\">", colour(style));
        draw(self);
        self.0 += "</g>";
    }
}
