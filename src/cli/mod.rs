//! One file per subcommand; this one knows their names and what their errors mean to the shell.

mod attention;
mod attention_video;
mod bench;
mod classify;
mod coco_results;
mod compare;
mod copies;
mod correspondence;
mod demo;
mod detect;
mod devices;
mod duplicates;
mod embed;
mod embedding;
mod eval_detection;
mod eval_segmentation;
mod export;
mod export_onnx;
mod extraction;
mod fault;
mod features;
mod finetune;
mod frames;
mod images;
mod index_file;
mod indexing;
mod knn;
mod linear;
mod low_shot;
mod matches;
mod opening;
mod outputs;
mod pages;
mod pixels;
mod plan;
mod presets;
mod pretrain;
mod progress;
mod report;
mod retrieval;
mod run;
mod runs;
mod search;
mod segment;
mod serve;
mod svm;
mod table;
mod thumbnails;
mod video;
mod weights;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Args, Parser, Subcommand};
use ocelli::data::DataError;
use ocelli::kernels::{Mode, set_mode};
use ocelli::train::device::{self, Chosen, DeviceChoice};
use ocelli::train::{TrainError, catch_panics, of_data, record_panics};

/// Self-supervised vision models, trained on any GPU or none.
#[derive(Parser)]
#[command(
    name = "ocelli",
    version,
    about,
    after_help = "Start here:\n  ocelli demo\n  ocelli pretrain --preset laptop --data photos --out runs/first\n  ocelli attention photo.jpg --weights runs/first\n\nExit codes: 0 done; 2 bad input, or something else to mend, such as a full disk; 3 a run that went wrong by itself; 70 a fault in Ocelli; 130 stopped by Ctrl-C"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Read images of up to so many pixels (width × height), as in 200M; 100M without it. One image takes 3 to 16 bytes a
    /// pixel while it is read, on each thread that reads
    #[arg(long, global = true, value_name = "PIXELS", value_parser = pixels::parse)]
    max_pixels: Option<u64>,
}

#[derive(Subcommand)]
enum Command {
    /// Pre-train a small network on built-in scenes and look at what it attends to (about five minutes on two cores)
    Demo(demo::DemoArgs),
    /// Pre-train a network on a folder of images
    Pretrain(pretrain::PretrainArgs),
    #[command(subcommand)]
    Finetune(finetune::FinetuneCommand),
    /// Write the report of a run: one HTML file with its curves and pictures
    Report(report::ReportArgs),
    /// List the runs below a folder, or compare some of them
    Runs(runs::RunsArgs),
    /// Set runs out as rows of DINO's table, with the published figures in columns of their own
    Table(table::TableArgs),
    /// Train every method on your images with one budget, and set them out as a table
    Compare(compare::CompareArgs),
    /// Measure images a second of each backbone in inference, beside the published ones
    Bench(bench::BenchArgs),
    /// Evaluate frozen features, detectors and segmentations
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Draw what the network attends to
    Attention(attention::AttentionArgs),
    /// Draw which places of two images, or of an image and its augmented self, look alike to the network
    Match(matches::MatchArgs),
    /// Say what is in images, by a linear classifier on a backbone's features
    Classify(classify::ClassifyArgs),
    /// Find objects in pictures and draw their boxes
    Detect(detect::DetectArgs),
    /// Assign a class to every pixel of a picture: colours with a legend, and an index PNG
    Segment(segment::SegmentArgs),
    /// Write the features of images to a file
    Embed(embed::EmbedArgs),
    /// Find the pictures of a folder that are most like others
    Search(search::SearchArgs),
    /// Find near-duplicates in a folder
    Duplicates(duplicates::DuplicatesArgs),
    /// Draw a map of a folder's features
    Features(features::FeaturesArgs),
    /// Say what a file of weights holds and what it is good for
    Weights(weights::WeightsArgs),
    /// Write a network's weights for other programs
    Export(export::ExportArgs),
    /// Show the page: attention, features and training in a browser
    Serve(serve::ServeArgs),
    /// List the devices and say which one would be used
    Devices(DeviceArgs),
    /// List the recipes
    Presets(presets::PresetsArgs),
    #[command(hide = true)]
    Fault(fault::FaultArgs),
}

