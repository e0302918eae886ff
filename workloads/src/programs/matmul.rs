//! C = alpha A B in doubles, in blocks of 32 by 32, again and again with another alpha. An operation adds one product of
//! two blocks to a block of C, so that the floating-point unit is what limits it. Elements of A and B are sums of a
//! number of the row and one of the column: whole numbers, so that all results are exact, and elements of C, half
//! done or done, can be computed from four sums.
//!
//! With `A[i][k] = p[i] + q[k]` and `B[k][j] = r[k] + s[j]`, the sum of `A[i][k] B[k][j]` over the first n of k is
//! `p[i] R + n p[i] s[j] + QR + Q s[j]`, where R, Q and QR are the sums of r[k], q[k] and q[k] r[k].

use super::{Done, PartContext, Program, Wrong};
use crate::abi::WorkloadStage;
use crate::random::{GOLDEN, mix};

/// Words of a page.
const PAGE: usize = 512;
/// Rows and columns of a block.
const SIDE: usize = 32;
/// Words of a block, which lie together: two pages.
const BLOCK: usize = SIDE * SIDE;
/// Columns whose sums stay in registers.
const STRIP: usize = 8;

/// State over one part.
#[derive(Debug, Clone)]
pub struct Matmul {
    seed: u64,
    /// Blocks in a row of a matrix.
    blocks: usize,
    /// Which product, from 1; before the first C is zero.
    product: u64,
    /// The block of C being computed.
    block: usize,
    /// How many of its products of blocks are in it.
    done: usize,
}

/// The four numbers that elements are made of.
#[derive(Clone, Copy)]
enum Of {
    P,
    Q,
    R,
    S,
}

/// Sums over the first `n` of k.
#[derive(Clone, Copy)]
struct Sums {
    n: i64,
    q: i64,
    r: i64,
    qr: i64,
}

impl Matmul {
    /// Between -512 and 511.
    fn number(&self, of: Of, index: usize) -> i64 {
        let id = self.seed ^ (of as u64) << 62;
        (mix(id ^ (index as u64).wrapping_mul(GOLDEN)) >> 54).cast_signed() - 512
    }

    /// The factor of a product: what keeps two from being the same. With it C stays under 2^53 for 2^20 rows.
    const fn alpha(product: u64) -> i64 {
        if product == 0 { 0 } else { 1 + (product % 4096).cast_signed() }
    }

    fn a(&self, i: usize, k: usize) -> i64 {
        self.number(Of::P, i) + self.number(Of::Q, k)
    }

    fn b(&self, k: usize, j: usize) -> i64 {
        self.number(Of::R, k) + self.number(Of::S, j)
    }

    fn sums(&self, n: usize) -> Sums {
        let mut sums = Sums { n: n.cast_signed() as i64, q: 0, r: 0, qr: 0 };
        for k in 0..n {
            let (q, r) = (self.number(Of::Q, k), self.number(Of::R, k));
            sums.q += q;
            sums.r += r;
            sums.qr += q * r;
        }
        sums
    }

    fn c(&self, alpha: i64, sums: Sums, i: usize, j: usize) -> i64 {
        let (p, s) = (self.number(Of::P, i), self.number(Of::S, j));
        alpha * (p * sums.r + sums.n * p * s + sums.qr + sums.q * s)
    }

    /// Words of one matrix.
    const fn matrix(&self) -> usize {
        self.blocks * self.blocks * BLOCK
    }

    /// Row and column of word `at` of a matrix.
    const fn place(&self, at: usize) -> (usize, usize) {
        let (block, within) = (at / BLOCK, at % BLOCK);
        (block / self.blocks * SIDE + within / SIDE, block % self.blocks * SIDE + within % SIDE)
    }

    /// Word `at` of memory after A and B.
    fn left_over(&self, at: usize) -> u64 {
        mix(!self.seed ^ (at as u64).wrapping_mul(GOLDEN))
    }
}

#[allow(clippy::cast_precision_loss)]
const fn double(value: i64) -> u64 {
    (value as f64).to_bits()
}

impl Program for Matmul {
    type MemoryUnit = u64;

    fn start(place: &PartContext<'_>, memory: &mut [u64]) -> Self {
        let seed = mix(place.params.seed ^ (place.part + 1).wrapping_mul(GOLDEN));
        let blocks = ((memory.len() / (3 * BLOCK)) as u64).isqrt() as usize;
        let new = Self { seed, blocks, product: 1, block: 0, done: 0 };
        let matrix = new.matrix();
        for (at, word) in memory.iter_mut().enumerate() {
            let (i, j) = new.place(at % matrix);
            *word = match at / matrix {
                0 => double(new.a(i, j)),
                1 => double(new.b(i, j)),
                2 => 0,
                _ => new.left_over(at),
            };
        }
        new
    }

