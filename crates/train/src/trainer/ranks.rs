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

    /// The first process's answer, in every one of them.
    pub(super) fn of_first(&self, answer: bool) -> bool {
        let world = self.task.world();
        if world.size() == 1 {
            return answer;
        }
        let mut answers = [f32::from(u8::from(answer && world.is_first()))];
        world.sum(&mut answers);
        answers[0] > 0.0
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use burn::tensor::Device;
    use ocelli_data::{SceneConfig, SceneSource, Source};
    use ocelli_world::{Shared, World, threads};

    use super::*;
    use crate::config::resolve;

    fn trainer(world: Shared) -> Trainer {
        let sets = [
            "arch=vit-32x1x2/8",
            "epochs=1",
            "batch_size=4",
            "accumulate=2",
            "dino.head.out_dim=32",
            "dino.head.hidden_dim=16",
            "eval.every_epochs=0",
            "loader.threads=1",
        ];
        let config = resolve(Some("laptop"), None, &sets.map(str::to_owned)).unwrap();
        let scenes = SceneSource::new(SceneConfig { count: 8, size_px: 32, ..SceneConfig::default() }).unwrap();
        let source: Arc<dyn Source> = Arc::new(scenes);
        Trainer::new_in(world, &config, &Device::flex(), &source, None).unwrap()
    }

    /// One process that a launcher started: it counts its messages.
    #[derive(Debug, Default)]
    struct Counted(AtomicUsize);

    impl World for Counted {
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
            self.0.fetch_add(1, Ordering::Relaxed);
            to.iter().map(|own| own.to_vec()).collect()
        }

        fn abort(&self, code: i32) -> ! {
            panic!("code {code}")
        }
    }

    /// What a launcher's world costs a run of one process: nothing is sent, and so nobody waits.
    #[test]
    fn one_process_sends_itself_nothing() {
        let world = Arc::new(Counted::default());
        let mut trainer = trainer(world.clone());
        let mut steps = 0;
        let mut listen = |event: &Event| {
            steps += usize::from(matches!(event, Event::Tick { .. }));
            Ok(())
        };
        trainer.run(None, &mut listen).unwrap();
        assert_eq!((steps, world.0.load(Ordering::Relaxed)), (2, 0));
    }

    /// What two ranks hold after they were compared, and what they were told; rank 1 holds what `change` makes of it.
    fn aligned(change: impl Fn(&mut Vec<f32>) + Sync) -> Vec<(String, Vec<String>)> {
        let worlds = threads(2);
        let (worlds, change) = (&worlds, &change);
        let rank = |rank: usize| {
            let mut trainer = trainer(worlds[rank].clone());
            let mut state = trainer.task.state().unwrap();
            if rank == 1 {
                change(&mut state.tensors[0].1.values);
                trainer.task.load(&state).unwrap();
            }
            let mut told = Vec::new();
            let mut listen = |event: &Event| {
                if let Event::Warning { message } = event {
                    told.push(message.clone());
                }
                Ok(())
            };
            trainer.align(&mut listen).unwrap();
            (checksum(&trainer.task.state().unwrap()), told)
        };
        std::thread::scope(|scope| {
            let running = [0, 1].map(|number| scope.spawn(move || rank(number)));
            running.map(|thread| thread.join().unwrap()).into()
        })
    }

    #[test]
    fn a_rank_that_differs_takes_what_the_first_has() {
        let same = aligned(|_| ());
        assert_eq!(same[0], same[1]);
        assert!(same[0].1.is_empty(), "{:?}", same[0].1);
        // The last bit of one value is enough.
        let mended = aligned(|values| values[0] = f32::from_bits(values[0].to_bits() ^ 1));
        assert_eq!(mended[0].0, same[0].0, "the first keeps what it has");
        assert_eq!(mended[1].0, same[0].0);
        assert!(mended[0].1[0].contains("rank 1 differed from those of rank 0"), "{:?}", mended[0].1);
    }
}
