//! A copying garbage collector (Cheney, 1970): two semi-spaces, a table of roots, and trees of objects that a mutator
//! hangs into it in place of older ones. When a space is full, what is alive is copied to the other, in steps, and the two
//! change roles. So allocation moves through memory, and each collection dirties the other space within a short time.
//!
//! A tree is a node with seven leaves of its own and one of another tree. Most trees die young: seven of eight replace one
//! in an eighth of the roots.

use super::ledger::Ledger;
use super::{Done, PartContext, Program, Wrong};
use crate::abi::WorkloadStage;
use crate::content::ContentStream;
use crate::random::{GOLDEN, Random, mix};

/// Trees are allocated.
pub const ALLOCATE: usize = 0;
/// A step of a collection.
pub const COLLECT: usize = 1;

/// Words before an object's fields: what it is, and its number.
const HEADER: usize = 2;
/// Fields of a node: its own leaves, and then one of another tree.
const CHILDREN: usize = 8;
const OWN: usize = CHILDREN - 1;
/// Words of a node.
const NODE: usize = HEADER + CHILDREN;
/// The most words of a leaf.
const LEAF: usize = HEADER + 63;
/// The most words of a tree.
const TREE: usize = NODE + OWN * LEAF;
/// The most trees of an operation.
const BATCH: u32 = 32;
/// What a step of a collection may cost: a word that is copied costs one, an object [`VISIT`] besides, for the miss;
/// to go on to the next one costs [`SCAN`].
const STEP: usize = 2048;
const VISIT: usize = 16;
const SCAN: usize = 8;

/// Lowest byte of an object's first word; over it are its words, or the place that it has moved to.
const KIND_NODE: u64 = 1;
const KIND_LEAF: u64 = 2;
const KIND_MOVED: u64 = 3;

/// A collection under way.
#[derive(Debug, Clone, Copy)]
struct Collection {
    /// The next root to copy.
    root: usize,
    /// The next object to scan, and where the next copy goes.
    scan: usize,
    free: usize,
}

/// The state of a heap: the roots are at its beginning, the spaces after them.
#[derive(Debug, Clone)]
pub struct Gc {
    seed: u64,
    content: u32,
    batch: u32,
    roots: usize,
    /// Words of a space.
    space: usize,
    /// Which space is allocated from, and where it is free.
    current: usize,
    free: usize,
    collection: Option<Collection>,
    /// Trees allocated.
    trees: u64,
    /// Collections finished.
    collections: u64,
    random: Random,
    ledger: Ledger,
}

impl Program for Gc {
    type MemoryUnit = u64;

    fn start(place: &PartContext<'_>, memory: &mut [u64]) -> Self {
        let params = place.params;
        // Whatever lives fits into a space: each root holds at most a tree and a leaf of another.
        let roots = (memory.len() / 2 - TREE) / (TREE + LEAF + 1);
        let space = (memory.len() - roots) / 2;
        let mut heap = Self {
            seed: mix(params.seed ^ (place.part + 1).wrapping_mul(GOLDEN)),
            content: params.content,
            batch: params.accesses.clamp(1, BATCH),
            roots,
            space,
            current: 0,
            free: roots,
            collection: None,
            trees: 0,
            collections: 0,
            random: Random::new(params.seed ^ ((place.part + 1) << 56)),
            ledger: Ledger::new(&[]),
        };
        // As earlier objects left it.
        ContentStream::new(heap.content, heap.seed, u64::MAX, 0).fill_words(memory);
        memory[..roots].fill(0);
        for _ in 0..roots {
            heap.allocate(memory);
        }
        heap.ledger = Ledger::new(memory);
        heap
    }

    fn operate(&mut self, _stage: &WorkloadStage, memory: &mut [u64]) -> Done {
        self.ledger.follow();
        let mut operation = COLLECT;
        if self.collection.is_none() {
            for _ in 0..self.batch {
                if self.free + TREE > self.base(self.current) + self.space {
                    let other = self.base(1 - self.current);
                    self.collection = Some(Collection { root: 0, scan: other, free: other });
                    break;
                }
                self.allocate(memory);
                operation = ALLOCATE;
            }
        }
        if operation == COLLECT {
            self.collect(memory);
        }
        Done { operation, page_writes: self.ledger.pages() }
    }

    fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        for slot in 0..self.roots {
            let node = self.resolve(memory, slot)?;
            let tree = memory[node + 1];
            if memory[node] != kind(KIND_NODE, NODE) || tree >= self.trees || self.slot(tree) != slot {
                return Err(Wrong::state(node as u64 * 8, tree, slot as u64));
            }
            for child in 0..CHILDREN {
                let leaf = self.resolve(memory, node + HEADER + child)?;
                let id = memory[leaf + 1];
                let other = child == OWN && id < self.trees * CHILDREN as u64;
                if id != leaf_id(tree, child) && !other {
                    return Err(Wrong::state(leaf as u64 * 8 + 8, id, leaf_id(tree, child)));
                }
                self.check_leaf(memory, leaf)?;
            }
        }
        self.check_row(memory)?;
        self.ledger.check(memory)
    }
}

impl Gc {
    /// Collections finished.
    #[must_use]
    pub const fn collections(&self) -> u64 {
        self.collections
    }

    const fn base(&self, space: usize) -> usize {
        self.roots + space * self.space
    }

    /// The root of a tree. The first ones fill the table.
    const fn slot(&self, tree: u64) -> usize {
        let roots = self.roots as u64;
        if tree < roots {
            return tree as usize;
        }
        let draw = mix(self.seed ^ tree.wrapping_mul(GOLDEN));
        let young = roots.div_ceil(8);
        ((draw >> 8) % if draw & 7 == 0 { roots } else { young }) as usize
    }

