//! What is computed of a plane of numbers: one channel of one image.

use crate::Lanes;

macro_rules! first {
    ($first:ident $(, $rest:ident)*) => {
        $first
    };
}

/// Vectors summed side by side: an addition takes longer than it takes to start the next.
const CHAINS: usize = 4;

/// Sums over the numbers of slices of one length of some terms: of vectors, and of single numbers where they end.
macro_rules! sums_over {
    ($L:ident, |$($name:ident = $slice:ident),+| [$($term:expr),+], [$($single:expr),+]) => {{
        const TERMS: usize = [$(stringify!($term)),+].len();
        let count = first!($($slice),+).len();
        let (mut sums, mut rest, mut i) = ([[$L::splat(0.0); TERMS]; CHAINS], [0.0f32; TERMS], 0);
        while i + CHAINS * $L::N <= count {
            for (chain, sums) in sums.iter_mut().enumerate() {
                sums_over!(@add sums, $L, i + chain * $L::N, |$($name = $slice),+| [$($term),+]);
            }
            i += CHAINS * $L::N;
        }
        while i + $L::N <= count {
            sums_over!(@add sums[0], $L, i, |$($name = $slice),+| [$($term),+]);
            i += $L::N;
        }
        while i < count {
            $(let $name = $slice[i];)+
            for (sum, term) in rest.iter_mut().zip([$($single),+]) {
                *sum += term;
            }
            i += 1;
        }
        let [a, b, c, d] = sums;
        let mut totals = [0.0; TERMS];
        for (t, total) in totals.iter_mut().enumerate() {
            let sum = a[t].add(b[t]).add(c[t].add(d[t]));
            *total = f64::from(sum.sum()) + f64::from(rest[t]);
        }
        totals
    }};
    (@add $sums:expr, $L:ident, $at:expr, |$($name:ident = $slice:ident),+| [$($term:expr),+]) => {
        $(let $name = $L::load(&$slice[$at..]);)+
        for (sum, term) in $sums.iter_mut().zip([$($term),+]) {
            *sum = sum.add(term);
        }
    };
}

/// The sum of a plane.
#[inline(always)]
pub(super) fn total<L: Lanes>(plane: &[f32]) -> f64 {
    let [total] = sums_over!(L, |x = plane| [x], [x]);
    total
}

/// The sum of the squares of a plane less its mean.
#[inline(always)]
pub(super) fn squares<L: Lanes>(plane: &[f32], mean: f32) -> f64 {
    let centre = L::splat(mean);
    let [squares] = sums_over!(
        L,
        |x = plane| [{
            let d = x.sub(centre);
            d.mul(d)
        }],
        [(x - mean) * (x - mean)]
    );
    squares
}

/// `(x − mean)·scale + beta`, plus others, then ReLU.
#[inline(always)]
pub(super) fn normal<L: Lanes>(x: L, other: Option<L>, [mean, scale, beta]: [L; 3], relu: bool) -> L {
    let y = x.sub(mean).mul_add(scale, beta);
    let y = other.map_or(y, |other| y.add(other));
    // This order keeps what is not a number.
    if relu { L::splat(0.0).max(y) } else { y }
}

/// The gradient of the result, which ReLU passes on where its result `y` is positive.
#[derive(Debug, Clone, Copy)]
pub struct Passed<'a> {
    /// The gradient of the result, as large as the maps.
    pub dy: &'a [f32],
    /// What ReLU gave, where there was one.
    pub y: Option<&'a [f32]>,
}

impl<'a> Passed<'a> {
    #[inline(always)]
    pub(super) fn of(self, from: usize, len: usize) -> Self {
        Self { dy: &self.dy[from..][..len], y: self.y.map(|y| &y[from..][..len]) }
    }
}

/// `dy` where `y` is positive.
#[inline(always)]
fn open<L: Lanes>(dy: L, y: L) -> L {
    y.select_gt(L::splat(0.0), dy, L::splat(0.0))
}

/// The sums of `dy·(x − mean)` and of `dy` over a plane.
#[inline(always)]
pub(super) fn sums<L: Lanes>(Passed { dy, y }: Passed<'_>, x: &[f32], mean: f32) -> [f64; 2] {
    let centre = L::splat(mean);
    match y {
        Some(y) => sums_over!(
            L,
            |x = x, dy = dy, y = y| [open(dy, y).mul(x.sub(centre)), open(dy, y)],
            [if y > 0.0 { dy * (x - mean) } else { 0.0 }, if y > 0.0 { dy } else { 0.0 }]
        ),
        None => sums_over!(L, |x = x, dy = dy| [dy.mul(x.sub(centre)), dy], [dy * (x - mean), dy]),
    }
}

/// The gradient of a plane, and of what was added to it.
#[inline(always)]
pub(super) fn input_grad<L: Lanes>(
    Passed { dy, y }: Passed<'_>,
    x: &[f32],
    by: [f32; 4],
    dx: &mut [f32],
    mut dother: Option<&mut [f32]>,
) {
    let ([mean, a, b, c], cells) = (by.map(L::splat), x.len());
    let mut i = 0;
    while i + L::N <= cells {
        let dy = L::load(&dy[i..]);
        let dy = y.map_or(dy, |y| open(dy, L::load(&y[i..])));
        if let Some(d) = &mut dother {
            dy.store(&mut d[i..]);
        }
        a.mul_add(dy, b.mul_add(L::load(&x[i..]).sub(mean), c)).store(&mut dx[i..]);
        i += L::N;
    }
    if i < cells {
        let dy = L::load_part(&dy[i..]);
        let dy = y.map_or(dy, |y| open(dy, L::load_part(&y[i..])));
        if let Some(d) = &mut dother {
            dy.store_part(&mut d[i..]);
        }
        a.mul_add(dy, b.mul_add(L::load_part(&x[i..]).sub(mean), c)).store_part(&mut dx[i..]);
    }
}