    #[inline(always)]
    fn operate(&mut self, _: &WorkloadStage, memory: &mut [u64]) -> Done {
        let (row, column) = (self.block / self.blocks, self.block % self.blocks);
        let (a, rest) = memory.split_at_mut(self.matrix());
        let (b, c) = rest.split_at_mut(self.matrix());
        let a = &a[(row * self.blocks + self.done) * BLOCK..][..BLOCK];
        let b = &b[(self.done * self.blocks + column) * BLOCK..][..BLOCK];
        let c = &mut c[self.block * BLOCK..][..BLOCK];
        multiply(Self::alpha(self.product), a, b, c, self.done > 0);
        // The products that follow write to the same pages.
        let page_writes = if self.done == 0 { (BLOCK / PAGE) as u64 } else { 0 };
        self.done += 1;
        if self.done == self.blocks {
            (self.done, self.block) = (0, self.block + 1);
            if self.block == self.blocks * self.blocks {
                (self.block, self.product) = (0, self.product + 1);
            }
        }
        Done { operation: 0, page_writes }
    }

    fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        let matrix = self.matrix();
        let (all, some) = (self.sums(self.blocks * SIDE), self.sums(self.done * SIDE));
        for (at, &word) in memory.iter().enumerate() {
            let (i, j) = self.place(at % matrix);
            let expected = match at / matrix {
                0 => double(self.a(i, j)),
                1 => double(self.b(i, j)),
                2 => {
                    let block = at % matrix / BLOCK;
                    if block == self.block && self.done > 0 {
                        double(self.c(Self::alpha(self.product), some, i, j))
                    } else {
                        let product = self.product - u64::from(block >= self.block);
                        double(self.c(Self::alpha(product), all, i, j))
                    }
                }
                _ => self.left_over(at),
            };
            if word != expected {
                return Err(Wrong::word(at, word, expected));
            }
        }
        Ok(())
    }
}

/// `c = alpha a b`, or `c += alpha a b`.
#[inline(always)]
#[allow(clippy::cast_precision_loss)]
fn multiply(alpha: i64, a: &[u64], b: &[u64], c: &mut [u64], add: bool) {
    let alpha = alpha as f64;
    for (a, c) in a.chunks_exact(SIDE).zip(c.chunks_exact_mut(SIDE)) {
        for (strip, c) in c.chunks_exact_mut(STRIP).enumerate() {
            let mut sums = [0.0; STRIP];
            for (a, b) in a.iter().zip(b.chunks_exact(SIDE)) {
                let a = f64::from_bits(*a);
                for (sum, b) in sums.iter_mut().zip(&b[strip * STRIP..(strip + 1) * STRIP]) {
                    *sum += a * f64::from_bits(*b);
                }
            }
            for (c, sum) in c.iter_mut().zip(sums) {
                let before = if add { f64::from_bits(*c) } else { 0.0 };
                *c = (before + alpha * sum).to_bits();
            }
        }
    }
}

#[cfg(all(test, not(guest)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::programs::trials::{self, Trial, differing};

    proptest! {
        #![proptest_config(trials::few())]

        #[test]
        fn stands_its_trials(trial in trials::trials(6..80, 0..300)) {
            trial.stands::<Matmul>()?;
        }
    }

    #[test]
    fn c_is_the_product() {
        // 2 by 2 blocks.
        let mut guest = Trial { pages: 24, ..Trial::small() }.guest::<Matmul>();
        for product in 1..4 {
            guest.operate_while(|program: &Matmul| program.product == product);
            let program = &guest.program;
            let element = |matrix: usize, row: usize, column: usize| {
                let block = row / SIDE * 2 + column / SIDE;
                let at = (matrix * 4 + block) * BLOCK + row % SIDE * SIDE + column % SIDE;
                f64::from_bits(guest.memory[at])
            };
            assert_eq!(program.blocks, 2);
            for (i, j) in [(0, 0), (5, 63), (63, 1), (40, 40)] {
                let sum: f64 = (0..64).map(|k| element(0, i, k) * element(1, k, j)).sum();
                assert_eq!(element(2, i, j), sum * (1 + product) as f64, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_block_of_c_counts_once() {
        let mut guest = Trial { pages: 55, ..Trial::small() }.guest::<Matmul>();
        assert_eq!(guest.program.blocks, 3);
        for operation in 0..100 {
            let before = guest.memory.clone();
            let done = guest.operate();
            let block = 2 * 9 + operation / 3 % 9;
            assert_eq!(differing(&before, &guest.memory), [2 * block, 2 * block + 1]);
            assert_eq!(done.page_writes, if operation % 3 == 0 { 2 } else { 0 });
        }
    }

    #[test]
    fn elements_stay_exact() {
        assert!(Matmul::alpha(4095) * (1 << 20) * (1 << 20) < 1 << 53);
    }
}
