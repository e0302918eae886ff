//! A column store that answers one query after another: `select key, count(*), sum(price), max(price) where date between
//! and code in group by key`. Columns never change; a table of groups, hashed by key, is filled by each query anew.
//!
//! Rows are worked on in chunks, as vectorised engines do: an operation scans a chunk and keeps a bit for each row that
//! the predicate selects; those that follow add the selected rows to their groups. Which rows have a key can be computed,
//! so that a check knows what each group must hold at any moment.

use super::{Done, PartContext, Program, Wrong};
use crate::abi::WorkloadStage;
use crate::random::{GOLDEN, mix};

/// The predicate over a chunk of 4096 rows.
pub const SCAN: usize = 0;
/// Up to 32 rows added to their groups, or 8 pages of the table cleared for the next query.
pub const AGGREGATE: usize = 1;

/// Words of a page.
const PAGE: usize = 512;
/// Rows of a chunk: columns take whole pages of it.
const CHUNK: usize = 4096;
/// Pages of a chunk: dates of 2 bytes, codes of 1, prices and keys of 4.
const CHUNK_PAGES: usize = 2 + 1 + 4 + 4;
/// Rows added to their groups by an operation, each in a cache line of its own.
const ROWS: usize = 32;
/// Pages of the table cleared by an operation.
const CLEARED: usize = 8;
/// Words of a group: its key plus 1 (0 where there is none), rows, sum of prices, largest price.
const GROUP: usize = 4;
/// Dates are days of eleven years, of which a query takes a quarter.
const DATES: u64 = 4096;

/// State over one part.
#[derive(Debug, Clone)]
pub struct Analytics {
    seed: u64,
    /// Chunks of rows.
    chunks: usize,
    /// Pages of the table, a power of two.
    table: usize,
    /// Which query, from 1; while the table is cleared the one that comes.
    query: u64,
    /// While the table is cleared: its next page.
    cleared: usize,
    /// The chunk that is worked on.
    chunk: usize,
    /// Whether it was scanned.
    scanned: bool,
    /// Rows of it that were selected and wait to be added to their groups.
    selected: [u64; CHUNK / 64],
    /// Rows that the groups in the table count.
    rows: u64,
}

/// A row's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowValues {
    date: u64,
    code: u64,
    price: u64,
    key: u64,
}

/// What a query selects: a range of dates, and of 64 codes those whose bit is set.
#[derive(Debug, Clone, Copy)]
struct Predicate {
    from: u64,
    codes: u64,
}

impl Predicate {
    #[inline(always)]
    const fn selects(self, date: u64, code: u64) -> bool {
        date.wrapping_sub(self.from) % DATES < DATES / 4 && self.codes >> code & 1 != 0
    }
}

/// Where the columns begin, in words.
struct Columns {
    dates: usize,
    codes: usize,
    prices: usize,
    keys: usize,
    end: usize,
}

impl Analytics {
    /// Different keys, a power of two: half as many as the table has room for.
    const fn keys(&self) -> u64 {
        (self.table * PAGE / GROUP / 2) as u64
    }

    const fn columns(&self) -> Columns {
        let dates = self.table * PAGE;
        let codes = dates + self.chunks * CHUNK / 4;
        let prices = codes + self.chunks * CHUNK / 8;
        let keys = prices + self.chunks * CHUNK / 2;
        Columns { dates, codes, prices, keys, end: keys + self.chunks * CHUNK / 2 }
    }

    fn predicate(&self, query: u64) -> Predicate {
        let random = mix(self.seed.wrapping_add(query.wrapping_mul(GOLDEN)));
        Predicate { from: random % DATES, codes: mix(random) }
    }

    /// Of as many rows as there are keys, each has another: which, depends on this number of theirs.
    fn salt(&self, rows: u64) -> u64 {
        mix(!self.seed ^ rows) & (self.keys() - 1)
    }

