//! What [`World::sum`](crate::World::sum) takes over a network, by a model of its messages.

use crate::{BUCKET_BYTES, Wire};

/// The wait for a message looks again after 50 µs, then after twice as long each time, up to 1 ms: half of the last wait is lost
/// on average.
const POLL_S: f64 = 5e-4;

/// What a rank takes to send a message and to find one that came, whatever its length: assumed, as MPI's own calls take about a
/// microsecond each.
const MESSAGE_S: f64 = 4e-6;

/// What connects the machines of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Bytes a second that a machine sends while it receives as many.
    pub bytes_per_s: f64,
    /// Seconds until a short message is there.
    pub latency_s: f64,
    /// Ranks on one machine, which share its link. What they send each other does not go over it.
    pub ranks_per_machine: usize,
    /// Seconds in which a rank copies and adds a byte of what is summed, whatever the link.
    pub host_s_per_byte: f64,
    /// Seconds for a byte from one rank of a machine to another: into the memory they share and out of it.
    pub shared_s_per_byte: f64,
}

/// Where the time of a sum goes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SumCost {
    /// Bytes under way between machines.
    pub wire_s: f64,
    /// Waiting for messages to set out and to be seen.
    pub wait_s: f64,
    /// Copying and adding.
    pub host_s: f64,
}

impl SumCost {
    /// All of it: nothing is done at the same time as anything else.
    pub fn seconds(&self) -> f64 {
        self.wire_s + self.wait_s + self.host_s
    }
}

impl Link {
    /// What the sum of `bytes` in single precision over so many ranks takes, in buckets that travel as `wire` says.
    ///
    /// Every rank sends each of the others the part that that one adds, and then its own sums to all of them: twice
    /// (W − 1)/W of the bytes in two exchanges for each bucket. The ranks of a machine share its link, and what goes from one of
    /// them to another is not on it: it is copied once more.
    pub fn sum(&self, bytes: f64, ranks: usize, wire: Wire) -> SumCost {
        if ranks < 2 {
            return SumCost::default();
        }
        let machine = self.ranks_per_machine.clamp(1, ranks);
        let outside = (ranks - machine) as f64 / ranks as f64;
        let inside = (machine - 1) as f64 / ranks as f64;
        // What does not fit into one has a short one at each end.
        let buckets = if bytes <= BUCKET_BYTES as f64 { 1.0 } else { (bytes / BUCKET_BYTES as f64).ceil() + 1.0 };
        SumCost {
            wire_s: 2.0 * bytes * wire.share() * outside * machine as f64 / self.bytes_per_s,
            wait_s: 2.0 * buckets * (self.latency_s + POLL_S + MESSAGE_S * (ranks - 1) as f64),
            host_s: bytes * (self.host_s_per_byte + 2.0 * wire.share() * inside * self.shared_s_per_byte),
        }
    }
}

/// Seconds of the slowest of so many processes, on average, when each takes one of these times by chance.
pub fn slowest(times_s: &[f64], ranks: usize) -> f64 {
    let mut sorted = times_s.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The share of draws whose largest is among the first i + 1.
    let share = |i: usize| (i as f64 / sorted.len() as f64).powf(ranks as f64);
    sorted.iter().enumerate().map(|(i, time)| time * (share(i + 1) - share(i))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link {
        bytes_per_s: 1e9,
        latency_s: 1e-4,
        ranks_per_machine: 1,
        host_s_per_byte: 1e-9,
        shared_s_per_byte: 4e-10,
    };

    #[test]
    fn the_slowest_of_many_is_the_largest() {
        let times = [3.0, 1.0];
        assert!((slowest(&times, 1) - 2.0).abs() < 1e-12, "the mean");
        // Both fast in one of four cases.
        assert!((slowest(&times, 2) - 2.5).abs() < 1e-12);
        assert!((slowest(&times, 1000) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_sent_where_there_is_nobody() {
        assert_eq!(LINK.sum(1e9, 1, Wire::F32), SumCost::default());
    }

    #[test]
    fn every_rank_sends_about_twice_the_bytes() {
        let bytes = 50e6;
        assert!((LINK.sum(bytes, 2, Wire::F32).wire_s - 0.05).abs() < 1e-12, "half of them twice");
        assert!((LINK.sum(bytes, 100, Wire::F32).wire_s - 0.099).abs() < 1e-12);
        // Two buckets' bytes in three, two exchanges each.
        assert!((LINK.sum(bytes, 100, Wire::F32).wait_s - 6.0 * (6e-4 + 99.0 * 4e-6)).abs() < 1e-12);
        assert!((LINK.sum(bytes, 2, Wire::F32).host_s - 0.05).abs() < 1e-12, "as much for any number of ranks");
        let halves = LINK.sum(bytes, 2, Wire::F16).wire_s;
        assert!((halves - 0.025 * (1.0 + 2.0 / 1024.0)).abs() < 1e-12, "and a scale for each 1,024 values");
    }

    #[test]
    fn ranks_of_a_machine_share_its_link_and_send_each_other_nothing_over_it() {
        let four = Link { ranks_per_machine: 4, ..LINK };
        let inside = four.sum(1e6, 4, Wire::F32);
        assert!(inside.wire_s.abs() < 1e-15);
        assert!((inside.host_s - 1e6 * (1e-9 + 1.5 * 4e-10)).abs() < 1e-12, "three quarters, twice");
        // Of 8 ranks half are on the other machine, and four send at once.
        assert!((four.sum(1e6, 8, Wire::F32).wire_s - 4.0 * 2.0 * 0.5e6 / 1e9).abs() < 1e-15);
    }
}
