//! The innermost product: tiles of a few rows by two or three vectors, held in registers.

#![allow(unsafe_code)]

use crate::tile::Tile;
use crate::{Lanes, Level};

/// Numbers in a cache line.
const LINE: usize = 16;

/// What a product starts from.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Nothing: `C = A·B`.
    Zero,
    /// The same row everywhere: `C = bias + A·B`. At least as long as `B`'s rows are wide, padding included.
    Bias(&'a [f32]),
    /// What is there: `C += A·B`.
    Add,
}

/// `C (+)= A·B` for matrices small enough to stay in cache, checked on construction.
///
/// `A` is `[m, k]` with any strides, `B` `[k, n]` with rows of `ldb` numbers that can be read up to the next whole
/// vector, `C` `[m, n]` with rows of `ldc` numbers.
#[derive(Debug)]
pub struct Block<'a> {
    m: usize,
    n: usize,
    k: usize,
    a: *const f32,
    row: usize,
    col: usize,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    start: Start<'a>,
}

/// A matrix operand: numbers, distance between rows, distance between columns.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a>(pub &'a [f32], pub usize, pub usize);

/// Computes `C (+)= A·B` with tiles in registers; see [`Block`]. `size` is `[m, n, k]`.
///
/// Every number of the result is one chain of multiply-adds in the order of `k`: the result does not depend on how a
/// larger product was cut into blocks of rows and columns.
pub fn gemm<L: Lanes>(
    [m, n, k]: [usize; 3],
    a: Strided<'_>,
    b: (&[f32], usize),
    (c, ldc): (&mut [f32], usize),
    start: Start<'_>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * ldc + n <= c.len() && (m == 1 || n <= ldc), "product: C is too short");
    multiply::<L>([m, n, k], a, b, (c.as_mut_ptr(), ldc), start);
}

/// The same into the first columns of a tile.
pub fn gemm_tile<L: Lanes>(
    [m, n, k]: [usize; 3],
    a: Strided<'_>,
    b: (&[f32], usize),
    c: &mut Tile<'_>,
    start: Start<'_>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(m <= c.rows() && n <= c.cols(), "product: the tile is too small");
    multiply::<L>([m, n, k], a, b, (c.start(), c.distance()), start);
}

/// Checks both factors; the caller has checked that `C` takes the result.
fn multiply<L: Lanes>(
    [m, n, k]: [usize; 3],
    Strided(a, row, col): Strided<'_>,
    (b, ldb): (&[f32], usize),
    (c, ldc): (*mut f32, usize),
    start: Start<'_>,
) {
    assert!(k == 0 || (m - 1) * row + (k - 1) * col < a.len(), "product: A is too short");
    let wide = n.next_multiple_of(L::N);
    assert!(k == 0 || (k - 1) * ldb + wide <= b.len(), "product: B is too short or not padded");
    if let Start::Bias(bias) = start {
        assert!(wide <= bias.len(), "product: bias is too short");
    }
    L::gemm(&Block { m, n, k, a: a.as_ptr(), row, col, b: b.as_ptr(), ldb, c, ldc, start });
}

/// Width of a tile in numbers, at the level of this machine.
pub fn tile_width() -> usize {
    Level::detect().tile()
}

/// All tiles of a block: a panel of columns stays in the first-level cache while the rows of `A` pass by.
#[inline(always)]
pub fn run<L: Lanes>(block: &Block) {
    if block.row == 1 {
        panels::<L, true>(block);
    } else {
        panels::<L, false>(block);
    }
}

#[inline(always)]
fn panels<L: Lanes, const UNIT: bool>(block: &Block) {
    let mut j = 0;
    while j < block.n {
        let left = block.n - j;
        match left.div_ceil(L::N).min(L::COLS) {
            1 => rows::<L, 1, UNIT>(block, j, left),
            2 => rows::<L, 2, UNIT>(block, j, left.min(2 * L::N)),
            _ => rows::<L, 3, UNIT>(block, j, left.min(3 * L::N)),
        }
        j += L::COLS * L::N;
    }
}