    fn row(&self, number: u64) -> RowValues {
        let random = mix(self.seed ^ number.wrapping_mul(GOLDEN));
        RowValues {
            date: random % DATES,
            code: random >> 12 & 63,
            price: 1 + (random >> 18 & 0xf_ffff),
            key: number.wrapping_mul(GOLDEN) & (self.keys() - 1) ^ self.salt(number / self.keys()),
        }
    }

    /// What the group of `key` holds when `query` has gone through the first `rows` rows.
    fn group(&self, query: u64, rows: u64, key: u64) -> [u64; GROUP] {
        let predicate = self.predicate(query);
        let mut group = [key + 1, 0, 0, 0];
        for first in (0..rows).step_by(self.keys() as usize) {
            let number =
                first + ((key ^ self.salt(first / self.keys())).wrapping_mul(INVERSE) & (self.keys() - 1));
            if number < rows {
                let row = self.row(number);
                if predicate.selects(row.date, row.code) {
                    add(&mut group, row.price);
                }
            }
        }
        group
    }

    /// What pages hold that are left over by the division into chunks.
    fn left_over(&self, at: usize) -> u64 {
        mix(self.seed.rotate_left(32) ^ (at as u64).wrapping_mul(GOLDEN))
    }

    /// Clears some pages of the table, and begins with the query when they were the last.
    fn clear(&mut self, memory: &mut [u64]) -> Done {
        let end = (self.cleared + CLEARED).min(self.table);
        for group in memory[self.cleared * PAGE..end * PAGE].chunks_exact_mut(GROUP) {
            self.rows -= group[1];
            group.fill(0);
        }
        let page_writes = (end - self.cleared) as u64;
        self.cleared = end;
        (self.chunk, self.scanned) = (0, false);
        Done { operation: AGGREGATE, page_writes }
    }

    fn scan(&mut self, memory: &[u64]) -> Done {
        let predicate = self.predicate(self.query);
        let columns = self.columns();
        let dates = &memory[columns.dates + self.chunk * CHUNK / 4..][..CHUNK / 4];
        let codes = &memory[columns.codes + self.chunk * CHUNK / 8..][..CHUNK / 8];
        let words = self.selected.iter_mut().zip(dates.chunks_exact(16)).zip(codes.chunks_exact(8));
        for ((selected, dates), codes) in words {
            *selected = 0;
            for row in 0..64 {
                let (date, code) =
                    (dates[row / 4] >> (row % 4 * 16) & 0xffff, codes[row / 8] >> (row % 8 * 8) & 63);
                *selected |= u64::from(predicate.selects(date, code)) << row;
            }
        }
        self.scanned = true;
        self.go_on();
        Done { operation: SCAN, page_writes: 0 }
    }

    fn aggregate(&mut self, memory: &mut [u64]) -> Done {
        let columns = self.columns();
        let groups = self.table * PAGE / GROUP;
        let (mut pages, mut written) = ([0; ROWS], 0);
        for _ in 0..ROWS {
            let Some(word) = self.selected.iter().position(|&rows| rows != 0) else { break };
            let row = self.chunk * CHUNK + word * 64 + self.selected[word].trailing_zeros() as usize;
            self.selected[word] &= self.selected[word] - 1;
            let half = |first: usize| memory[first + row / 2] >> (row % 2 * 32) & 0xffff_ffff;
            let (key, price) = (half(columns.keys), half(columns.prices));
            // Linear probing. The table is at most half full.
            let mut at = mix(key ^ self.seed) as usize & (groups - 1);
            while memory[at * GROUP] != key + 1 && memory[at * GROUP] != 0 {
                at = (at + 1) & (groups - 1);
            }
            let group = &mut memory[at * GROUP..(at + 1) * GROUP];
            group[0] = key + 1;
            add(group, price);
            self.rows += 1;
            let page = at * GROUP / PAGE;
            if !pages[..written].contains(&page) {
                pages[written] = page;
                written += 1;
            }
        }
        self.go_on();
        Done { operation: AGGREGATE, page_writes: written as u64 }
    }

