//! How much memory there is, and how much something will take, before it is begun.
//!
//! ```
//! use ocelli_train::memory::{Memory, Needs, gb};
//!
//! let needs = Needs { bytes: 3_000_000_000, what: "a network".to_owned(), remedy: "take a smaller one" };
//! assert_eq!(gb(needs.bytes), "3.0 GB");
//! assert!(Memory::Own(Some(1_000_000_000)).check(&needs).is_err());
//! assert!(Memory::Own(Some(4_000_000_000)).check(&needs).is_ok());
//! ```

use std::fs;
use std::path::Path;

use ocelli_methods::optim::Optimizer;
use ocelli_models::BackboneConfig;

use crate::{RunConfig, TrainError};

/// The memory a device computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The machine's: of the CPU, of graphics in the processor's package, and of software adapters.
    Host,
    /// The device's own, bytes, where the driver tells.
    Own(Option<u64>),
}

impl Memory {
    /// Bytes that can still be taken: of the machine's memory what is free now, of a device's own all of it.
    pub fn available(self) -> Option<u64> {
        match self {
            Self::Host => host_available(),
            Self::Own(bytes) => bytes,
        }
    }

    /// Refuses what takes more than there is. Where nobody tells how much there is, nothing is refused.
    ///
    /// # Errors
    /// [`TrainError::DoesNotFit`] with both numbers.
    pub fn check(self, needs: &Needs) -> Result<(), TrainError> {
        self.check_beside(needs, self.available())
    }

    /// The same with what was there before a part of it was taken.
    ///
    /// # Errors
    /// As [`Memory::check`].
    pub fn check_beside(self, needs: &Needs, available: Option<u64>) -> Result<(), TrainError> {
        match available {
            Some(has) if needs.bytes > has => {
                Err(TrainError::DoesNotFit { needs: needs.clone(), has, place: self.place() })
            }
            _ => Ok(()),
        }
    }

    fn place(self) -> &'static str {
        match self {
            Self::Host => "free on this machine",
            Self::Own(_) => "on the device",
        }
    }
}

/// What something takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Bytes in all, at least.
    pub bytes: u64,
    /// What takes them, in words.
    pub what: String,
    /// What to change, in words.
    pub remedy: &'static str,
}

/// Numbers are f32 everywhere.
const BYTES: u64 = 4;

impl Needs {
    /// Inference of a backbone on a batch of square images.
    pub fn inference(backbone: &BackboneConfig, batch: usize, size_px: usize) -> Self {
        let weights = BYTES * backbone.num_parameters() as u64;
        let passing = BYTES * (batch * backbone.activations(size_px)) as u64;
        let images = if batch == 1 { "1 image".to_owned() } else { format!("{batch} images") };
        Self {
            bytes: weights + passing,
            what: format!("{} for its weights, {} for {images} passing through", gb(weights), gb(passing)),
            remedy: "a smaller --batch or --size takes less",
        }
    }

    /// Training with a configuration, as far as it is known before anything is built: the backbone without head and without
    /// what follows it.
    pub fn training(config: &RunConfig) -> Self {
        let backbone = config.backbone();
        // Weights, gradients, and what the optimizer keeps of them.
        let copies = 2 + Optimizer::new(&config.optim).memory() as u64;
        let state = copies * BYTES * backbone.num_parameters() as u64;
        Self::of_training(config, state, "the backbone's weights, gradients and moments")
    }

    /// Training with a configuration whose networks, gradients, moments and so on take `state` bytes.
    pub fn training_with(config: &RunConfig, state: u64) -> Self {
        Self::of_training(config, state, "networks, gradients, moments and what is held between steps")
    }

    fn of_training(config: &RunConfig, state: u64, what: &str) -> Self {
        let backbone = config.backbone();
        let views = config.view_plan().views;
        let all: usize = views.iter().map(|view| backbone.training_activations(view.size_px as usize)).sum();
        let images = config.batch_size / config.accumulate.max(1);
        // Every method sends half of what it looks at, or more, through the network that is trained.
        let kept = BYTES * (images * all / 2) as u64;
        Self {
            bytes: state + kept,
            what: format!(
                "{} for {what}, {} for what {images} images at a time leave for the backward pass",
                gb(state),
                gb(kept)
            ),
            remedy: "raise accumulate, which computes a batch in parts, lower batch_size, or take a smaller --arch",
        }
    }
}

