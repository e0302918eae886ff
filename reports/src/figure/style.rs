//! What tells one curve from another without colour: dash and marker, the same for every renderer.

/// Which of several curves a curve is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// One of the cells that are compared; the baseline is 0.
    Compared(usize),
    /// A control: drawn grey, thin, and under the others.
    Control(usize),
}

/// A marker's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A triangle that points up.
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A triangle that points down.
    Down,
    /// A plus sign.
    Plus,
    /// A cross of diagonals.
    Cross,
}

impl Style {
    /// How many colours of compared cells there are; further ones begin again and differ in dash and marker.
    pub const COLOURS: usize = 6;

    const DASHES: [&[u32]; 5] = [&[], &[7, 3], &[2, 3], &[8, 3, 2, 3], &[12, 3]];
    const MARKERS: [Marker; 5] =
        [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Down];
    const CONTROL_DASHES: [&[u32]; 3] = [&[], &[4, 2], &[1, 2]];
    const CONTROL_MARKERS: [Marker; 3] = [Marker::Plus, Marker::Cross, Marker::Diamond];

    /// Whether it is a control.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Control(_))
    }

    /// Lengths of strokes and gaps in turns, in units of the line's width or so; empty for a whole line. Together with
    /// [`Self::marker`] it is unique within 25 curves.
    #[must_use]
    pub const fn dash(self) -> &'static [u32] {
        match self {
            Self::Compared(n) => Self::DASHES[n % Self::DASHES.len()],
            Self::Control(n) => Self::CONTROL_DASHES[n % Self::CONTROL_DASHES.len()],
        }
    }

    /// Its marker.
    #[must_use]
    pub const fn marker(self) -> Marker {
        match self {
            Self::Compared(n) => Self::MARKERS[(n + n / Self::DASHES.len()) % Self::MARKERS.len()],
            Self::Control(n) => Self::CONTROL_MARKERS[n % Self::CONTROL_MARKERS.len()],
        }
    }

    /// The number of its colour, from 0; controls have their own grey.
    #[must_use]
    pub const fn colour(self) -> Option<usize> {
        match self {
            Self::Compared(n) => Some(n % Self::COLOURS),
            Self::Control(_) => None,
        }
    }
}