    /// To the next chunk where no row waits, and to the next query after the last.
    fn go_on(&mut self) {
        if self.selected.iter().all(|&rows| rows == 0) {
            (self.chunk, self.scanned) = (self.chunk + 1, false);
            if self.chunk == self.chunks {
                (self.query, self.cleared) = (self.query + 1, 0);
            }
        }
    }

    /// How many rows have been through the query that filled the table, and which query that was.
    fn progress(&self) -> (u64, u64) {
        if self.cleared < self.table {
            return (self.query - 1, (self.chunks * CHUNK) as u64);
        }
        let first = (self.chunk * CHUNK) as u64;
        if !self.scanned {
            return (self.query, first);
        }
        let waiting = self.selected.iter().position(|&rows| rows != 0).unwrap_or(0);
        (self.query, first + waiting as u64 * 64 + u64::from(self.selected[waiting].trailing_zeros()))
    }
}

fn add(group: &mut [u64], price: u64) {
    group[1] += 1;
    group[2] += price;
    group[3] = group[3].max(price);
}

/// The number by which a product with [`GOLDEN`] is undone: Newton's iteration doubles the bits that are right.
const INVERSE: u64 = {
    let (mut inverse, mut round) = (GOLDEN, 0);
    while round < 6 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(GOLDEN.wrapping_mul(inverse)));
        round += 1;
    }
    assert!(inverse.wrapping_mul(GOLDEN) == 1);
    inverse
};

/// One word of a column, of rows whose values have `bits` bits.
fn packed(at: usize, bits: usize, value: impl Fn(u64) -> u64) -> u64 {
    let rows = 64 / bits;
    (0..rows).fold(0, |word, row| word | value((at * rows + row) as u64) << (row * bits))
}

impl Analytics {
    /// Word `at` of memory, after the table.
    fn word(&self, at: usize) -> u64 {
        let columns = self.columns();
        if at < columns.codes {
            packed(at - columns.dates, 16, |row| self.row(row).date)
        } else if at < columns.prices {
            packed(at - columns.codes, 8, |row| self.row(row).code)
        } else if at < columns.keys {
            packed(at - columns.prices, 32, |row| self.row(row).price)
        } else if at < columns.end {
            packed(at - columns.keys, 32, |row| self.row(row).key)
        } else {
            self.left_over(at)
        }
    }
}

impl Program for Analytics {
    type MemoryUnit = u64;

    fn start(place: &PartContext<'_>, memory: &mut [u64]) -> Self {
        let pages = memory.len() / PAGE;
        // A quarter of memory at most, and at least an eighth.
        let table = 1 << (pages / 4).max(1).ilog2();
        let new = Self {
            seed: mix(place.params.seed ^ (place.part + 1).wrapping_mul(GOLDEN)),
            chunks: (pages - table) / CHUNK_PAGES,
            table,
            query: 1,
            cleared: table,
            chunk: 0,
            scanned: false,
            selected: [0; CHUNK / 64],
            rows: 0,
        };
        for (at, word) in memory.iter_mut().enumerate() {
            *word = if at < table * PAGE { 0 } else { new.word(at) };
        }
        new
    }

    #[inline(always)]
    fn operate(&mut self, _: &WorkloadStage, memory: &mut [u64]) -> Done {
        if self.cleared < self.table {
            self.clear(memory)
        } else if self.scanned {
            self.aggregate(memory)
        } else {
            self.scan(memory)
        }
    }

    fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        let table = self.table * PAGE;
        for (at, &word) in memory.iter().enumerate().skip(table) {
            let expected = self.word(at);
            if word != expected {
                return Err(Wrong::word(at, word, expected));
            }
        }
        let (query, rows) = self.progress();
        let mut counted = 0;
        for (at, group) in memory[..table].chunks_exact(GROUP).enumerate() {
            let cleared = at * GROUP < self.cleared * PAGE && self.cleared < self.table;
            let expected = match group[0] {
                0 => [0; GROUP],
                _ if cleared => [0; GROUP],
                key if key > self.keys() => [0; GROUP],
                key => match self.group(query, rows, key - 1) {
                    // No group is of no rows.
                    [_, 0, ..] => [0; GROUP],
                    group => group,
                },
            };
            if let Some(word) = (0..GROUP).find(|&word| group[word] != expected[word]) {
                return Err(Wrong::word(at * GROUP + word, group[word], expected[word]));
            }
            counted += group[1];
        }
        // Each group is right, so that a missing row is that of a missing group.
        if counted != self.rows {
            return Err(Wrong::state(0, counted, self.rows));
        }
        Ok(())
    }
}