#[derive(Subcommand)]
enum EvalCommand {
    /// Weighted k-nearest-neighbour accuracy, DINO's protocol
    Knn(knn::KnnArgs),
    /// Accuracy of a linear classifier on frozen features, many learning rates at once
    Linear(linear::LinearArgs),
    /// Multi-label classification by linear SVMs: VOC07 mAP
    Svm(svm::SvmArgs),
    /// Accuracy with 1 % and 10 % of the labels
    LowShot(low_shot::LowShotArgs),
    /// Video object segmentation on DAVIS by label propagation: J and F
    Video(video::VideoArgs),
    /// Mean average precision on the revisited Oxford and Paris sets, or with classes in their place
    Retrieval(retrieval::RetrievalArgs),
    /// Altered copies found among originals: Copydays, DINO's protocol
    Copies(copies::CopiesArgs),
    /// How often the most similar place in another view of an image is the right one
    Correspondence(correspondence::CorrespondenceArgs),
    /// Average precision of boxes, as PASCAL VOC and as COCO measure it
    Detection(eval_detection::EvalDetectionArgs),
    /// Intersection over union of each class of pixels, and its mean
    Segmentation(eval_segmentation::EvalSegmentationArgs),
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
        let chosen = device::open(self.device)?;
        let _ = DEVICE.set(chosen.name.clone());
        Ok(chosen)
    }
}

/// Bad input: the user's to mend.
const EXIT_BAD_INPUT: u8 = 2;
/// A run that went wrong by itself.
const EXIT_RUN_FAILED: u8 = 3;
/// A fault of ours, not the user's (EX_SOFTWARE of sysexits.h).
const EXIT_FAULT: u8 = 70;
/// A run that was asked to stop: as a shell has it after Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;

/// Whoever read our output had enough, as in `ocelli runs | head -1`: as a shell has it after a broken pipe.
const EXIT_CLOSED_PIPE: u8 = 141;

/// Parses, runs, and turns errors into messages and exit codes.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // A failing device panics in the tensor library, a mistake of ours anywhere; what either says is told below, once.
    if std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value == "0") {
        std::panic::set_hook(Box::new(|_| ()));
    }
    record_panics();
    if let Some(pixels) = cli.max_pixels {
        pixels::ask_for(pixels);
    }
    let done = catch_panics(|| run(cli.command)).unwrap_or_else(|error| Err(error.into())).map_err(with_place);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::from(EXIT_CLOSED_PIPE),
        Err(error) => {
            #[allow(clippy::print_stderr)]
            match error.downcast_ref::<Interrupted>() {
                Some(interrupted) => eprintln!("{interrupted}"),
                None => eprintln!("error: {error:#}"),
            }
            let code = exit_code(&error);
            #[allow(clippy::print_stderr)]
            if code == EXIT_FAULT {
                let command: Vec<String> = std::env::args().collect();
                eprintln!("{}", report_of_fault(&command.join(" ")));
            }
            ExitCode::from(code)
        }
    }
}

/// The standard library's `println!` panics where nobody reads any more.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<TrainError>(), Some(TrainError::Fault { message, .. })
        if message.starts_with("failed printing to stdout"))
}

/// The device in use, once there is one.
static DEVICE: OnceLock<String> = OnceLock::new();

/// A panic on a thread that reads images is a fault of ours as any other, and has a place.
fn with_place(error: anyhow::Error) -> anyhow::Error {
    let panicked = match error.downcast_ref::<TrainError>() {
        Some(TrainError::Data(data)) => Some(data),
        Some(_) => None,
        None => error.downcast_ref::<DataError>(),
    };
    match panicked {
        Some(data @ DataError::Panic { .. }) => of_data(data.clone()).into(),
        _ => error,
    }
}

