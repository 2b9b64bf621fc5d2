//! Sums over ranks whose bits depend on neither the transport nor the number of values.

use std::ops::Range;

use crate::World;

/// So many values are sent to all; of more, every rank adds a part.
const FEW: usize = 4096;
/// Values that are added at once.
const BLOCK: usize = 1024;

/// See [`World::sum`](crate::World::sum).
pub fn sum<W: World + ?Sized>(world: &W, values: &mut [f32]) {
    let (rank, size) = (world.rank(), world.size());
    if size == 1 {
        return;
    }
    if values.len() <= FEW {
        let all = world.exchange(&vec![bytemuck::cast_slice(values); size]);
        add_in_order(values, rank, &all);
        return;
    }
    let parts: Vec<Range<usize>> = (0..size).map(|r| part(values.len(), size, r)).collect();
    // What a rank has already is sent to nobody.
    let to = |r: usize| if r == rank { &[] } else { bytemuck::cast_slice(&values[parts[r].clone()]) };
    let all = world.exchange(&(0..size).map(to).collect::<Vec<&[u8]>>());
    let own = &mut values[parts[rank].clone()];
    add_in_order(own, rank, &all);
    let to = |r: usize| if r == rank { &[] } else { bytemuck::cast_slice(own) };
    let sums = world.exchange(&(0..size).map(to).collect::<Vec<&[u8]>>());
    for (_, (part, bytes)) in parts.into_iter().zip(sums).enumerate().filter(|(r, _)| *r != rank) {
        assert!(bytes.len() == 4 * part.len(), "ranks sum different numbers of values");
        bytemuck::cast_slice_mut(&mut values[part]).copy_from_slice(&bytes);
    }
}

/// The values that rank `r` of `size` adds.
fn part(len: usize, size: usize, r: usize) -> Range<usize> {
    r * len / size..(r + 1) * len / size
}

/// Adds what the other ranks sent to the values of this one, the first rank's first. In blocks that stay in the nearest cache.
fn add_in_order(own: &mut [f32], rank: usize, all: &[Vec<u8>]) {
    let others = || all.iter().enumerate().filter(|(r, _)| *r != rank);
    assert!(others().all(|(_, bytes)| bytes.len() == 4 * own.len()), "ranks sum different numbers of values");
    for (i, own) in own.chunks_mut(BLOCK).enumerate() {
        let start = i * BLOCK;
        let mut sums = [0.0f32; BLOCK];
        let sums = &mut sums[..own.len()];
        for (r, bytes) in all.iter().enumerate() {
            if r == rank {
                take(sums, own.iter().copied(), r);
            } else {
                let given = bytes.as_chunks::<4>().0[start..start + sums.len()].iter();
                take(sums, given.map(|value| f32::from_le_bytes(*value)), r);
            }
        }
        own.copy_from_slice(sums);
    }
}

/// Sums become the first rank's values, or have another's added.
fn take(sums: &mut [f32], given: impl Iterator<Item = f32>, rank: usize) {
    match rank {
        0 => sums.iter_mut().zip(given).for_each(|(sum, value)| *sum = value),
        _ => sums.iter_mut().zip(given).for_each(|(sum, value)| *sum += value),
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
