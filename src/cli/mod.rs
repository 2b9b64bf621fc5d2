//! One file per subcommand; this one knows their names and what their errors mean to the shell.

mod attention;
mod demo;
mod devices;
mod embed;
mod export;
mod images;
mod knn;
mod presets;
mod pretrain;
mod progress;
mod weights;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ocelli::kernels::{Mode, set_mode};
use ocelli::train::TrainError;
use ocelli::train::device::{self, Chosen, DeviceChoice};

/// Self-supervised vision models, trained on any GPU or none.
#[derive(Parser)]
#[command(
    name = "ocelli",
    version,
    about,
    after_help = "Start here:\n  ocelli demo\n  ocelli pretrain --preset laptop --data photos --out runs/first\n  ocelli attention photo.jpg --weights runs/first"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pre-train a small network on built-in scenes and look at what it attends to (about five minutes on two cores)
    Demo(demo::DemoArgs),
    /// Pre-train a network on a folder of images
    Pretrain(pretrain::PretrainArgs),
    /// Evaluate frozen features
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Draw what the network attends to
    Attention(attention::AttentionArgs),
    /// Write the features of images to a file
    Embed(embed::EmbedArgs),
    /// Say what a file of weights holds and what it is good for
    Weights(weights::WeightsArgs),
    /// Write a network's weights for other programs
    Export(export::ExportArgs),
    /// List the devices and say which one would be used
    Devices(DeviceArgs),
    /// List the recipes
    Presets(presets::PresetsArgs),
}

#[derive(Subcommand)]
enum EvalCommand {
    /// Weighted k-nearest-neighbour accuracy, DINO's protocol
    Knn(knn::KnnArgs),
}

/// Where to compute, and with whose kernels.
#[derive(Args, Clone)]
struct DeviceArgs {
    /// auto, gpu, gpu:N (see `ocelli devices`) or cpu
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    device: DeviceChoice,
    /// auto, wgsl (hand-written kernels wherever there is one) or stock (burn's own)
    #[arg(long, default_value = "auto", value_parser = parse_kernels)]
    kernels: Mode,
}

fn parse_kernels(name: &str) -> Result<Mode, String> {
    name.parse()
}

fn parse_device(name: &str) -> Result<DeviceChoice, String> {
    name.parse()
}

impl DeviceArgs {
    fn open(&self) -> Result<Chosen, TrainError> {
        set_mode(self.kernels);
        device::open(self.device)
    }
}

/// Bad input: the user's to mend.
const EXIT_BAD_INPUT: u8 = 2;
/// A run that went wrong by itself.
const EXIT_RUN_FAILED: u8 = 3;

/// Parses, runs, and turns errors into messages and exit codes.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Eval(EvalCommand::Knn(args)) => knn::run(&args),
        Command::Attention(args) => attention::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Weights(args) => weights::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Presets(args) => presets::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr)]
            {
                eprintln!("error: {error:#}");
            }
            let failed = matches!(error.downcast_ref::<TrainError>(), Some(TrainError::NotFinite { .. }));
            ExitCode::from(if failed { EXIT_RUN_FAILED } else { EXIT_BAD_INPUT })
        }
    }
}
