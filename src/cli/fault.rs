//! `ocelli fault`, which is not listed: a fault as ours are, so that tests see what a person would.

use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use ocelli::data::{DataError, EvalBatches, EvalConfig, Image, Source, open_source};
use ocelli::train::config::resolve;
use ocelli::train::device::{DeviceChoice, open};
use ocelli::train::{Event, Trainer};

use super::ranks;

/// Fail as a mistake in Ocelli would. For tests of what is said then.
#[derive(Args)]
pub struct FaultArgs {
    /// Where
    #[arg(value_enum, default_value_t = Place::Command)]
    place: Place,
}

#[derive(Clone, Copy, ValueEnum)]
enum Place {
    /// In a command
    Command,
    /// On one of the threads that read images
    Reading,
    /// Within training
    Training,
    /// In the last of several processes, while the others wait for it
    Rank,
}

pub fn run(args: &FaultArgs) -> anyhow::Result<()> {
    let source = open_source("scenes:16")?;
    match args.place {
        Place::Command => past_the_end(),
        Place::Reading => {
            let faulty: Arc<dyn Source> = Arc::new(Faulty(source));
            EvalBatches::all(faulty, EvalConfig::default())?.try_for_each(|batch| batch.map(|_| ()))?;
        }
        Place::Training => {
            let sets = ["arch=vit-32x1x2/8", "batch_size=8", "dino.head.out_dim=64"].map(str::to_owned);
            let config = resolve(Some("demo"), None, &sets)?;
            let device = open(DeviceChoice::Cpu)?;
            let mut trainer = Trainer::new(&config, &device.device, &source, None)?;
            let mut listen = |event: &Event| {
                if matches!(event, Event::Tick { .. }) {
                    past_the_end();
                }
                Ok(())
            };
            trainer.run(None, &mut listen)?;
        }
        Place::Rank => {
            let world = ranks::open()?;
            if world.rank() + 1 == world.size() {
                past_the_end();
            }
            world.sum(&mut [1.0]);
        }
    }
    bail!("expected a panic, found none")
}

/// Reads past the end of a list.
fn past_the_end() {
    let empty: Vec<u32> = std::env::args().skip(usize::MAX).map(|a| a.len() as u32).collect();
    let _ = std::hint::black_box(empty[0]);
}

/// Images that cannot be read for a mistake of ours.
struct Faulty(Arc<dyn Source>);

impl Source for Faulty {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        past_the_end();
        self.0.load(index)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.0.label(index)
    }

    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }

    fn class_names(&self) -> &[String] {
        self.0.class_names()
    }
}
