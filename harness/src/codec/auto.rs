//! `auto`: for each page the codec that should cost least, encoding and wire together. What a page will cost is foreseen from
//! what became of it when it was last encoded, or of others where it never was; now and then another codec gets its turn, so
//! that the figures stay true. A tag byte says which one it was. Sending the page whole is one of the choices.
//!
//! XBZRLE is not among them: `mask` writes the same runs where they are smallest, and is never slower.

use migbench_scenarios::cell::Codec;

use super::lz4::Lz4;
use super::zstd::Zstd;
use super::{Change, CodecBackend, DecodeError, MAX_ENCODED, Mask, PAGE, Page, PageCodec};
use crate::sys::clock;
use crate::sys::live::TargetPage;
use crate::sys::memory::reserve;

/// Codecs to choose from.
const CODECS: usize = 3;
/// What their encodings begin with.
const TAGS: [u8; CODECS] = [1, 2, 3];

/// Outcomes of a codec before it is judged by them.
const FIRST_OUTCOMES: u32 = 16;
/// Of so many pages one goes to a codec whose turn it is, whatever was foreseen.
const TURN: u64 = 64;
/// The weight of a new outcome in a mean.
const WEIGHT: f64 = 1.0 / 16.0;
/// Nanoseconds for a byte while no speed of the link was measured: 10 Gbit/s.
const FIRST_WIRE_TIME: f64 = 0.8;

/// What a codec has made of pages.
#[derive(Debug, Clone, Copy, Default)]
struct Outcomes {
    count: u32,
    /// Mean bytes of an encoding; an overflow counts as a page.
    size: f64,
    /// Mean nanoseconds of encoding.
    time: f64,
}

impl Outcomes {
    fn add(&mut self, size: f64, time: f64) {
        self.count = self.count.saturating_add(1);
        // The first ones weigh alike.
        let weight = WEIGHT.max(1.0 / f64::from(self.count));
        self.size += (size - self.size) * weight;
        // A time in which the thread did not run says nothing of the codec.
        let time = if self.count > FIRST_OUTCOMES { time.min(4.0 * self.time) } else { time };
        self.time += (time - self.time) * weight;
    }
}

/// The codec.
#[derive(Debug)]
pub struct Auto {
    codecs: [Box<dyn PageCodec>; CODECS],
    /// Of first sends, and of pages that were sent before.
    outcomes: [[Outcomes; CODECS]; 2],
    /// Bytes of each page when each codec last encoded it; zero for never.
    last: Vec<[u16; CODECS]>,
    pages: u64,
    turns: usize,
    chosen: [u64; CODECS],
    /// Nanoseconds that the link takes for a byte.
    wire_time: f64,
}

impl Auto {
    /// Without any outcome yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            codecs: [
                Box::new(Mask::new(CodecBackend::best())),
                Box::new(Lz4::new()),
                Box::new(Zstd::new(false)),
            ],
            outcomes: Default::default(),
            last: Vec::new(),
            pages: 0,
            turns: 0,
            chosen: [0; CODECS],
            wire_time: FIRST_WIRE_TIME,
        }
    }

    /// The codec for the next page; none to send it whole.
    fn choose(&mut self, last: [u16; CODECS], outcomes: &[Outcomes; CODECS]) -> Option<usize> {
        if let Some(unknown) = outcomes.iter().position(|outcomes| outcomes.count < FIRST_OUTCOMES) {
            return Some(unknown);
        }
        self.pages += 1;
        if self.pages.is_multiple_of(TURN) {
            self.turns = (self.turns + 1) % CODECS;
            return Some(self.turns);
        }
        let costs = outcomes.iter().zip(last).map(|(outcomes, last)| {
            let size = if last == 0 { outcomes.size } else { f64::from(last) };
            size * self.wire_time + outcomes.time
        });
        let whole = WHOLE * self.wire_time;
        let best = costs.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        best.filter(|(_, cost)| *cost < whole).map(|(codec, _)| codec)
    }
}

/// Bytes of a page that is sent whole.
const WHOLE: f64 = 4096.0;

impl Default for Auto {
    fn default() -> Self {
        Self::new()
    }
}

