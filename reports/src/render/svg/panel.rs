//! One panel: heading, marks, curves, axes.

use super::canvas::{Canvas, dash};
use super::text;
use crate::figure::{Mark, MarkKind, Panel, PlotSeries, Point, Shape};
use crate::stats::real;

/// Height of a line of small text.
const LINE: f64 = 14.0;
/// Rows for the labels of marks.
const MARK_ROWS: usize = 3;
/// Most of a panel's width that names on the vertical axis may take.
const NAMES: f64 = 0.42;

/// Where the plot area lies.
struct Area {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Area {
    fn x(&self, panel: &Panel, value: f64) -> f64 {
        self.left + panel.x.place(value) * self.width
    }

    fn y(&self, panel: &Panel, value: f64) -> f64 {
        self.top + (1.0 - panel.y.place(value)) * self.height
    }

    fn right(&self) -> f64 {
        self.left + self.width
    }

    fn bottom(&self) -> f64 {
        self.top + self.height
    }
}

/// Whether the vertical axis names things.
fn named(panel: &Panel) -> bool {
    panel.series.iter().any(|series| matches!(series.shape, Shape::Bars | Shape::Points))
}

/// Draws it from the top left corner on, and returns its height.
pub fn draw(canvas: &mut Canvas, panel: &Panel, width: f64) -> f64 {
    let mut top = 0.0;
    if !panel.title.is_empty() {
        top += 15.0;
        canvas.text(0.0, top, "title", &text::shorten(&panel.title, width, 13.5));
        top += 4.0;
    }
    for line in text::wrap(&panel.subtitle, width, 11.0) {
        top += LINE;
        canvas.text(0.0, top, "soft small", &line);
    }
    let caption = panel.y.caption();
    if !caption.is_empty() {
        top += LINE;
        canvas.text(0.0, top, "soft small", &text::shorten(&caption, width, 11.0));
    }
    top += 10.0;
    let names = panel.y.ticks.iter().map(|(_, name)| text::width(name, 12.0)).fold(0.0, f64::max);
    let left = (names + 8.0).min(width * NAMES).max(20.0);
    let labels = panel.series.iter().filter(|series| matches!(series.shape, Shape::Bars));
    let beside = labels.flat_map(|series| &series.points).filter_map(|point| point.text.as_ref());
    let right = beside.map(|text| text::width(text, 12.0) + 8.0).fold(10.0, f64::max);
    let rows = place_labels(panel, left, width - left - right);
    let mark_rows = rows.iter().flatten().map(|label| label.row + 1).max().unwrap_or(0);
    top += real(mark_rows) * LINE;
    let area = Area { left, top, width: width - left - right, height: height(panel, width) };
    axes(canvas, panel, &area);
    marks(canvas, panel, &area, &rows);
    for series in &panel.series {
        self::series(canvas, panel, &area, series);
    }
    let mut bottom = area.bottom() + 17.0;
    let caption = panel.x.caption();
    if !caption.is_empty() {
        bottom += LINE;
        canvas.text(area.left + area.width / 2.0, bottom, "soft small middle", &caption);
    }
    if let Some(note) = panel.note.as_ref().filter(|_| panel.series.is_empty()) {
        // In place of the curves.
        let mut y = area.top + area.height / 3.0;
        for line in text::wrap(note, area.width - 12.0, 11.0) {
            canvas.text(area.left + area.width / 2.0, y, "tag small middle", &line);
            y += LINE;
        }
    } else if let Some(note) = &panel.note {
        bottom += 4.0;
        for line in text::wrap(note, width, 11.0) {
            bottom += LINE;
            canvas.text(0.0, bottom, "small", &line);
        }
    }
    bottom + 6.0
}

fn height(panel: &Panel, width: f64) -> f64 {
    if named(panel) {
        let mut rows = panel.y.ticks.len();
        if panel.series.iter().any(|series| series.shape == Shape::Points) {
            rows *= panel.series.len().max(1);
        }
        return (real(rows) * 22.0).max(28.0);
    }
    match width {
        wide if wide > 900.0 && panel.title.is_empty() => 240.0,
        wide if wide > 900.0 => 150.0,
        wide if wide > 400.0 => 230.0,
        _ => 180.0,
    }
}

fn axes(canvas: &mut Canvas, panel: &Panel, area: &Area) {
    let names = named(panel);
    let mut free = f64::NEG_INFINITY;
    for (value, label) in &panel.x.ticks {
        let x = area.x(panel, *value);
        canvas.line("grid", (x, area.top), (x, area.bottom()));
        let half = text::width(label, 12.0) / 2.0;
        // At the ends a label may reach over the axis, but not over the neighbours or the panel.
        if x - half >= free {
            canvas.text(x, area.bottom() + 16.0, "middle", label);
            free = x + half + 8.0;
        }
    }
    let mut free = f64::INFINITY;
    for (value, label) in &panel.y.ticks {
        let y = area.y(panel, *value);
        if !names {
            canvas.line("grid", (area.left, y), (area.right(), y));
        }
        if names || y + 6.0 <= free {
            canvas.text(area.left - 6.0, y + 4.0, "end", &text::shorten(label, area.left - 6.0, 12.0));
            free = y - 6.0;
        }
    }
    if names {
        canvas.line("frame", (area.left, area.top), (area.left, area.bottom()));
    } else {
        canvas.line("frame", (area.left, area.bottom()), (area.right(), area.bottom()));
    }
}

/// A label of a mark: its row from below, the class that aligns it, and where it stands.
#[derive(Clone, Copy)]
struct Label {
    row: usize,
    class: &'static str,
    x: f64,
}

/// For each mark its label, where there is room; the pause first, since it is what readers look for, the numbers of rounds last.
fn place_labels(panel: &Panel, left: f64, width: f64) -> Vec<Option<Label>> {
    let rank = |mark: &Mark| match mark.kind {
        MarkKind::Pause | MarkKind::Crossover | MarkKind::Reference => 0,
        MarkKind::End => 1,
        MarkKind::Start => 2,
        MarkKind::Resume => 3,
        MarkKind::Round => 4,
    };
    let mut order: Vec<usize> = (0..panel.marks.len()).collect();
    order.sort_by_key(|n| rank(&panel.marks[*n]));
    let mut placed = vec![None; panel.marks.len()];
    let mut taken: Vec<(usize, f64, f64)> = Vec::new();
    for n in order {
        let mark = &panel.marks[n];
        if mark.label.is_empty() {
            continue;
        }
        let wide = text::width(&mark.label, 11.0) + 4.0;
        let at = |value: f64| left + panel.x.place(value) * width;
        let (from, to) = (at(mark.at), at(mark.until.unwrap_or(mark.at)));
        // Before what it begins, behind what it ends, so that the lines of neighbours don't cross it.
        let start = match mark.kind {
            MarkKind::Pause if to - from < wide => to - wide,
            MarkKind::Start => from - wide,
            MarkKind::Resume | MarkKind::End => from,
            _ => f64::midpoint(from, to) - wide / 2.0,
        };
        let start = start.min(left + width - wide).max(left.min(left + width - wide));
        let free = |row: &usize| {
            !taken.iter().any(|(other, low, high)| other == row && start < *high && start + wide > *low)
        };
        if let Some(row) = (0..MARK_ROWS).find(free) {
            taken.push((row, start, start + wide));
            placed[n] = Some(Label { row, class: "tag small", x: start + 2.0 });
        }
    }
    placed
}

fn marks(canvas: &mut Canvas, panel: &Panel, area: &Area, labels: &[Option<Label>]) {
    let within = |value: f64| (panel.x.low..=panel.x.high).contains(&value);
    let shown = || {
        panel.marks.iter().zip(labels).filter(|(mark, _)| within(mark.at) || mark.until.is_some_and(within))
    };
    for (mark, label) in shown() {
        let (x, until) = (area.x(panel, mark.at), area.x(panel, mark.until.unwrap_or(mark.at)));
        // A label stands at the head of its line.
        let head = label.map_or(area.top, |label| area.top - real(label.row) * LINE - 2.0);
        match mark.kind {
            MarkKind::Pause | MarkKind::Crossover => {
                // Never too thin to be seen.
                canvas.rect("span", (x, area.top), ((until - x).max(1.5), area.height), Some(&mark.label));
                canvas.line("event", (x, area.top), (x, area.bottom()));
            }
            MarkKind::Round => canvas.line("event-round", (x, head), (x, area.bottom())),
            _ => canvas.line("event", (x, head), (x, area.bottom())),
        }
    }
    // Over all lines: the texts have an edge in the colour of the paper.
    for (mark, label) in shown() {
        if let Some(label) = label {
            canvas.text(label.x, area.top - real(label.row) * LINE - 4.0, label.class, &mark.label);
        }
    }
}

fn series(canvas: &mut Canvas, panel: &Panel, area: &Area, series: &PlotSeries) {
    let place = |point: &Point| (area.x(panel, point.x), area.y(panel, point.y));
    let class = if series.style.is_control() { "line thin" } else { "line" };
    canvas.coloured(series.style, |canvas| match series.shape {
        Shape::Line | Shape::MarkedLine => {
            let places: Vec<_> = series.points.iter().map(place).collect();
            for point in &series.points {
                if let Some((low, high)) = point.y_range {
                    let x = area.x(panel, point.x);
                    canvas.whisker("whisker-own", (x, area.y(panel, low)), (x, area.y(panel, high)));
                }
            }
            canvas.path(class, &dash(series.style), &places, false);
            if series.shape == Shape::MarkedLine {
                for point in &series.points {
                    marker(canvas, series, point, place(point));
                }
            }
        }
        Shape::Steps => {
            let band = |ends: fn((f64, f64)) -> f64| {
                let height = move |point: &Point| ends(point.y_range.unwrap_or((point.y, point.y)));
                staircase(&series.points, move |point| (area.x(panel, point.x), area.y(panel, height(point))))
            };
            if series.points.iter().any(|point| point.y_range.is_some()) {
                let mut outline = band(|(_, high)| high);
                outline.extend(band(|(low, _)| low).into_iter().rev());
                canvas.path("band", "", &outline, true);
            }
            canvas.path(class, &dash(series.style), &staircase(&series.points, place), false);
        }
        Shape::Points => {
            for point in &series.points {
                let (x, y) = place(point);
                let mut reach = x;
                if let Some((low, high)) = point.x_range {
                    reach = area.x(panel, high);
                    canvas.whisker("whisker-own", (area.x(panel, low), y), (reach, y));
                }
                marker(canvas, series, point, (x, y));
                if let Some(text) = &point.text {
                    // Beside the marker, on the side where there is room.
                    let room = area.right() - reach > text::width(text, 11.0) + 10.0;
                    let low = point.x_range.map_or(x, |(low, _)| area.x(panel, low));
                    let (x, class) =
                        if room { (reach + 8.0, "tag small") } else { (low - 8.0, "tag small end") };
                    canvas.text(x, y + 4.0, class, text);
                }
            }
        }
        Shape::Bars => {
            for point in &series.points {
                bar(canvas, panel, area, series, point);
            }
        }
    });
}

fn marker(canvas: &mut Canvas, series: &PlotSeries, point: &Point, place: (f64, f64)) {
    let class = if point.hollow { "hollow" } else { "marker" };
    let title = point.text.as_ref().map(|text| format!("{}: {text}", series.label));
    canvas.marker(class, series.style.marker(), place, title.as_deref());
}

/// Each height holds up to the next place.
fn staircase(points: &[Point], place: impl Fn(&Point) -> (f64, f64)) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = Vec::with_capacity(points.len() * 2);
    for (x, y) in points.iter().map(place) {
        if let Some((_, level)) = corners.last() {
            corners.push((x, *level));
        }
        corners.push((x, y));
    }
    corners
}

