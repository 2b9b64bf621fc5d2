//! What the processes of a run agree on. With one process there is nothing to agree on, and nothing is done.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use ocelli_data::BadFile;
use ocelli_models::weights::{read_safetensors, write_safetensors};

use super::{Listen, Trainer};
use crate::checkpoint::{Checkpoint, checksum};
use crate::task::Task;
use crate::{Event, TrainError};

/// What all processes do after a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreed {
    /// One of them was asked to stop: all do.
    pub stop: bool,
    /// The first finds a checkpoint due.
    pub save: bool,
}

impl<T: Task> Trainer<T> {
    /// As [`Trainer::resume`], in the processes that write nothing: from the checkpoint in the folder `root` that the first takes.
    ///
    /// # Errors
    /// As there, and when the first found none that this process can read.
    pub fn follow(&mut self, root: &Path) -> Result<(), TrainError> {
        let mut name = Vec::new();
        self.task.world().broadcast(&mut name);
        match String::from_utf8(name).ok().filter(|name| !name.is_empty()) {
            None => self.init().map(|_| ()),
            Some(name) => {
                let checkpoint = Checkpoint::read(&root.join(&name))?;
                self.go_on(&root.join(&name), checkpoint)?;
                self.resumed_from = Some(name);
                Ok(())
            }
        }
    }

    /// Whether to stop and to save, the same in every process; `save` counts in the first.
    pub(super) fn agreed(&self, save: bool) -> Agreed {
        let (world, stop) = (self.task.world(), self.stop.load(Ordering::Relaxed));
        if world.size() == 1 {
            return Agreed { stop, save };
        }
        let mut wishes = [f32::from(u8::from(stop)), f32::from(u8::from(save && world.is_first()))];
        world.sum(&mut wishes);
        Agreed { stop: wishes[0] > 0.0, save: wishes[1] > 0.0 }
    }

    /// Puts the unreadable images of all processes together, in every one of them.
    pub(super) fn share_bad(&mut self) -> Result<(), TrainError> {
        let world = self.task.world();
        if world.size() == 1 {
            return Ok(());
        }
        let garbled = |e: serde_json::Error| TrainError::Device(format!("cannot exchange unreadable images: {e}"));
        let own = serde_json::to_vec(&self.task.bad()).map_err(garbled)?;
        for known in world.gather_bytes(&own) {
            let known: BTreeMap<usize, BadFile> = serde_json::from_slice(&known).map_err(garbled)?;
            self.task.add_bad(&known);
        }
        Ok(())
    }

    /// Compares what all processes hold at the end of an epoch. Those that differ from the first take what it has, and it is told:
    /// cards of different kinds may round differently.
    pub(super) fn align(&mut self, listen: Listen<'_>) -> Result<(), TrainError> {
        if self.task.world().size() == 1 {
            return Ok(());
        }
        let state = self.task.state()?;
        let world = self.task.world();
        let sums = world.gather_bytes(checksum(&state).as_bytes());
        let strays: Vec<usize> = (1..sums.len()).filter(|rank| sums[*rank] != sums[0]).collect();
        if strays.is_empty() {
            return Ok(());
        }
        let mut bytes = if world.is_first() { write_safetensors(&state)? } else { Vec::new() };
        world.broadcast(&mut bytes);
        if strays.contains(&world.rank()) {
            self.task.load(&read_safetensors(&bytes)?)?;
        }
        let names: Vec<String> = strays.iter().map(usize::to_string).collect();
        let message = format!(
            "after epoch {} the parameters of rank {} differed from those of rank 0, which now has them too; are the devices of one \
             kind?",
            self.position.epochs_done + 1,
            names.join(", ")
        );
        listen(&Event::Warning { message })
    }
}
