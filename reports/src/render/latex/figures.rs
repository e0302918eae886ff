//! A figure: each panel is an axis of pgfplots, with the ticks and texts of the model.

use std::fmt::Write as _;

use super::escape::text;
use crate::figure::axis::{Axis, Spacing};
use crate::figure::style::Marker;
use crate::figure::{Mark, MarkKind, Panel, PanelSize, Plot, PlotSeries, Point, Shape, Style};

/// The colours of compared cells, legible in print; those of the web pages.
const COLOURS: [&str; Style::COLOURS] = ["0B5CAD", "BF4600", "1A7F4B", "7D3FA8", "846400", "B0307A"];
/// That of controls.
const GREY: &str = "6E7781";

/// As a float with caption and label.
pub fn figure(plot: &Plot, label: &str) -> String {
    let mut out = String::from("\\begin{figure}[!htbp]\n\\centering\n");
    for (n, colour) in COLOURS.iter().enumerate() {
        let _ = writeln!(out, "\\definecolor{{{}}}{{HTML}}{{{colour}}}", colour_name(Some(n)));
    }
    let _ = writeln!(out, "\\definecolor{{{}}}{{HTML}}{{{GREY}}}", colour_name(None));
    for panel in &plot.panels {
        out += &self::panel(panel, plot.size);
    }
    let legend = plot.legend();
    if !legend.is_empty() {
        out.push_str("\n\\smallskip{\\footnotesize ");
        let entries = legend.iter().map(|(label, style, shape)| {
            let sample = options(*style, *shape);
            format!(
                "\\tikz[baseline=-0.6ex]{{\\draw[{sample}] plot coordinates {{(0,0) (7mm,0)}};}}~{}",
                text(label)
            )
        });
        out += &entries.collect::<Vec<_>>().join("\\quad\n");
        out.push_str("\\par}\n");
    }
    let _ = writeln!(
        out,
        "\\caption{{{}. {}}}\\label{{{label}}}\n\\end{{figure}}",
        text(&plot.title),
        text(&plot.caption)
    );
    if plot.panels.len() > 6 {
        // Such a figure fills a page.
        out.push_str("\\clearpage\n");
    }
    out
}

fn colour_name(colour: Option<usize>) -> String {
    // Names of colours are letters and digits.
    colour.map_or_else(|| "migbenchgrey".to_owned(), |n| format!("migbench{n}"))
}

/// Colour, dash and marker of a style.
fn options(style: Style, shape: Shape) -> String {
    let colour = colour_name(style.colour());
    let dash: String = style
        .dash()
        .iter()
        .enumerate()
        .map(|(n, length)| {
            format!("{} {}pt ", if n % 2 == 0 { "on" } else { "off" }, f64::from(*length) * 0.6)
        })
        .collect();
    let dash = if dash.is_empty() { String::new() } else { format!(",dash pattern={{{}}}", dash.trim_end()) };
    let width = if style.is_control() { "0.5pt" } else { "0.8pt" };
    let mark = match shape {
        Shape::Line | Shape::Steps | Shape::Bars => String::new(),
        Shape::MarkedLine | Shape::Points => {
            let mark = match style.marker() {
                Marker::Circle => "*",
                Marker::Square => "square*",
                Marker::Triangle => "triangle*",
                Marker::Diamond => "diamond*",
                Marker::Down => "triangle*,mark options={rotate=180,solid}",
                Marker::Plus => "+",
                Marker::Cross => "x",
            };
            format!(",mark={mark},mark size=1.4pt")
        }
    };
    let only = if shape == Shape::Points { ",only marks" } else { "" };
    format!("{colour},line width={width}{dash}{mark}{only}")
}

fn panel(panel: &Panel, size: PanelSize) -> String {
    let (width, height, text_width) = match size {
        PanelSize::Wide => ("0.98\\linewidth", "5.2cm", "0.7\\linewidth"),
        PanelSize::Half => ("0.49\\linewidth", "5cm", "0.3\\linewidth"),
        PanelSize::Third => ("0.325\\linewidth", "3.6cm", "0.16\\linewidth"),
    };
    let mut out =
        format!("\\begin{{tikzpicture}}\n\\begin{{axis}}[width={width},height={height},font=\\scriptsize,\n");
    out.push_str("  title style={font=\\scriptsize\\bfseries,align=center,yshift=-1.5ex},\n");
    out.push_str("  tick label style={font=\\tiny},\n");
    out.push_str("  tick align=outside,tick pos=left,grid=major,grid style={black!10},xminorticks=false,yminorticks=false,\n");
    let heading =
        [&panel.title, &panel.subtitle].into_iter().filter(|line| !line.is_empty()).map(|line| text(line));
    let heading: Vec<_> = heading.collect();
    if !heading.is_empty() {
        let _ = writeln!(out, "  title={{{}}},", heading.join("\\\\\\mdseries "));
    }
    out += &axis('x', &panel.x);
    out += &axis('y', &panel.y);
    out.push_str("]\n");
    for mark in panel.marks.iter().filter(|mark| mark.until.is_some()) {
        out += &self::mark(mark, panel);
    }
    for one in &panel.series {
        out += &series(one, panel);
    }
    for mark in panel.marks.iter().filter(|mark| mark.until.is_none()) {
        out += &self::mark(mark, panel);
    }
    if panel.series.is_empty() {
        // An axis without a plot has no range of its own to stand on.
        let _ = writeln!(
            out,
            "\\addplot[draw=none,forget plot] coordinates {{({},{})}};",
            panel.x.low, panel.y.low
        );
    }
    if let Some(note) = &panel.note {
        let _ = writeln!(
            out,
            "\\node[font=\\scriptsize\\itshape,align=center,text width={text_width}] at (rel axis cs:0.5,0.5) {{{}}};",
            text(note)
        );
    }
    out.push_str("\\end{axis}\n\\end{tikzpicture}\n");
    out
}

