//! The words in which a published figure is judged, and how they are come to.

use migbench_scenarios::claims::Published;
use serde::Serialize;

use super::Estimate;

/// How a published figure lies to what can be reached. None of the words says that a result was reproduced: two cells may
/// agree in a figure and in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// A reduction no larger than what could be saved in our cell; a value within what our cells have.
    Reachable,
    /// A reduction larger than what any engine could save in our cell; a value that none of our cells has.
    Unreachable,
    /// It lies within the spread of the limit itself, or partly in our range.
    Undecided,
    /// Nothing limits the metric.
    NoBound,
    /// Our runs end as the publication says.
    Same,
    /// Our runs end otherwise.
    Different,
    /// There are no runs that could decide.
    NoEvidence,
}

impl Reach {
    /// Every verdict, in the order in which they are explained.
    pub const ALL: [Self; 7] = [
        Self::Reachable,
        Self::Unreachable,
        Self::Undecided,
        Self::NoBound,
        Self::Same,
        Self::Different,
        Self::NoEvidence,
    ];

    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Unreachable => "unreachable",
            Self::Undecided => "undecided",
            Self::NoBound => "no bound",
            Self::Same => "same",
            Self::Different => "different",
            Self::NoEvidence => "no evidence",
        }
    }

    /// What it means.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Reachable => {
                "the published figure can be reached in our cell: a reduction is no larger than what could be saved there, \
                 a value lies in the range of our runs"
            }
            Self::Unreachable => {
                "the published figure cannot be reached in our cell: a reduction is larger than all that could be saved there \
                 by any engine that sends the first round, a value lies beyond all of our runs"
            }
            Self::Undecided => {
                "the published figure lies within the spread of the limit, or only in part in our range: more runs are needed"
            }
            Self::NoBound => {
                "nothing limits this metric: the two figures stand side by side, and more cannot be said"
            }
            Self::Same => "every run of ours ended as the publication says",
            Self::Different => "some run of ours ended otherwise",
            Self::NoEvidence => "there are no runs of ours that could decide",
        }
    }

    /// Of a published reduction under the most that can be saved.
    pub(super) fn of_reduction(published: &Published, most: Option<&Estimate>) -> Self {
        match most {
            None => Self::NoBound,
            Some(most) if published.high <= most.low => Self::Reachable,
            Some(most) if published.low > most.high => Self::Unreachable,
            Some(_) => Self::Undecided,
        }
    }

    /// Of a published value among ours, the least and the greatest of which are `low` and `high`.
    pub(super) fn of_value(published: &Published, low: f64, high: f64) -> Self {
        if published.high < low || published.low > high {
            Self::Unreachable
        } else if published.range && (published.low < low || published.high > high) {
            Self::Undecided
        } else {
            Self::Reachable
        }
    }
}

#[cfg(test)]
mod tests {
    use migbench_scenarios::claims::Dimension;

    use super::*;

    fn most(low: f64, high: f64) -> Estimate {
        Estimate { value: f64::midpoint(low, high), low, high, samples: 6, interval: true }
    }

    #[test]
    fn a_reduction_is_judged_by_the_spread_of_its_ceiling() {
        let published = Published::parse("51.37 %", Dimension::Share).unwrap();
        let judge = |low, high| Reach::of_reduction(&published, Some(&most(low, high)));
        assert_eq!(judge(0.52, 0.55), Reach::Reachable);
        assert_eq!(judge(0.50, 0.51), Reach::Unreachable);
        assert_eq!(judge(0.50, 0.52), Reach::Undecided);
        // A ceiling that reads the same as the figure decides nothing.
        assert_eq!(judge(0.5137, 0.5137), Reach::Undecided);
        assert_eq!(Reach::of_reduction(&published, None), Reach::NoBound);
    }

    #[test]
    fn a_value_is_judged_as_exactly_as_it_was_printed() {
        let published = Published::parse("2.50", Dimension::Number).unwrap();
        assert_eq!(Reach::of_value(&published, 2.501, 2.6), Reach::Reachable);
        assert_eq!(Reach::of_value(&published, 2.506, 2.6), Reach::Unreachable);
        let range = Published::parse("165 ms to 210 ms", Dimension::Time).unwrap();
        assert_eq!(Reach::of_value(&range, 0.1, 0.3), Reach::Reachable);
        assert_eq!(Reach::of_value(&range, 0.18, 0.3), Reach::Undecided);
        assert_eq!(Reach::of_value(&range, 0.22, 0.3), Reach::Unreachable);
    }

    #[test]
    fn no_word_claims_too_much() {
        for verdict in Reach::ALL {
            assert!(!verdict.word().contains("reproduced") && !verdict.meaning().contains("reproduced"));
        }
    }
}