/// What to attach to a report.
fn report_of_fault(command: &str) -> String {
    format!(
        "Please report it at {}/issues with the lines above and these:\n  version: ocelli {}, {} on {}\n  command: {command}\n  \
         device:  {}\nRun it again with RUST_BACKTRACE=1 and attach what it says then.",
        env!("CARGO_PKG_REPOSITORY"),
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        DEVICE.get().map_or("none opened yet", String::as_str),
    )
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Finetune(command) => finetune::run(&command),
        Command::Report(args) => report::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Table(args) => table::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Eval(EvalCommand::Knn(args)) => knn::run(&args),
        Command::Eval(EvalCommand::Linear(args)) => linear::run(&args),
        Command::Eval(EvalCommand::Svm(args)) => svm::run(&args),
        Command::Eval(EvalCommand::LowShot(args)) => low_shot::run(&args),
        Command::Eval(EvalCommand::Video(args)) => video::run(&args),
        Command::Eval(EvalCommand::Retrieval(args)) => retrieval::run(&args),
        Command::Eval(EvalCommand::Copies(args)) => copies::run(&args),
        Command::Eval(EvalCommand::Correspondence(args)) => correspondence::run(&args),
        Command::Eval(EvalCommand::Detection(args)) => eval_detection::run(&args),
        Command::Eval(EvalCommand::Segmentation(args)) => eval_segmentation::run(&args),
        Command::Match(args) => matches::run(&args),
        Command::Attention(args) => attention::run(&args),
        Command::Classify(args) => classify::run(&args),
        Command::Detect(args) => detect::run(&args),
        Command::Segment(args) => segment::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Duplicates(args) => duplicates::run(&args),
        Command::Features(args) => features::run(&args),
        Command::Weights(args) => weights::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Presets(args) => presets::run(&args),
        Command::Fault(args) => fault::run(&args),
    }
}

/// A run that was asked to stop, and did. How to go on.
#[derive(Debug)]
struct Interrupted(String);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}

/// A run that ended before its time, and what is left of it.
#[derive(Debug)]
struct Failed {
    trains: run::Trains,
    error: TrainError,
    last: Option<String>,
    out: PathBuf,
}

impl Failed {
    /// Whether going on with the same settings would end the same way.
    fn repeats(&self) -> bool {
        matches!(self.error, TrainError::NotFinite { .. } | TrainError::Collapsed { .. })
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (error, out) = (&self.error, self.out.display());
        match &self.last {
            None if self.repeats() => write!(f, "{error}\nthere is no checkpoint yet"),
            None => write!(f, "{error}"),
            Some(last) if self.repeats() => write!(
                f,
                "{error}\nthe last good checkpoint is {}; to begin anew from its weights with other settings: {}",
                self.out.join(last).display(),
                self.trains.anew(&self.out.join(last).display().to_string())
            ),
            Some(last) => {
                write!(
                    f,
                    "{error}\nthe last checkpoint is {last}; to go on from it: ocelli {} --resume --out {out}",
                    self.trains.command()
                )
            }
        }
    }
}

impl std::error::Error for Failed {}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Interrupted>() {
        return EXIT_INTERRUPTED;
    }
    let cause = match error.downcast_ref::<Failed>() {
        Some(failed) => Some(&failed.error),
        None => error.downcast_ref::<TrainError>(),
    };
    match cause {
        Some(TrainError::Fault { .. }) => EXIT_FAULT,
        Some(TrainError::NotFinite { .. } | TrainError::Collapsed { .. } | TrainError::DeviceLost { .. }) => {
            EXIT_RUN_FAILED
        }
        _ => EXIT_BAD_INPUT,
    }
}
