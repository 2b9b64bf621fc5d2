//! [`World`] over point-to-point messages of MPI.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mpi::Threading;
use mpi::environment::Universe;
use mpi::request;
use mpi::topology::{Communicator as _, SimpleCommunicator};
use mpi::traits::{Destination as _, Equivalence as _, Source as _};
use ocelli_world::World;

/// All messages have one tag: those of two ranks arrive in the order they were sent.
const TAG: i32 = 77;
/// The first wait for a message, and the longest.
const WAITS: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(1)];
/// MPI counts in 32 bits.
const LONGEST: usize = i32::MAX as usize;

/// The processes that an MPI launcher started.
///
/// Waiting is asking again and again with a sleep between, 50 µs at first and up to 1 ms: ranks may share cores with each other
/// and with the threads that read images, and MPI's own waiting takes a core. A rank that is killed ends all others (MPI's
/// default, and the launcher's): no function waits for one that is gone.
pub struct Mpi {
    rank: usize,
    size: usize,
    local_rank: usize,
    /// Ends MPI when it goes. One thread at a time talks to MPI.
    universe: Mutex<Option<Universe>>,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpi").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Mpi {
    /// Takes part in what the launcher started. Once in a process.
    ///
    /// # Errors
    /// In words, when MPI runs in this process already or allows one thread alone.
    pub fn open() -> Result<Self, String> {
        let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Serialized) else {
            return Err("MPI was started in this process before".into());
        };
        // Gradients are sent by another thread than the one that reads them.
        if threading < Threading::Serialized {
            return Err(format!(
                "expected an MPI library that any thread may call (MPI_THREAD_SERIALIZED), found one that allows {threading:?}"
            ));
        }
        let world = universe.world();
        let (rank, size) = (world.rank(), world.size());
        let local_rank = world.split_shared(rank).rank();
        let number = |n: i32| usize::try_from(n).unwrap_or_default();
        Ok(Self {
            rank: number(rank),
            size: number(size),
            local_rank: number(local_rank),
            universe: Mutex::new(Some(universe)),
        })
    }

    /// Version and name of the MPI library.
    pub fn library() -> String {
        let version = mpi::environment::library_version().unwrap_or_default();
        version.split([',', '\n']).next().unwrap_or_default().trim().to_owned()
    }
}

/// A sleep that grows.
struct Idle(Duration);

impl Idle {
    fn wait(&mut self) {
        thread::sleep(self.0);
        self.0 = (self.0 * 2).min(WAITS[1]);
    }
}

impl World for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> usize {
        self.local_rank
    }

    fn exchange(&self, to: &[&[u8]]) -> Vec<Vec<u8>> {
        let open = self.universe.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(open.is_some(), "nothing is exchanged after the end");
        assert!(to.len() == self.size, "{} messages for {} ranks", to.len(), self.size);
        assert!(to.iter().all(|message| message.len() <= LONGEST), "a message of more than {LONGEST} bytes");
        let world = SimpleCommunicator::world();
        let mut from: Vec<Option<Vec<u8>>> = vec![None; self.size];
        from[self.rank] = Some(to[self.rank].to_vec());
        request::scope(|scope| {
            // This rank's neighbour first, so that not all of them send to the first at once.
            let others = (1..self.size).map(|i| (self.rank + i) % self.size);
            let send =
                |rank: usize| world.process_at_rank(rank as i32).immediate_send_with_tag(scope, to[rank], TAG);
            let mut sends: Vec<_> = others.map(send).collect();
            let mut idle = Idle(WAITS[0]);
            while from.iter().any(Option::is_none) {
                let mut came = false;
                for rank in (0..self.size).filter(|rank| from[*rank].is_none()).collect::<Vec<_>>() {
                    let source = world.process_at_rank(rank as i32);
                    let Some((message, status)) = source.immediate_matched_probe_with_tag(TAG) else { continue };
                    let length = usize::try_from(status.count(u8::equivalent_datatype())).unwrap_or_default();
                    let mut bytes = vec![0u8; length];
                    message.matched_receive_into(&mut bytes[..]);
                    from[rank] = Some(bytes);
                    came = true;
                }
                match came {
                    true => idle = Idle(WAITS[0]),
                    false => idle.wait(),
                }
            }
            while let Some(send) = sends.pop() {
                if let Err(unsent) = send.test() {
                    sends.push(unsent);
                    idle.wait();
                }
            }
        });
        from.into_iter().flatten().collect()
    }

    fn abort(&self, code: i32) -> ! {
        SimpleCommunicator::world().abort(code)
    }

    fn close(&self) {
        // MPI's own end waits as well, and takes a core for it.
        self.barrier();
        drop(self.universe.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
