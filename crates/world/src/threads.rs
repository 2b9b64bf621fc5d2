//! Ranks that are threads of one process.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Shared, World};

/// One rank.
#[derive(Debug)]
struct Threads {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Mutex<Vec<Receiver<Vec<u8>>>>,
}

/// A world of so many ranks, one for each thread to take. A rank whose thread ends without the others' leaves them with a panic,
/// not a wait.
pub fn threads(ranks: usize) -> Vec<Shared> {
    let mut to: Vec<Vec<Sender<Vec<u8>>>> = (0..ranks).map(|_| Vec::new()).collect();
    let mut from = Vec::new();
    for _ in 0..ranks {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..ranks).map(|_| channel()).unzip();
        for (to, sender) in to.iter_mut().zip(senders) {
            to.push(sender);
        }
        from.push(receivers);
    }
    let one = |(rank, (to, from))| -> Shared { Arc::new(Threads { rank, to, from: Mutex::new(from) }) };
    to.into_iter().zip(from).enumerate().map(one).collect()
}

impl World for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn local_rank(&self) -> usize {
        self.rank
    }

    fn exchange(&self, to: &[&[u8]]) -> Vec<Vec<u8>> {
        for (sender, message) in self.to.iter().zip(to) {
            // A rank that is gone is missed when its message is.
            let _ = sender.send(message.to_vec());
        }
        let from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        let messages: Result<Vec<_>, _> = from.iter().map(Receiver::recv).collect();
        messages.unwrap_or_else(|_| panic!("a rank of this world is gone"))
    }

    fn abort(&self, code: i32) -> ! {
        panic!("rank {} ends the run with code {code}", self.rank)
    }
}
