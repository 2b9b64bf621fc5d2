//! `ocelli devices --selftest`: every kernel against its reference, on a device that nobody may have tested.

mod report;

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use anyhow::bail;
use ocelli::kernels::{Mode, set_mode};
use ocelli::train::device;
use ocelli::train::selftest::{Progress, cases, selftest};

use super::bench::bar;
use super::devices::DevicesArgs;
use super::talk;
use report::Report;

/// Whose kernels are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyChoice {
    /// Those of graphics cards.
    Hardware,
    /// Those of drivers that compute on the CPU, with what the adapter has.
    Software,
    /// The same with nothing optional.
    Plain,
}

impl FromStr for FamilyChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "hardware" => Ok(Self::Hardware),
            "software" => Ok(Self::Software),
            "plain" => Ok(Self::Plain),
            _ => Err(format!("expected hardware, software or plain, found \"{name}\"")),
        }
    }
}

pub fn parse_family(name: &str) -> Result<FamilyChoice, String> {
    name.parse()
}

pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (0.0..=86_400.0).contains(s));
    seconds.ok_or_else(|| format!("expected seconds from 0 to 86400, found \"{text}\""))
}

/// A device on which a kernel is wrong or fails.
#[derive(Debug)]
pub struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

pub fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let adapters = device::adapters();
    let (picked, _) = device::pick(args.device.device, &adapters)?;
    if let (None, Some(_)) = (picked, args.family) {
        bail!(
            "--family: expected a graphics adapter, found the CPU, which has one family of kernels; add --device gpu"
        );
    }
    let chosen = args.device.open()?;
    // Whatever --kernels says: these kernels are what is tested.
    set_mode(Mode::Wgsl);
    let family = family(args.family, chosen.is_cpu);
    let mut report = Report::new(picked.map(|index| (index, &adapters[index])), family);
    let say = |text: &str| {
        if !args.json {
            println!("{text}");
        }
    };
    say(&report.head());
    let cases = cases(&chosen.device);
    let bar = bar(1);
    let mut keep = Ok(());
    let rows = selftest(&chosen.device, &cases, args.seconds, &mut |progress: &Progress<'_>| {
        bar.set_position((100.0 * progress.share) as u64);
        let (kernel, shape) = (progress.now.kernel, &progress.now.shape);
        let doing = if progress.is_timed { "timing" } else { "comparing" };
        bar.set_message(format!("{doing} {kernel} {shape}"));
        // A driver that ends the process leaves a file that says where.
        if let (Some(out), true) = (&args.out, keep.is_ok()) {
            report.update(progress.rows, Some(&format!("{doing} {kernel} {shape}")), started.elapsed());
            keep = report.write(out);
        }
    });
    bar.finish_and_clear();
    report.update(&rows, None, started.elapsed());
    keep?;
    if let Some(out) = &args.out {
        report.write(out)?;
    }
    match args.json {
        true => println!("{:#}", report.json()),
        false => println!("{}", report.table()),
    }
    if let (Some(out), true) = (&args.out, talk::notes(args.json)) {
        println!("the report is in {}", out.display());
    }
    match report.verdict() {
        Ok(words) => {
            say(&words);
            Ok(())
        }
        Err(words) => Err(Wrong(words).into()),
    }
}

/// Chooses the kernels that are tested; in words.
#[cfg(feature = "gpu")]
fn family(choice: Option<FamilyChoice>, is_cpu: bool) -> String {
    use ocelli::kernels::gpu::{Caps, Family, caps, set_caps};
    if is_cpu {
        return "of the CPU".to_owned();
    }
    match choice {
        Some(FamilyChoice::Hardware) => set_caps(Caps { family: Family::Hardware, ..caps() }),
        Some(FamilyChoice::Software) => set_caps(Caps { family: Family::Software, ..caps() }),
        Some(FamilyChoice::Plain) => set_caps(Caps::plain(Family::Software)),
        None => {}
    }
    match caps() {
        Caps { family: Family::Hardware, .. } => "of hardware".to_owned(),
        Caps { family: Family::Software, lanes: 0, int64: false } => {
            "of software adapters, nothing optional".to_owned()
        }
        Caps { family: Family::Software, lanes, int64 } => {
            let lanes =
                if lanes > 0 { format!("subgroups of {lanes}") } else { "no subgroups of one size".to_owned() };
            format!("of software adapters, {lanes}, {} 64-bit integers", if int64 { "with" } else { "without" })
        }
    }
}

#[cfg(not(feature = "gpu"))]
fn family(_: Option<FamilyChoice>, _: bool) -> String {
    "of the CPU".to_owned()
}
