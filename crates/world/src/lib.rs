//! What the processes of one run share. Each of them is a rank, numbered from 0.
//!
//! [`World`] has one exchange of messages that an implementation gives, and everything else on top of it: sums, gathers,
//! broadcasts. [`Alone`] is the world of a single process and sends nothing. [`threads()`] makes ranks of threads, for tests and
//! for trying things out; `ocelli-world-mpi` has the one over MPI.
//!
//! All ranks call the same functions in the same order. A function returns when this rank has what it asked for.
//!
//! ```
//! let ranks = ocelli_world::threads(3);
//! let sums: Vec<Vec<f32>> = std::thread::scope(|scope| {
//!     let rank = |world: &ocelli_world::Shared| {
//!         let mut values = vec![world.rank() as f32, 1.0];
//!         world.sum(&mut values);
//!         values
//!     };
//!     let running: Vec<_> = ranks.iter().map(|world| scope.spawn(move || rank(world))).collect();
//!     running.into_iter().filter_map(|thread| thread.join().ok()).collect()
//! });
//! assert_eq!(sums, vec![vec![3.0, 3.0]; 3]);
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod buckets;
mod cost;
mod sum;
#[cfg(not(target_family = "wasm"))]
mod threads;
mod wire;

pub use buckets::{BUCKET_BYTES, buckets};
pub use cost::{Link, SumCost, slowest};
#[cfg(not(target_family = "wasm"))]
pub use threads::threads;
pub use wire::Wire;

use std::fmt::Debug;
use std::sync::Arc;

/// A world that several owners hold.
pub type Shared = Arc<dyn World>;

/// Bytes of a message in which a long text is sent: transports count in 32 bits.
const PIECE: usize = 64 << 20;

/// The processes of a run, seen from one of them.
pub trait World: Debug + Send + Sync {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Number of this process among those on its machine, from 0.
    fn local_rank(&self) -> usize;

    /// Sends `to[r]` to every rank r, and returns what each of them sent here, in the order of ranks (`to[rank]` of its own
    /// among them). Messages may be of any length below 2 GiB, and empty.
    fn exchange(&self, to: &[&[u8]]) -> Vec<Vec<u8>>;

    /// Ends all processes with this exit code, whatever they are doing.
    fn abort(&self, code: i32) -> !;

    /// Takes leave of the others, once all have got as far: nothing is exchanged after it.
    fn close(&self) {}

    /// Whether this is the one that writes and reports.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// What every rank gives, in the order of ranks; lengths may differ.
    fn gather_bytes(&self, own: &[u8]) -> Vec<Vec<u8>> {
        self.exchange(&vec![own; self.size()])
    }

    /// What every rank gives, in the order of ranks; lengths may differ.
    fn gather(&self, own: &[f32]) -> Vec<Vec<f32>> {
        let all = self.gather_bytes(bytemuck::cast_slice(own));
        all.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect()
    }

    /// What every rank gives, in the order of ranks, on the first alone; the others get nothing. Of any length.
    fn collect(&self, own: &[u8]) -> Vec<Vec<u8>> {
        let lengths = self.gather_bytes(&(own.len() as u64).to_le_bytes());
        let length = |bytes: &Vec<u8>| bytes.as_slice().try_into().map_or(0, u64::from_le_bytes) as usize;
        let longest = lengths.iter().map(length).max().unwrap_or(0);
        let mut all = vec![Vec::new(); self.size()];
        for start in (0..longest).step_by(PIECE) {
            let piece = own.get(start.min(own.len())..(start + PIECE).min(own.len())).unwrap_or_default();
            let mut to: Vec<&[u8]> = vec![&[]; self.size()];
            to[0] = piece;
            all.iter_mut().zip(self.exchange(&to)).for_each(|(all, piece)| all.extend(piece));
        }
        if self.is_first() { all } else { Vec::new() }
    }

    /// The sum over all ranks, element by element, with the same bits on every rank: each element is added in the order of
    /// ranks, ((v₀ + v₁) + v₂) + …, whatever its place and however many there are. All ranks give as many.
    ///
    /// Up to 4,096 values every rank gets those of all others and adds them itself. Of more, every rank adds a part and sends
    /// it round, so that each of them sends and receives about twice the values, however many ranks there are.
    ///
    /// # Panics
    /// When ranks give different numbers of values.
    fn sum(&self, values: &mut [f32]) {
        self.sum_as(values, Wire::F32);
    }

