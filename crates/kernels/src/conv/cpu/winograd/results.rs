//! Results from the sums of products.

use super::super::maps::Block;
use super::PLACES;
use super::squares::Squares;
use crate::simd::tile::Tile;
use crate::simd::{Lanes, simd_fn};

/// `Aᵀ·m`.
#[inline(always)]
fn gathered<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 2] {
    [a.add(b).add(c), b.sub(c).sub(d)]
}

simd_fn! {
    /// The results of some channels, from `first` on, of a block's images.
    pub(super) fn results<L>(squares: &Squares<'_>, block: &Block, sums: &[f32], first: usize, out: Vec<Tile<'_>>) {
        let mut out = out;
        let (phases, [y, x], place) = (squares.phases, squares.maps.axes, sums.len() / PLACES);
        let (strips, end) = (squares.strips(block), y.output - block.rows.start * y.step);
        let channels = out.first().map_or(0, Tile::rows);
        // Both rows of a strip's results, every second result of a phase together, where they do not lie next to each other.
        let wide = x.grid.next_multiple_of(L::N);
        let mut apart = vec![0.0; if phases > 1 { 2 * x.step * wide } else { 0 }];
        for channel in 0..channels {
            let mut next = (first + channel) * squares.wide();
            for tile in &mut out {
                let out = tile.row(channel);
                for &top in &strips {
                    let rows = if top + phases < end { 2 } else { 1 };
                    for (right, &across) in squares.across.iter().enumerate() {
                        for col in (0..across).step_by(L::N) {
                            let mut columns = [[L::splat(0.0); 2]; 4];
                            for (c, column) in columns.iter_mut().enumerate() {
                                let mut square = [L::splat(0.0); 4];
                                for (row, square) in square.iter_mut().enumerate() {
                                    *square = L::load(&sums[(row * 4 + c) * place + next + col..]);
                                }
                                *column = gathered(square);
                            }
                            let [a, b, c, d] = columns;
                            for row in 0..rows {
                                let both = gathered([a[row], b[row], c[row], d[row]]);
                                if phases == 1 {
                                    let out = &mut out[(top + row) * x.output..][..x.output];
                                    let after = (2 * (col + L::N)).min(x.output);
                                    weave(both, &mut out[2 * col..after]);
                                    continue;
                                }
                                for (side, values) in both.iter().enumerate() {
                                    let way = row * x.step + side * phases + right;
                                    values.store(&mut apart[way * wide + col..]);
                                }
                            }
                        }
                        next += across;
                    }
                    for row in 0..if phases > 1 { rows } else { 0 } {
                        let apart = &apart[row * x.step * wide..][..x.step * wide];
                        let out = &mut out[(top + row * phases) * x.output..][..x.output];
                        match x.step {
                            4 => woven::<L, 4>(apart, wide, out),
                            8 => woven::<L, 8>(apart, wide, out),
                            _ => {
                                for (way, from) in apart.chunks_exact(wide).enumerate().take(x.output) {
                                    for (to, from) in out[way..].iter_mut().step_by(x.step).zip(from) {
                                        *to = *from;
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A row from what was taken apart in `WAYS` ways, a power of two.
#[inline(always)]
fn woven<L: Lanes, const WAYS: usize>(apart: &[f32], wide: usize, out: &mut [f32]) {
    for (col, out) in (0..).step_by(L::N).zip(out.chunks_mut(WAYS * L::N)) {
        let mut values = [L::splat(0.0); WAYS];
        for (value, way) in values.iter_mut().zip(apart.chunks_exact(wide)) {
            *value = L::load(&way[col..]);
        }
        weave(values, out);
    }
}

/// Writes the first numbers of all vectors, then their second ones, and so on, as far as there is room. There are as many vectors
/// as a power of two.
#[inline(always)]
fn weave<L: Lanes, const WAYS: usize>(mut values: [L; WAYS], out: &mut [f32]) {
    let mut done = 1;
    while done < WAYS {
        // Both halves of all numbers in turns: each time, numbers of a vector get twice as far from each other.
        let halves = values;
        for i in 0..WAYS / 2 {
            (values[2 * i], values[2 * i + 1]) = halves[i].interleave(halves[i + WAYS / 2]);
        }
        done *= 2;
    }
    for (value, out) in values.iter().zip(out.chunks_mut(L::N)) {
        if out.len() < L::N {
            value.store_part(out);
        } else {
            value.store(out);
        }
    }
}
