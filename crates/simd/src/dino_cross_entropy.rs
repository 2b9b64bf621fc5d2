//! The DINO loss: one image, all its views, is one task.

use crate::{Lanes, alloc, math, parallel, simd_fn};

/// What every image needs.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// `[views·batch, k]`, view by view.
    pub student: &'a [f32],
    /// `[2·batch, k]`, of the global views, which the student's first two are.
    pub teacher: &'a [f32],
    /// `[k]`.
    pub centre: &'a [f32],
    /// Images.
    pub batch: usize,
    /// Views of each, 2 or more.
    pub views: usize,
    /// What the student's scores are divided by.
    pub student_temp: f32,
    /// What the teacher's are.
    pub teacher_temp: f32,
}

/// The mean cross-entropy between the teacher's global views and the student's other views; the gradient of the student to
/// `grad`, if there is room for it.
pub fn loss(setting: &Setting<'_>, grad: Option<&mut [f32]>) -> f32 {
    let (batch, views, k) = (setting.batch, setting.views, setting.centre.len());
    // The gradient's rows of each image, in the order of the views.
    let mut rows: Vec<Vec<&mut [f32]>> = (0..batch).map(|_| Vec::new()).collect();
    if let Some(grad) = grad {
        for (i, row) in grad.chunks_exact_mut(k).enumerate() {
            rows[i % batch].push(row);
        }
    }
    let mut losses = vec![0.0f64; batch];
    let tasks = losses.iter_mut().zip(rows).enumerate().collect();
    parallel::run(tasks, |(b, (loss, rows)): (usize, (&mut f64, Vec<&mut [f32]>))| {
        *loss = image(setting, b, rows);
    });
    let total: f64 = losses.iter().sum();
    (total / (2 * (views - 1) * batch) as f64) as f32
}

/// `room = e^((x − max)·factor)`; returns the maximum and the sum.
#[inline(always)]
fn exponentials<L: Lanes>(x: &[f32], factor: f32, room: &mut [f32]) -> (f32, f32) {
    let k = x.len();
    let mut top = L::splat(f32::NEG_INFINITY);
    let mut i = 0;
    while i + L::N <= k {
        top = top.max(L::load(&x[i..]));
        i += L::N;
    }
    let mut max = top.largest();
    for &x in &x[i..] {
        max = if max > x { max } else { x };
    }
    let (top, scale) = (L::splat(max), L::splat(factor));
    let mut sums = L::splat(0.0);
    let mut i = 0;
    while i + L::N <= k {
        let e = math::exp(L::load(&x[i..]).sub(top).mul(scale));
        e.store(&mut room[i..]);
        sums = sums.add(e);
        i += L::N;
    }
    let mut sum = sums.sum();
    if i < k {
        math::exp(L::load_part(&x[i..]).sub(top).mul(scale)).store_part(&mut room[i..]);
        for &e in &room[i..] {
            sum += e;
        }
    }
    (max, sum)
}

simd_fn! {
    /// Sum of the cross-entropies of one image; its gradient to `rows`, one per view or none at all.
    fn image<L>(setting: &Setting<'_>, b: usize, rows: Vec<&mut [f32]>) -> f64 {
        let k = setting.centre.len();
        let row = |of: usize| (of * setting.batch + b) * k;
        // What views 0, 1 and the others are compared with: the other global view, or both.
        let mut targets = alloc::scratch(3 * k);
        let (one, rest) = targets.split_at_mut(k);
        let (zero, both) = rest.split_at_mut(k);
        for (i, target) in [&mut *zero, &mut *one].into_iter().enumerate() {
            for ((x, &t), &c) in both.iter_mut().zip(&setting.teacher[row(i)..]).zip(setting.centre) {
                *x = t - c;
            }
            let (_, sum) = exponentials::<L>(both, 1.0 / setting.teacher_temp, target);
            for x in target {
                *x /= sum;
            }
        }
        for ((both, a), b) in both.iter_mut().zip(&*one).zip(&*zero) {
            *both = a + b;
        }
        let factor = 1.0 / setting.student_temp;
        let step = factor / (2 * (setting.views - 1) * setting.batch) as f32;
        let mut own = alloc::scratch(if rows.is_empty() { k } else { 0 });
        let mut rows = rows.into_iter();
        let mut loss = 0.0;
        for view in 0..setting.views {
            let (target, count): (&[f32], f32) = match view {
                0 => (one, 1.0),
                1 => (zero, 1.0),
                _ => (both, 2.0),
            };
            let x = &setting.student[row(view)..][..k];
            let grad = rows.next();
            let wanted = grad.is_some();
            let room = grad.unwrap_or(&mut own);
            let (max, sum) = exponentials::<L>(x, factor, room);
            let (top, share, step) = (L::splat(max), L::splat(count / sum), L::splat(step));
            let mut along = L::splat(0.0);
            let mut i = 0;
            while i + L::N <= k {
                let t = L::load(&target[i..]);
                along = L::load(&x[i..]).sub(top).mul_add(t, along);
                if wanted {
                    let e = L::load(&room[i..]);
                    e.mul(share).sub(t).mul(step).store(&mut room[i..]);
                }
                i += L::N;
            }
            if i < k {
                // Lanes beyond the row have a target of zero.
                let t = L::load_part(&target[i..]);
                along = L::load_part(&x[i..]).sub(top).mul_add(t, along);
                if wanted {
                    let e = L::load_part(&room[i..]);
                    e.mul(share).sub(t).mul(step).store_part(&mut room[i..]);
                }
            }
            loss += f64::from(count) * f64::from(sum).ln() - f64::from(along.sum()) * f64::from(factor);
        }
        loss
    }
}