impl PageCodec for Auto {
    fn name(&self) -> &'static str {
        Codec::Auto.word()
    }

    fn learns(&self) -> bool {
        true
    }

    fn worst_size(&self) -> usize {
        1 + self.codecs.iter().map(|codec| codec.worst_size()).max().unwrap_or(MAX_ENCODED)
    }

    fn takes_old(&self) -> bool {
        true
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one page")]
    fn encode(&mut self, page: u64, change: &Change, new: &Page, out: &mut [u8]) -> Option<usize> {
        let at = usize::try_from(page).ok()?;
        if at >= self.last.len() {
            // Page numbers ascend in the first round, which visits all. Without memory pages go whole, and the guest lives.
            let length = (at + 1).max(2 * self.last.len());
            let more = length - self.last.len();
            reserve(&mut self.last, more, "sizes of pages").ok()?;
            self.last.resize(length, [0; CODECS]);
        }
        let last = self.last[at];
        let known = usize::from(last != [0; CODECS]);
        let outcomes = self.outcomes[known];
        let codec = self.choose(last, &outcomes)?;
        let (tag, rest) = out.split_first_mut()?;
        let start = clock::now();
        let encoded = self.codecs[codec].encode(page, change, new, rest);
        let time = (clock::now() - start) as f64;
        let length = encoded.map_or(PAGE, |length| length + 1);
        self.last[at][codec] = u16::try_from(length).unwrap_or(u16::MAX);
        self.outcomes[known][codec].add(f64::from(self.last[at][codec]), time);
        if length > MAX_ENCODED {
            return None;
        }
        *tag = TAGS[codec];
        self.chosen[codec] += 1;
        Some(length)
    }

    fn decode_in_place(&mut self, encoded: &[u8], page: TargetPage<'_>) -> Result<(), DecodeError> {
        let (&found, rest) = encoded.split_first().ok_or(DecodeError::Truncated { offset: 0 })?;
        let codec = TAGS.iter().position(|tag| *tag == found).ok_or(DecodeError::Tag { offset: 0, found })?;
        self.codecs[codec].decode_in_place(rest, page).map_err(|error| error.moved(1))
    }

    fn link_speed(&mut self, bytes_per_second: f64) {
        let wire_time = 1e9 / bytes_per_second;
        if wire_time.is_finite() {
            self.wire_time = if self.wire_time == FIRST_WIRE_TIME {
                wire_time
            } else {
                self.wire_time + (wire_time - self.wire_time) * WEIGHT
            };
        }
    }

    fn choices(&self) -> Vec<(Codec, u64)> {
        [Codec::Mask, Codec::Lz4, Codec::Zstd].into_iter().zip(self.chosen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{SLACK, encode_pair};

    /// Counters on pages of noise, where `mask` needs few bytes and the others hardly more.
    fn counters(auto: &mut Auto, rounds: u8) -> [u64; CODECS] {
        let noise = |page: usize| -> Page {
            let mut state = page as u64 + 1;
            std::array::from_fn(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                state.to_le_bytes()[6]
            })
        };
        let (mut old, before) = ((0..32).map(noise).collect::<Vec<_>>(), auto.chosen);
        let mut destination = Auto::new();
        for round in 1..=rounds {
            for (page, held) in (0..).zip(&mut old) {
                let mut new = *held;
                new.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(round));
                let mut out = [0; MAX_ENCODED + SLACK];
                match encode_pair(auto, CodecBackend::best(), page, [held, &new], &mut out) {
                    None => {}
                    Some(length) => {
                        assert!(length > 0, "it has changed");
                        let mut decoded = *held;
                        destination.decode(&out[..length], &mut decoded).unwrap();
                        assert!(decoded == new);
                    }
                }
                *held = new;
            }
        }
        std::array::from_fn(|codec| auto.chosen[codec] - before[codec])
    }

    #[test]
    fn a_choice_follows_what_is_known_of_sizes_times_and_the_link() {
        let mut auto = Auto::new();
        let of = |size, time| Outcomes { count: 100, size, time };
        let outcomes = [of(2000.0, 1000.0), of(1000.0, 3000.0), of(500.0, 10_000.0)];
        let mut chosen = |wire_time, last| {
            (auto.wire_time, auto.pages) = (wire_time, 0);
            auto.choose(last, &outcomes)
        };
        assert_eq!(chosen(100.0, [0; 3]), Some(2), "on a slow wire the smallest");
        assert_eq!(chosen(8.0, [0; 3]), Some(1));
        assert_eq!(chosen(1.0, [0; 3]), Some(0));
        assert_eq!(chosen(0.01, [0; 3]), None, "on the fastest wire the whole page");
        assert_eq!(
            chosen(100.0, [20, 0, 0]),
            Some(0),
            "what became of this page says more than what became of others"
        );
        assert_eq!(chosen(1.0, [4096, 4096, 4096]), None);
    }

    #[test]
    fn unknown_tags_are_refused_and_offsets_count_the_tag() {
        let refuse = |bytes: &[u8]| Auto::new().decode(bytes, &mut [0; PAGE]).unwrap_err();
        assert_eq!(refuse(&[]), DecodeError::Truncated { offset: 0 });
        assert_eq!(refuse(&[0, 1]), DecodeError::Tag { offset: 0, found: 0 });
        assert_eq!(refuse(&[4, 1]), DecodeError::Tag { offset: 0, found: 4 });
        assert_eq!(refuse(&[1, 0x10, 5]), DecodeError::Truncated { offset: 3 });
    }

    #[test]
    fn every_codec_gets_its_turn() {
        let mut auto = Auto::new();
        let outcomes = [Outcomes { count: 100, size: 10.0, time: 10.0 }; CODECS];
        let chosen: Vec<_> = (0..TURN * 6).filter_map(|_| auto.choose([10, 2000, 2000], &outcomes)).collect();
        assert!((1..CODECS).all(|codec| chosen.contains(&codec)));
    }

    #[test]
    fn what_it_chose_is_counted_and_decoded() {
        let mut auto = Auto::new();
        let chosen = counters(&mut auto, 20);
        let counted: u64 = auto.choices().iter().map(|(_, count)| count).sum();
        assert_eq!(counted, chosen.iter().sum::<u64>());
        assert!(chosen.iter().all(|count| *count > 0), "each was tried: {chosen:?}");
    }
}