/// One panel of `C` vectors, `width` of whose numbers exist, from column `j` on.
#[inline(always)]
fn rows<L: Lanes, const C: usize, const UNIT: bool>(block: &Block, j: usize, width: usize) {
    let mut i = 0;
    while L::ROWS == 8 && i + 8 <= block.m {
        tile::<L, 8, C, UNIT>(block, i, j, width);
        i += 8;
    }
    while L::ROWS == 6 && i + 6 <= block.m {
        tile::<L, 6, C, UNIT>(block, i, j, width);
        i += 6;
    }
    while L::ROWS >= 4 && i + 4 <= block.m {
        tile::<L, 4, C, UNIT>(block, i, j, width);
        i += 4;
    }
    while i + 2 <= block.m {
        tile::<L, 2, C, UNIT>(block, i, j, width);
        i += 2;
    }
    if i < block.m {
        tile::<L, 1, C, UNIT>(block, i, j, width);
    }
}

/// One tile of `R` rows by `C` vectors at row `i`, column `j`. `UNIT`: the rows of `A` lie next to each other.
#[inline(always)]
fn tile<L: Lanes, const R: usize, const C: usize, const UNIT: bool>(
    block: &Block,
    i: usize,
    j: usize,
    width: usize,
) {
    let row = if UNIT { 1 } else { block.row };
    let full = C - usize::from(width < C * L::N);
    // SAFETY: `gemm` checked the three matrices against m, n and k; `i + R <= m`, `j + width <= n`, and whole vectors
    // of B and of the bias are readable.
    unsafe {
        let c = block.c.add(i * block.ldc + j);
        let mut acc = [[L::splat(0.0); C]; R];
        match block.start {
            Start::Zero => {}
            Start::Bias(bias) => {
                let bias = bias.as_ptr().add(j);
                for v in 0..C {
                    let x = L::read(bias.add(v * L::N));
                    for line in &mut acc {
                        line[v] = x;
                    }
                }
            }
            Start::Add => {
                for (r, line) in acc.iter_mut().enumerate() {
                    for (v, x) in line.iter_mut().enumerate() {
                        let at = c.add(r * block.ldc + v * L::N);
                        *x = if v < full { L::read(at) } else { L::read_part(at, width - v * L::N) };
                    }
                }
            }
        }
        let mut a = block.a.add(i * row);
        let mut b = block.b.add(j);
        // What comes next is asked for on the way: the same columns of the next rows of A, and, by the first tiles, a
        // cache line of every row of the next panel of B each.
        let mut below = a.wrapping_add(R * row);
        let line = i / L::ROWS;
        let (mut ahead, across) = match line <= C * L::N / LINE && j + C * L::N < block.n {
            true => (b.wrapping_add(C * L::N + line * LINE), block.ldb),
            false => (below, 0),
        };
        let mut left = block.k;
        while left > 0 {
            let count = left.min(LINE);
            left -= count;
            if !UNIT && block.col == 1 {
                for r in 0..R {
                    L::prefetch_line(below.wrapping_add(r * row));
                }
            }
            for _ in 0..count {
                if UNIT {
                    L::prefetch_line(a.wrapping_add(R));
                }
                L::prefetch_far(ahead);
                ahead = ahead.wrapping_add(across);
                let mut line = [L::splat(0.0); C];
                for (v, x) in line.iter_mut().enumerate() {
                    *x = L::read(b.add(v * L::N));
                }
                for (r, sums) in acc.iter_mut().enumerate() {
                    let x = L::splat(*a.add(r * row));
                    for (sum, &y) in sums.iter_mut().zip(&line) {
                        *sum = x.mul_add(y, *sum);
                    }
                }
                a = a.wrapping_add(block.col);
                b = b.wrapping_add(block.ldb);
            }
            below = below.wrapping_add(count);
        }
        for (r, line) in acc.iter().enumerate() {
            for (v, &x) in line.iter().enumerate() {
                let at = c.add(r * block.ldc + v * L::N);
                if v < full {
                    x.write(at);
                } else {
                    x.write_part(at, width - v * L::N);
                }
            }
        }
    }
}