    /// [`World::sum`] of values that travel as `wire` says, where every rank adds a part. As halves, what comes from another rank
    /// is rounded once, and so are the sums; a rank's own values are not rounded where it adds them. Every rank gets the same bits.
    ///
    /// # Panics
    /// When ranks give different numbers of values.
    fn sum_as(&self, values: &mut [f32], wire: Wire) {
        sum::sum(self, values, wire);
    }

    /// What rank 0 has, on every rank.
    fn broadcast(&self, bytes: &mut Vec<u8>) {
        if self.size() == 1 {
            return;
        }
        let first = self.is_first();
        let from_first = |piece: &[u8]| {
            let own: &[u8] = if first { piece } else { &[] };
            self.gather_bytes(own).into_iter().next().unwrap_or_default()
        };
        let length = from_first(&(bytes.len() as u64).to_le_bytes());
        let length = length.try_into().map_or(0, u64::from_le_bytes) as usize;
        let mut all = Vec::new();
        while all.len() < length {
            let end = (all.len() + PIECE).min(length);
            let piece = from_first(bytes.get(all.len()..end).unwrap_or_default());
            all.extend(piece);
        }
        *bytes = all;
    }

    /// Waits until every rank is here.
    fn barrier(&self) {
        if self.size() > 1 {
            self.gather_bytes(&[]);
        }
    }
}

/// One process, which shares with nobody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alone;

impl World for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn local_rank(&self) -> usize {
        0
    }

    fn exchange(&self, to: &[&[u8]]) -> Vec<Vec<u8>> {
        to.iter().map(|own| own.to_vec()).collect()
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}

/// What `each` makes of every rank's part of a world of threads, in their order.
#[cfg(test)]
fn on_threads<T: Send>(ranks: usize, each: impl Fn(&dyn World) -> T + Sync) -> Vec<T> {
    let worlds = threads(ranks);
    std::thread::scope(|scope| {
        let running: Vec<_> = worlds.iter().map(|world| scope.spawn(|| each(world.as_ref()))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_get_what_each_gave_in_the_order_of_ranks() {
        let found = on_threads(4, |world| world.gather(&vec![world.rank() as f32; world.rank()]));
        let expected: Vec<Vec<f32>> = (0..4).map(|rank| vec![rank as f32; rank]).collect();
        assert_eq!(found, vec![expected; 4]);
    }

    #[test]
    fn every_rank_gets_its_own_message_of_each() {
        let found = on_threads(3, |world| {
            let own = world.rank() as u8;
            let to: Vec<Vec<u8>> = (0..3u8).map(|to| vec![own, to]).collect();
            world.exchange(&to.iter().map(Vec::as_slice).collect::<Vec<_>>())
        });
        for (rank, got) in found.iter().enumerate() {
            let expected: Vec<Vec<u8>> = (0..3u8).map(|from| vec![from, rank as u8]).collect();
            assert_eq!(*got, expected);
        }
    }

    #[test]
    fn the_first_alone_gets_what_all_give() {
        let found = on_threads(3, |world| world.collect(&vec![world.rank() as u8; 2 * world.rank()]));
        let expected: Vec<Vec<u8>> = (0..3u8).map(|rank| vec![rank; 2 * usize::from(rank)]).collect();
        assert_eq!(found, vec![expected, Vec::new(), Vec::new()]);
    }

    #[test]
    fn all_have_what_the_first_has() {
        let found = on_threads(3, |world| {
            let mut bytes = vec![world.rank() as u8 + 7; 5 - world.rank()];
            world.broadcast(&mut bytes);
            let mut nothing = if world.is_first() { Vec::new() } else { vec![1] };
            world.broadcast(&mut nothing);
            world.barrier();
            (bytes, nothing)
        });
        assert_eq!(found, vec![(vec![7; 5], Vec::new()); 3]);
    }

    #[test]
    fn alone_nothing_changes() {
        let mut values = [1.5, -2.0];
        Alone.sum(&mut values);
        assert_eq!(values, [1.5, -2.0]);
        assert_eq!(Alone.gather(&values), vec![values.to_vec()]);
        let mut bytes = vec![1, 2];
        Alone.broadcast(&mut bytes);
        assert_eq!(bytes, [1, 2]);
    }
}
