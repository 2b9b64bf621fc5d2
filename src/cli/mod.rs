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
mod doctor;
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
mod ranks;
mod report;
mod retrieval;
mod run;
mod runs;
mod scaling;
mod search;
mod segment;
mod selftest;
mod serve;
mod shell;
mod svm;
mod table;
mod talk;
mod thumbnails;
mod tune;
mod video;
mod weights;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Args, Parser, Subcommand};
use ocelli::data::DataError;
use ocelli::kernels::{Mode, choices_file, set_mode};
use ocelli::train::device::{self, Chosen, DeviceChoice};
use ocelli::train::{TrainError, allow_download, catch_panics, of_data, record_panics};

/// Self-supervised vision models, trained on any GPU or none.
#[derive(Parser)]
#[command(
    name = "ocelli",
    version,
    about,
    after_help = "Start here:\n  ocelli demo\n  ocelli pretrain --preset laptop --data photos --out runs/first\n  ocelli attention photo.jpg --weights runs/first\n\nExit codes: 0 done; 1 a self-test found something wrong; 2 bad input, or something else to mend, such as a full disk; 3 a run that went wrong by itself; 70 a fault in Ocelli; 130 stopped by Ctrl-C"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Read images of up to so many pixels (width × height), as in 200M; 100M without it. One image takes 3 to 16 bytes a
    /// pixel while it is read, on each thread that reads
    #[arg(long, global = true, value_name = "PIXELS", value_parser = pixels::parse)]
    max_pixels: Option<u64>,
    /// Download what hf:NAME does not find on this machine, with Hugging Face's own program (hf or huggingface-cli). Without
    /// it nothing is downloaded
    #[arg(long, global = true)]
    download: bool,
    /// Print results and errors alone: no progress, no notes. The results of a training are in its folder
    #[arg(long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Also say which version, device and files are used (on standard error)
    #[arg(long, global = true)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Pretrain(pretrain::PretrainArgs),
    #[command(
        subcommand,
        after_help = "Examples:\n  ocelli finetune classification --weights runs/first --data flowers --out runs/flowers\n  ocelli finetune detection --help"
    )]
    Finetune(finetune::FinetuneCommand),
    Report(report::ReportArgs),
    Runs(runs::RunsArgs),
    Table(table::TableArgs),
    Compare(compare::CompareArgs),
    Bench(bench::BenchArgs),
    Plan(scaling::PlanArgs),
    /// Evaluate frozen features, detectors and segmentations
    #[command(
        subcommand,
        after_help = "Examples:\n  ocelli eval knn --data imagenette --weights runs/first\n  ocelli eval linear --data imagenette --weights runs/first --cached\n  ocelli eval video --help"
    )]
    Eval(EvalCommand),
    /// Draw what the network attends to
    Attention(attention::AttentionArgs),
    Match(matches::MatchArgs),
    Classify(classify::ClassifyArgs),
    Detect(detect::DetectArgs),
    Segment(segment::SegmentArgs),
    Embed(embed::EmbedArgs),
    Search(search::SearchArgs),
    Duplicates(duplicates::DuplicatesArgs),
    Features(features::FeaturesArgs),
    Weights(weights::WeightsArgs),
    Export(export::ExportArgs),
    Serve(serve::ServeArgs),
    Devices(devices::DevicesArgs),
    Doctor(doctor::DoctorArgs),
    Presets(presets::PresetsArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
    #[command(hide = true)]
    Fault(fault::FaultArgs),
}

#[derive(Subcommand)]
enum EvalCommand {
    Knn(knn::KnnArgs),
    Linear(linear::LinearArgs),
    Svm(svm::SvmArgs),
    LowShot(low_shot::LowShotArgs),
    Video(video::VideoArgs),
    Retrieval(retrieval::RetrievalArgs),
    Copies(copies::CopiesArgs),
    Correspondence(correspondence::CorrespondenceArgs),
    Detection(eval_detection::EvalDetectionArgs),
    Segmentation(eval_segmentation::EvalSegmentationArgs),
}

/// Where to compute, and with whose kernels.
#[derive(Args, Clone)]
struct DeviceArgs {
    /// auto, gpu, gpu:N (see `ocelli devices`) or cpu
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    device: DeviceChoice,
    /// auto (the fastest), wgsl (hand-written kernels wherever there are any) or stock (burn's own)
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
        let chosen = device::open_local(self.device, ranks::local_rank())?;
        let _ = DEVICE.set(chosen.name.clone());
        talk::detail(|| format!("device: {} ({})", chosen.name, chosen.reason));
        if let (false, Some(file)) = (chosen.is_cpu, choices_file()) {
            talk::detail(|| format!("choices of kernels: {}", file.display()));
        }
        Ok(chosen)
    }
}

/// A self-test that found something wrong.
const EXIT_WRONG: u8 = 1;
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
    if cli.download {
        allow_download();
    }
    talk::choose(cli.quiet, cli.verbose);
    talk::detail(|| format!("ocelli {} on {}", env!("CARGO_PKG_VERSION"), doctor::target()));
    let done = catch_panics(|| run(cli.command)).unwrap_or_else(|error| Err(error.into())).map_err(with_place);
    match done {
        Ok(()) => {
            ranks::close();
            ExitCode::SUCCESS
        }
        Err(error) if is_closed_pipe(&error) => {
            ranks::end_all(EXIT_CLOSED_PIPE);
            ExitCode::from(EXIT_CLOSED_PIPE)
        }
        Err(error) if error.is::<Interrupted>() => {
            // All processes of a run stop together, and one says so.
            #[allow(clippy::print_stderr)]
            if ranks::is_first() {
                eprintln!("{error}");
            }
            ranks::close();
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            ranks::leave_it_to_the_first(error.downcast_ref::<Failed>().is_some_and(Failed::repeats));
            #[allow(clippy::print_stderr)]
            match ranks::which() {
                Some(rank) => eprintln!("error ({rank}): {error:#}"),
                None => eprintln!("error: {error:#}"),
            }
            let code = exit_code(&error);
            #[allow(clippy::print_stderr)]
            if code == EXIT_FAULT {
                let command: Vec<String> = std::env::args().collect();
                eprintln!("{}", report_of_fault(&command.join(" ")));
            }
            ranks::end_all(code);
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
        "Please report it where you got Ocelli from. Attach the lines above, the output of `ocelli doctor`, and these:\n  version: ocelli {}, {} on {}\n  command: {command}\n  \
         device:  {}\nRun it again with RUST_BACKTRACE=1 and attach what it says then.",
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
        Command::Plan(args) => scaling::run(&args),
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
        Command::Doctor(args) => doctor::run(&args),
        Command::Presets(args) => presets::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
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
    if error.is::<selftest::Wrong>() {
        return EXIT_WRONG;
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