fn bar(canvas: &mut Canvas, panel: &Panel, area: &Area, series: &PlotSeries, point: &Point) {
    // From zero, which is the low end but where values are negative.
    let (zero, x) = (area.x(panel, 0.0), area.x(panel, point.x));
    let y = area.y(panel, point.y);
    let half = 7.0;
    let title = point.text.as_ref().map(|text| format!("{}: {text}", series.label));
    let class = if point.hollow { "hollow dashed" } else { "marker" };
    canvas.rect(class, (zero.min(x), y - half), ((x - zero).abs().max(0.5), half * 2.0), title.as_deref());
    let mut end = zero.max(x);
    if let Some((low, high)) = point.x_range {
        let (from, to) = (area.x(panel, low), area.x(panel, high));
        canvas.whisker("whisker", (from, y), (to, y));
        end = end.max(to);
    }
    if let Some(text) = &point.text {
        // The text is no curve: in the colour of other texts.
        canvas.text(end + 6.0, y + 4.0, "value", text);
    }
}

/// What a panel shows, for those who don't see it.
pub fn describe(panel: &Panel) -> String {
    let mut out = String::new();
    if !panel.title.is_empty() {
        out += &format!("{}. ", panel.title);
    }
    if named(panel) {
        let mut values = Vec::new();
        for series in &panel.series {
            for point in &series.points {
                let row = panel.y.ticks.iter().find(|(place, _)| (place - point.y).abs() < 0.5);
                let name = row.map_or("", |(_, name)| name.as_str());
                let text = point.text.as_deref().unwrap_or_default();
                let who = if series.shape == Shape::Points {
                    format!("{} {name}", series.label)
                } else {
                    name.to_owned()
                };
                values.push(format!("{who}: {text}"));
            }
        }
        out += &values.join("; ");
        out.push('.');
    } else {
        let curves: Vec<_> = panel.series.iter().map(|series| series.label.as_str()).collect();
        let range = |axis: &crate::figure::axis::Axis| {
            let end = |tick: Option<&(f64, String)>| tick.map_or(String::new(), |(_, text)| text.clone());
            let ends = format!("{} to {}", end(axis.ticks.first()), end(axis.ticks.last()));
            format!("{} from {ends}", axis.caption()).trim().to_owned()
        };
        out += &format!("{}, over {}: {}.", range(&panel.y), range(&panel.x), curves.join(", "));
        let marks: Vec<_> =
            panel.marks.iter().filter(|m| m.kind != MarkKind::Round).map(|m| m.label.as_str()).collect();
        if !marks.is_empty() {
            out += &format!(" Marked: {}.", marks.join(", "));
        }
    }
    if let Some(note) = &panel.note {
        out += &format!(" {note}.");
    }
    out
}