fn axis(name: char, axis: &Axis) -> String {
    let mode = match axis.spacing {
        Spacing::Linear => "normal",
        Spacing::Log => "log",
    };
    let places: Vec<_> = axis.ticks.iter().map(|(at, _)| at.to_string()).collect();
    let texts: Vec<_> = axis.ticks.iter().map(|(_, label)| format!("{{{}}}", text(label))).collect();
    let ticks = if places.is_empty() { "\\empty".to_owned() } else { format!("{{{}}}", places.join(",")) };
    let label = if axis.caption().is_empty() {
        String::new()
    } else {
        format!("{name}label={{{}}},", text(&axis.caption()))
    };
    format!(
        "  {name}mode={mode},{name}min={},{name}max={},{label}\n  {name}tick={ticks},{name}ticklabels={{{}}},\n",
        axis.low,
        axis.high,
        texts.join(",")
    )
}

fn series(series: &PlotSeries, panel: &Panel) -> String {
    let mut out = String::new();
    let options = options(series.style, series.shape);
    let colour = colour_name(series.style.colour());
    if series.shape == Shape::Bars {
        for point in &series.points {
            let fill = if point.hollow { "fill=white".to_owned() } else { format!("fill={colour}!45") };
            let from = panel.x.low.max(0.0);
            let _ = writeln!(
                out,
                "\\draw[{colour},{fill}] (axis cs:{from},{}) rectangle (axis cs:{},{});",
                point.y - 0.3,
                point.x,
                point.y + 0.3
            );
        }
    } else if !series.points.is_empty() {
        out += &band(series, &colour);
        let steps = if series.shape == Shape::Steps { ",const plot" } else { "" };
        let coordinates: Vec<_> =
            inside(&series.points, panel).map(|point| format!("({},{})", point.x, point.y)).collect();
        let _ = writeln!(
            out,
            "\\addplot[{options}{steps},forget plot] coordinates {{{}}};",
            coordinates.join(" ")
        );
        for point in series.points.iter().filter(|point| point.hollow) {
            let _ = writeln!(
                out,
                "\\addplot[{options},only marks,mark options={{fill=white,solid}},forget plot] coordinates {{({},{})}};",
                point.x, point.y
            );
        }
    }
    for point in &series.points {
        if series.shape != Shape::Steps {
            out += &whiskers(point);
        }
        if let (Shape::Bars, Some(value)) = (series.shape, &point.text) {
            let _ = writeln!(
                out,
                "\\node[anchor=south east,font=\\tiny,inner sep=1pt] at ({{rel axis cs:1,0}}|-{{axis cs:{},{}}}) {{{}}};",
                panel.x.low,
                point.y + 0.28,
                text(value)
            );
        }
    }
    out
}

/// From the lowest to the highest within each step, pale under the curve.
fn band(series: &PlotSeries, colour: &str) -> String {
    let mut out = String::new();
    for pair in series.points.windows(2).filter(|_| series.shape == Shape::Steps) {
        if let ([from, until], Some((low, high))) = (pair, pair[0].y_range) {
            let _ = writeln!(
                out,
                "\\fill[{colour}!25] (axis cs:{},{low}) rectangle (axis cs:{},{high});",
                from.x, until.x
            );
        }
    }
    out
}

/// The points that a logarithmic axis can show.
fn inside<'a>(points: &'a [Point], panel: &'a Panel) -> impl Iterator<Item = &'a Point> {
    let shows = |axis: &Axis, value: f64| axis.spacing == Spacing::Linear || value > 0.0;
    points.iter().filter(move |point| shows(&panel.x, point.x) && shows(&panel.y, point.y))
}

fn whiskers(point: &Point) -> String {
    let mut out = String::new();
    let mut whisker = |from: (f64, f64), to: (f64, f64)| {
        let _ = writeln!(
            out,
            "\\draw[black,line width=0.5pt,{{Bar[width=3pt]}}-{{Bar[width=3pt]}}] (axis cs:{},{}) -- (axis cs:{},{});",
            from.0, from.1, to.0, to.1
        );
    };
    if let Some((low, high)) = point.x_range {
        whisker((low, point.y), (high, point.y));
    }
    if let Some((low, high)) = point.y_range {
        whisker((point.x, low), (point.x, high));
    }
    out
}

fn mark(mark: &Mark, panel: &Panel) -> String {
    let y = panel.y.low;
    let bottom = format!("{{axis cs:{},{y}}}|-{{rel axis cs:0,0}}", mark.at);
    if let Some(until) = mark.until {
        return format!(
            "\\fill[black!12] ({bottom}) rectangle ({{axis cs:{until},{y}}}|-{{rel axis cs:0,1}});\n{}",
            label(f64::midpoint(mark.at, until), y, &mark.label)
        );
    }
    let line = match mark.kind {
        MarkKind::Round => "black!35,line width=0.3pt,densely dashed",
        MarkKind::Reference => "black!60,line width=0.5pt",
        _ => "black!60,line width=0.4pt",
    };
    format!(
        "\\draw[{line}] ({bottom}) -- ({{axis cs:{},{y}}}|-{{rel axis cs:0,1}});\n{}",
        mark.at,
        label(mark.at, y, &mark.label)
    )
}

fn label(at: f64, y: f64, words: &str) -> String {
    if words.is_empty() {
        return String::new();
    }
    format!(
        "\\node[font=\\tiny,anchor=north west,inner sep=1pt,rotate=-90] at ({{axis cs:{at},{y}}}|-{{rel axis cs:0,1}}) {{{}}};\n",
        text(words)
    )
}