/// Bytes as people say them.
pub fn gb(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= 9.95e9 => format!("{:.0} GB", b / 1e9),
        b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
        b => format!("{:.0} MB", b / 1e6),
    }
}

/// Bytes of the machine's memory that this process may still take, where the system tells: what is free or can be freed at
/// once, and no more than a container leaves.
pub fn host_available() -> Option<u64> {
    let free = kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(container_available().map_or(free, |limit| limit.min(free)))
}

/// The most memory that this process has had in use, bytes, where the system tells.
pub fn host_peak() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// What the control groups around this process leave (version 2).
fn container_available() -> Option<u64> {
    const ROOT: &str = "/sys/fs/cgroup";
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let left = |folder: &Path| {
        let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
        let (most, used) = (number("memory.max")?, number("memory.current")?);
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        // Files that were read lately count as used, and go when room is needed.
        let cached: u64 = stat.lines().find_map(|l| l.strip_prefix("inactive_file ")?.parse().ok()).unwrap_or(0);
        Some((most + cached).saturating_sub(used).min(most))
    };
    let folder = Path::new(ROOT).join(group);
    folder.ancestors().take_while(|f| f.starts_with(ROOT)).filter_map(left).min()
}

/// The largest resident set of this process so far, bytes, where the system tells.
pub fn peak_resident() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Begins to count [`peak_resident`] anew; false where the system does not let us.
pub fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// A line `NAME   123 kB` in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve;

    fn config(sets: &[&str]) -> RunConfig {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        resolve(None, None, &sets).unwrap()
    }

    #[test]
    fn lines_of_the_system_are_read() {
        let text = "MemTotal:       24577356 kB\nMemAvailable:   20000000 kB\nVmHWM:\t    1204 kB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), Some(20_480_000_000));
        assert_eq!(kilobytes(text, "VmHWM:"), Some(1_232_896));
        assert_eq!(kilobytes(text, "Swap:"), None);
        if cfg!(target_os = "linux") {
            assert!(host_available().unwrap() > 1 << 20);
            assert!(peak_resident().unwrap() > 1 << 20);
        }
    }

    /// 586.45 M values four times over are 9.38 GB before a single image.
    #[test]
    fn what_is_too_large_is_refused_with_both_numbers() {
        let large = config(&["method=moco", "arch=resnet-50x5", "batch_size=64", "resnet.norm_groups=1"]);
        let needs = Needs::training(&large);
        let state = 4 * 3 * 586_450_240;
        assert!(needs.bytes > state + 20_000_000_000, "{needs:?}");
        let message = Memory::Own(Some(16_000_000_000)).check(&needs).unwrap_err().to_string();
        for words in ["7.0 GB for the backbone's", "64 images at a time", "16 GB on the device", "accumulate"] {
            assert!(message.contains(words), "expected \"{words}\" in: {message}");
        }
        assert!(Memory::Own(None).check(&needs).is_ok());
        let parts =
            config(&["method=moco", "arch=resnet-50x5", "batch_size=64", "accumulate=64", "resnet.norm_groups=1"]);
        assert!(Needs::training(&parts).bytes < state + 1_000_000_000);
        assert!(Memory::Own(Some(1 << 40)).check(&needs).is_ok());
    }

    #[test]
    fn inference_takes_weights_and_a_batch() {
        let backbone = config(&["method=moco", "arch=resnet-50"]).backbone();
        let [one, eight] = [1, 8].map(|batch| Needs::inference(&backbone, batch, 224).bytes);
        let weights = 4 * 23_508_032;
        assert!(one > weights && (eight - weights) == 8 * (one - weights), "{one} {eight}");
        assert_eq!(gb(375_378_176 * 4), "1.5 GB");
        assert_eq!(gb(22_300_000_000), "22 GB");
    }
}
