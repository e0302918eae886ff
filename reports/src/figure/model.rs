//! What a figure is, whoever draws it: panels with axes, curves and marks. All numbers are in the units of their axes and all
//! texts are ready, so that a renderer places things and computes nothing.

use migbench_scenarios::words;

use super::axis::Axis;
use super::style::Style;

/// A figure: panels that belong together, with one legend.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What is shown.
    pub kind: PlotKind,
    /// Unique in a report; a file's name and an anchor, of small letters, digits and hyphens.
    pub id: String,
    /// The heading.
    pub title: String,
    /// What a reader must know to read it: which runs, what the spread is. Whole sentences.
    pub caption: String,
    /// How much room a panel wants.
    pub size: PanelSize,
    /// In reading order. Never empty.
    pub panels: Vec<Panel>,
}

impl Plot {
    /// Every label with its style, in order of first appearance: the legend. Empty where categories on an axis name all.
    #[must_use]
    pub fn legend(&self) -> Vec<(&str, Style, Shape)> {
        let mut found: Vec<(&str, Style, Shape)> = Vec::new();
        for series in self.panels.iter().flat_map(|panel| &panel.series) {
            let known =
                found.iter().any(|(label, style, _)| *label == series.label && *style == series.style);
            if series.shape != Shape::Bars && !known {
                found.push((&series.label, series.style, series.shape));
            }
        }
        // Controls are drawn first, so that they lie under the engines, and are named last.
        found.sort_by_key(|(_, style, _)| style.is_control());
        found
    }
}

words! {
    /// The figures that reports have.
    PlotKind {
        /// Differences to the baseline over all comparisons of a suite.
        Differences = "differences",
        /// Cost over an axis of numbers.
        Scaling = "scaling",
        /// What a shorter pause costs.
        Frontier = "frontier",
        /// The metrics of the comparison table with their spread.
        Bars = "bars",
        /// All other metrics with theirs.
        FurtherBars = "further-bars",
        /// Throughput around the migration.
        Timeline = "timeline",
        /// Throughput around the pause, step by step.
        Switchover = "switchover",
        /// Percentile curves.
        Latency = "latency",
        /// What each round sent and found.
        Rounds = "rounds",
    }
}

/// How much room a panel wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelSize {
    /// The width of the page.
    Wide,
    /// Half of it.
    Half,
    /// A third of it.
    Third,
}

/// One pair of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Its heading; may be empty in a figure of one panel.
    pub title: String,
    /// A line below it: numbers of samples and the like; may be empty.
    pub subtitle: String,
    /// Horizontal.
    pub x: Axis,
    /// Vertical.
    pub y: Axis,
    /// In the order in which they are drawn: what comes first lies under the rest.
    pub series: Vec<PlotSeries>,
    /// Events and ranges on the horizontal axis.
    pub marks: Vec<Mark>,
    /// In place of curves, why there are none; or what the curves leave out.
    pub note: Option<String>,
}

/// A curve, or a row of bars or points.
#[derive(Debug, Clone, PartialEq)]
pub struct PlotSeries {
    /// As the legend calls it.
    pub label: String,
    /// Which colour, dash and marker.
    pub style: Style,
    /// How it is drawn.
    pub shape: Shape,
    /// With rising `x`, but for bars and points.
    pub points: Vec<Point>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A line through the points.
    Line,
    /// A line through the points, with a marker on each.
    MarkedLine,
    /// A value that holds from its `x` to the next one's; the last point only ends it.
    Steps,
    /// Markers alone.
    Points,
    /// Horizontal bars from the low end of the axis to `x`, at the height `y`.
    Bars,
}

/// A point of a series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    /// On the horizontal axis.
    pub x: f64,
    /// On the vertical axis.
    pub y: f64,
    /// A spread on the horizontal axis.
    pub x_range: Option<(f64, f64)>,
    /// A spread on the vertical axis.
    pub y_range: Option<(f64, f64)>,
    /// The value with its unit, as the tables print it.
    pub text: Option<String>,
    /// Of runs that are no samples, such as capped ones: drawn hollow.
    pub hollow: bool,
}

impl Point {
    /// A bare point.
    #[must_use]
    pub fn at(x: f64, y: f64) -> Self {
        Self { x, y, ..Self::default() }
    }
}

/// Something that happened, or held, on the horizontal axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Where.
    pub at: f64,
    /// To where, for a range.
    pub until: Option<f64>,
    /// What.
    pub kind: MarkKind,
    /// As short as can be: it stands in the panel.
    pub label: String,
}

/// What a mark stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    /// The migration starts.
    Start,
    /// A round starts.
    Round,
    /// The guest is paused, from `at` to `until`.
    Pause,
    /// The guest goes on.
    Resume,
    /// The source knows that the guest runs at the destination; controls end.
    End,
    /// A value to compare with, such as no difference.
    Reference,
    /// Where two curves cross, somewhere from `at` to `until`.
    Crossover,
}
