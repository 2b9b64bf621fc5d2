//! Sums over ranks whose bits depend on neither the transport nor the number of values.

use std::borrow::Cow;
use std::ops::Range;

use crate::World;
use crate::wire::{BLOCK, Wire};

/// So many values are sent to all; of more, every rank adds a part.
const FEW: usize = 4096;

/// See [`World::sum_as`].
pub fn sum<W: World + ?Sized>(world: &W, values: &mut [f32], wire: Wire) {
    let (rank, size) = (world.rank(), world.size());
    if size == 1 {
        return;
    }
    if values.len() <= FEW {
        let all = world.exchange(&vec![bytemuck::cast_slice(values); size]);
        add_in_order(values, rank, &all, Wire::F32);
        return;
    }
    let parts: Vec<Range<usize>> = (0..size).map(|r| part(values.len(), size, r)).collect();
    // What a rank has already is sent to nobody.
    let to = |r: usize| if r == rank { Cow::default() } else { wire.encode(&values[parts[r].clone()]) };
    let messages: Vec<Cow<'_, [u8]>> = (0..size).map(to).collect();
    let all = world.exchange(&messages.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>());
    drop(messages);
    let own = &mut values[parts[rank].clone()];
    add_in_order(own, rank, &all, wire);
    let encoded = wire.encode(own);
    let to = |r: usize| -> &[u8] { if r == rank { &[] } else { encoded.as_ref() } };
    let sums = world.exchange(&(0..size).map(to).collect::<Vec<_>>());
    if wire != Wire::F32 {
        // As the others get it.
        let encoded = encoded.into_owned();
        wire.decode(&encoded, own);
    }
    for (_, (part, bytes)) in parts.into_iter().zip(sums).enumerate().filter(|(r, _)| *r != rank) {
        wire.decode(&bytes, &mut values[part]);
    }
}

/// The values that rank `r` of `size` adds.
fn part(len: usize, size: usize, r: usize) -> Range<usize> {
    r * len / size..(r + 1) * len / size
}

/// Adds what the other ranks sent to the values of this one, the first rank's first.
fn add_in_order(own: &mut [f32], rank: usize, all: &[Vec<u8>], wire: Wire) {
    let others = || all.iter().enumerate().filter(|(r, _)| *r != rank);
    let expected = wire.bytes(own.len());
    assert!(others().all(|(_, bytes)| bytes.len() == expected), "ranks sum different numbers of values");
    let (mut sums, mut given) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
    for (i, own) in own.chunks_mut(BLOCK).enumerate() {
        let (sums, given) = (&mut sums[..own.len()], &mut given[..own.len()]);
        for (r, bytes) in all.iter().enumerate() {
            if r == rank {
                given.copy_from_slice(own);
            } else {
                let start = i * wire.bytes(BLOCK);
                wire.decode(&bytes[start..start + wire.bytes(given.len())], given);
            }
            match r {
                0 => sums.copy_from_slice(given),
                _ => sums.iter_mut().zip(given.iter()).for_each(|(sum, value)| *sum += value),
            }
        }
        own.copy_from_slice(sums);
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

    /// Two roundings of what others give, and one of the sum: with its bits on every rank.
    #[test]
    fn halves_are_close_and_the_same_everywhere() {
        for (ranks, len) in [(2, FEW + 1), (3, 2 * FEW + 777), (3, 5)] {
            let value = |rank: usize, i: usize| ((i * 37 + rank * 11) % 1001) as f32 * 1e-7 - 3e-5;
            let found = on_threads(ranks, |world| {
                let mut values: Vec<f32> = (0..len).map(|i| value(world.rank(), i)).collect();
                world.sum_as(&mut values, Wire::F16);
                values
            });
            assert!(found.iter().all(|values| *values == found[0]), "{ranks} ranks, {len} values");
            for (i, sum) in found[0].iter().enumerate() {
                let (expected, size) = (0..ranks).fold((0.0f32, 0.0f32), |(sum, size), rank| {
                    (sum + value(rank, i), size + value(rank, i).abs())
                });
                let bound = size / 1024.0 + 1e-12;
                assert!(
                    (sum - expected).abs() <= bound,
                    "{ranks} ranks, value {i} of {len}: {sum}, not {expected}"
                );
            }
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