    /// Words of a leaf: half of all leaves have eight fields or fewer on average, a quarter over 32.
    const fn leaf_words(&self, id: u64) -> usize {
        let draw = mix(self.seed ^ !id);
        let least = 4 << (draw & 3);
        HEADER + least + (draw >> 8) as usize % least
    }

    /// One tree, into the root that it belongs to.
    fn allocate(&mut self, memory: &mut [u64]) {
        let (node, tree) = (self.free, self.trees);
        self.ledger.set(memory, node, kind(KIND_NODE, NODE));
        self.ledger.set(memory, node + 1, tree);
        let mut at = node + NODE;
        for child in 0..OWN {
            let id = leaf_id(tree, child);
            let words = self.leaf_words(id);
            self.ledger.set(memory, at, kind(KIND_LEAF, words));
            self.ledger.set(memory, at + 1, id);
            let mut stream = ContentStream::new(self.content, self.seed, id, 0);
            for word in HEADER..words {
                self.ledger.set(memory, at + word, stream.word());
            }
            self.ledger.set(memory, node + HEADER + child, at as u64);
            at += words;
        }
        // The first tree has no other.
        let draw = self.random.next();
        let neighbour = memory[(draw >> 8) as usize % self.roots] as usize;
        let from = if neighbour == 0 { node } else { neighbour };
        let shared = memory[from + HEADER + draw as usize % OWN];
        self.ledger.set(memory, node + HEADER + OWN, shared);
        self.ledger.set(memory, self.slot(tree), node as u64);
        self.free = at;
        self.trees += 1;
    }

    /// One step of the collection.
    fn collect(&mut self, memory: &mut [u64]) {
        let Some(mut now) = self.collection else { return };
        let mut cost = 0;
        while cost < STEP {
            if now.root < self.roots {
                cost += self.copy(memory, now.root, &mut now.free);
                now.root += 1;
            } else if now.scan < now.free {
                let (what, words) = (memory[now.scan] & 0xff, (memory[now.scan] >> 8) as usize);
                if what == KIND_NODE {
                    for child in 0..CHILDREN {
                        cost += self.copy(memory, now.scan + HEADER + child, &mut now.free);
                    }
                }
                now.scan += words;
                cost += SCAN;
            } else {
                self.current = 1 - self.current;
                self.free = now.free;
                self.collections += 1;
                self.collection = None;
                return;
            }
        }
        self.collection = Some(now);
    }

    /// Copies what the word at `field` refers to, unless that has happened, and lets the word refer to the copy. Gives
    /// what it cost.
    fn copy(&mut self, memory: &mut [u64], field: usize, free: &mut usize) -> usize {
        let from = memory[field] as usize;
        let (what, over) = (memory[from] & 0xff, (memory[from] >> 8) as usize);
        if what == KIND_MOVED {
            self.ledger.set(memory, field, over as u64);
            return VISIT;
        }
        let to = *free;
        for word in 0..over {
            let value = memory[from + word];
            self.ledger.set(memory, to + word, value);
        }
        self.ledger.set(memory, from, kind(KIND_MOVED, to));
        self.ledger.set(memory, field, to as u64);
        *free += over;
        over + VISIT
    }

    /// The place of the object that the word at `field` refers to, wherever it has moved.
    fn resolve(&self, memory: &[u64], field: usize) -> Result<usize, Wrong> {
        let refers = memory[field];
        let wrong = Wrong::state(field as u64 * 8, refers, 0);
        let valid = |at: u64| at >= self.roots as u64 && at + (NODE as u64) <= memory.len() as u64;
        if !valid(refers) {
            return Err(wrong);
        }
        let first = memory[refers as usize];
        if first & 0xff != KIND_MOVED {
            return Ok(refers as usize);
        }
        let moved = self.collection.is_some() && valid(first >> 8);
        if moved { Ok((first >> 8) as usize) } else { Err(wrong) }
    }

    fn check_leaf(&self, memory: &[u64], leaf: usize) -> Result<(), Wrong> {
        let id = memory[leaf + 1];
        let words = self.leaf_words(id);
        if memory[leaf] != kind(KIND_LEAF, words) || leaf + words > memory.len() {
            return Err(Wrong::content(leaf as u64 * 8));
        }
        let mut stream = ContentStream::new(self.content, self.seed, id, 0);
        match (leaf + HEADER..leaf + words).find(|&word| memory[word] != stream.word()) {
            Some(word) => Err(Wrong::content(word as u64 * 8)),
            None => Ok(()),
        }
    }

    /// Objects follow each other without a gap in the space that grows.
    fn check_row(&self, memory: &[u64]) -> Result<(), Wrong> {
        let (mut at, end) = match self.collection {
            Some(now) => (self.base(1 - self.current), now.free),
            None => (self.base(self.current), self.free),
        };
        while at < end {
            let (what, words) = (memory[at] & 0xff, (memory[at] >> 8) as usize);
            if (what != KIND_NODE && what != KIND_LEAF) || !(HEADER..=LEAF).contains(&words) {
                return Err(Wrong::content(at as u64 * 8));
            }
            at += words;
        }
        if at == end { Ok(()) } else { Err(Wrong::state(end as u64 * 8, at as u64, end as u64)) }
    }
}

const fn kind(kind: u64, over: usize) -> u64 {
    (over as u64) << 8 | kind
}

const fn leaf_id(tree: u64, child: usize) -> u64 {
    tree * CHILDREN as u64 + child as u64
}

#[cfg(all(test, not(guest)))]
#[path = "gc_tests.rs"]
mod tests;