#[cfg(all(test, not(guest)))]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::programs::trials::{self, Trial, differing};

    proptest! {
        #![proptest_config(trials::few())]

        #[test]
        fn stands_its_trials(trial in trials::trials(16..60, 0..300)) {
            trial.stands::<Analytics>()?;
        }
    }

    /// The groups in the table.
    fn groups(program: &Analytics, memory: &[u64]) -> BTreeMap<u64, [u64; 3]> {
        let groups = memory[..program.table * PAGE].chunks(GROUP).filter(|group| group[0] != 0);
        groups.map(|group| (group[0] - 1, [group[1], group[2], group[3]])).collect()
    }

    #[test]
    fn a_query_finds_what_a_plain_program_finds() {
        let mut guest = Trial { pages: 61, ..Trial::small() }.guest::<Analytics>();
        assert_eq!((guest.program.chunks, guest.program.table), (4, 8));
        for query in 1..5 {
            guest.operate_while(|program: &Analytics| program.query <= query);
            let program = &guest.program;
            let predicate = program.predicate(query);
            let mut expected = BTreeMap::<u64, [u64; 3]>::new();
            for row in (0..4 * CHUNK as u64).map(|row| program.row(row)) {
                if predicate.selects(row.date, row.code) {
                    let group = expected.entry(row.key).or_default();
                    *group = [group[0] + 1, group[1] + row.price, group[2].max(row.price)];
                }
            }
            let selected: u64 = expected.values().map(|group| group[0]).sum();
            assert!((1000..3500).contains(&selected), "about an eighth of {}: {selected}", 4 * CHUNK);
            assert_eq!(groups(program, &guest.memory), expected);
            assert_eq!(program.rows, selected);
        }
    }

    #[test]
    fn keys_are_all_used_and_scattered() {
        let guest = Trial { pages: 61, ..Trial::small() }.guest::<Analytics>();
        let program = &guest.program;
        for first in [0, program.keys() * 3] {
            let keys: Vec<u64> = (first..first + program.keys()).map(|row| program.row(row).key).collect();
            assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
            assert!(keys.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 8).count() < keys.len() / 8);
        }
    }

    /// An empty place one bit of whose key is set names a group, but one of no rows.
    #[test]
    fn no_bit_of_a_key_is_missed() {
        let mut guest = Trial { pages: 61, ..Trial::small() }.guest::<Analytics>();
        for _ in 0..20 {
            guest.operate();
        }
        for at in (0..PAGE).step_by(GROUP) {
            for bit in 0..10 {
                guest.memory[at] ^= 1 << bit;
                assert!(guest.check().is_err(), "bit {bit} of word {at} missed");
                guest.memory[at] ^= 1 << bit;
            }
        }
        guest.check().unwrap();
    }

    #[test]
    fn pages_that_change_are_counted_and_scans_write_none() {
        let mut guest = Trial { pages: 61, ..Trial::small() }.guest::<Analytics>();
        let mut types = [0; 2];
        for _ in 0..1000 {
            let before = guest.memory.clone();
            let clears = guest.program.cleared < guest.program.table;
            let done = guest.operate();
            types[done.operation] += 1;
            let changed = differing(&before, &guest.memory);
            // Clearing stores to pages that hold nothing, too.
            assert!(changed.len() as u64 == done.page_writes || clears && done.page_writes == 8);
            assert!(done.operation == AGGREGATE || changed.is_empty());
            assert!(changed.iter().all(|&page| page < guest.program.table));
        }
        assert!(types[SCAN] > 20 && types[AGGREGATE] > 300, "{types:?}");
    }
}
