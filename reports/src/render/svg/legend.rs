//! What tells the curves of a figure apart, in a row.

use super::canvas::{Canvas, dash};
use super::text;
use crate::figure::{Shape, Style};

/// Width of a swatch.
pub const SWATCH: f64 = 34.0;

/// A piece of a curve around the height `y`.
pub fn swatch(canvas: &mut Canvas, x: f64, y: f64, style: Style, shape: Shape) {
    canvas.coloured(style, |canvas| {
        if shape != Shape::Points {
            let class = if style.is_control() { "line thin" } else { "line" };
            canvas.path(class, &dash(style), &[(x, y), (x + SWATCH, y)], false);
        }
        if matches!(shape, Shape::Points | Shape::MarkedLine) {
            canvas.marker("marker", style.marker(), (x + SWATCH / 2.0, y), None);
        }
    });
}

/// All entries below `top`, in as many rows as they need. Returns where the rows end.
pub fn draw(canvas: &mut Canvas, top: f64, width: f64, entries: &[(&str, Style, Shape)]) -> f64 {
    let (mut x, mut y) = (0.0, top + 6.0);
    for (label, style, shape) in entries {
        let wide = SWATCH + 6.0 + text::width(label, 12.0);
        if x > 0.0 && x + wide > width {
            (x, y) = (0.0, y + 18.0);
        }
        swatch(canvas, x, y, *style, *shape);
        canvas.text(x + SWATCH + 6.0, y + 4.0, "", label);
        x += wide + 20.0;
    }
    y + 18.0
}
