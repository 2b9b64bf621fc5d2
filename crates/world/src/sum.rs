//! Sums over ranks whose bits depend on neither the transport nor the number of values.

use std::ops::Range;

use crate::World;

/// So many values are sent to all; of more, every rank adds a part.
const FEW: usize = 4096;

/// See [`World::sum`](crate::World::sum).
pub fn sum<W: World + ?Sized>(world: &W, values: &mut [f32]) {
    let (rank, size) = (world.rank(), world.size());
    if size == 1 {
        return;
    }
    if values.len() <= FEW {
        let all = world.exchange(&vec![bytemuck::cast_slice(values); size]);
        add_in_order(values, &all);
        return;
    }
    let parts: Vec<Range<usize>> = (0..size).map(|r| part(values.len(), size, r)).collect();
    let to: Vec<&[u8]> = parts.iter().map(|part| bytemuck::cast_slice(&values[part.clone()])).collect();
    let all = world.exchange(&to);
    let own = parts[rank].clone();
    add_in_order(&mut values[own.clone()], &all);
    let sums = world.exchange(&vec![bytemuck::cast_slice(&values[own]); size]);
    for (part, bytes) in parts.into_iter().zip(sums) {
        assert!(bytes.len() == 4 * part.len(), "ranks sum different numbers of values");
        bytemuck::cast_slice_mut(&mut values[part]).copy_from_slice(&bytes);
    }
}

/// The values that rank `r` of `size` adds.
fn part(len: usize, size: usize, r: usize) -> Range<usize> {
    r * len / size..(r + 1) * len / size
}

/// Replaces values by the sums of what all ranks sent, the first rank's first.
fn add_in_order(values: &mut [f32], all: &[Vec<u8>]) {
    for (rank, bytes) in all.iter().enumerate() {
        assert!(bytes.len() == 4 * values.len(), "ranks sum different numbers of values");
        let given = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value));
        for (sum, value) in values.iter_mut().zip(given) {
            *sum = if rank == 0 { value } else { *sum + value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_threads;

    /// Values whose sum depends on the order they are added in.
    fn value(rank: usize, i: usize) -> f32 {
        let scale = [1e8, 1.0, -1e8, 0.37][(rank + i) % 4];
        scale + 0.1 * (i % 97) as f32
    }

    #[test]
    fn every_rank_has_the_bits_of_adding_in_order() {
        for (ranks, len) in [(2, 1), (3, FEW), (3, FEW + 1), (4, 3 * FEW + 5), (5, 7), (1, 10)] {
            let expected: Vec<u32> = (0..len)
                .map(|i| (1..ranks).fold(value(0, i), |sum, rank| sum + value(rank, i)).to_bits())
                .collect();
            let found = on_threads(ranks, |world| {
                let mut values: Vec<f32> = (0..len).map(|i| value(world.rank(), i)).collect();
                world.sum(&mut values);
                values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            });
            assert_eq!(found, vec![expected; ranks], "{ranks} ranks, {len} values");
        }
    }

    #[test]
    fn parts_cover_everything_once() {
        for (len, size) in [(5000, 3), (4097, 64), (10_000, 7)] {
            let all: Vec<usize> = (0..size).flat_map(|r| part(len, size, r)).collect();
            assert_eq!(all, (0..len).collect::<Vec<_>>());
        }
    }
}
