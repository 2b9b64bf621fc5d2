//! Features of a folder's pictures, each embedded once: what `search`, `duplicates` and `features` begin with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::Args;
use ocelli::data::{AllImages, BadFile, Source};
use ocelli::eval::index::{Entry, Settings};
use ocelli::models::BackboneConfig;
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::models::weights::{ModuleState as _, StateDict};
use ocelli::train::Loading;
use serde_json::{Value, json};

use super::embedding::Network;
use super::index_file::IndexFile;
use super::opening::{self, NormaliseArgs, SizeArgs};
use super::run::stop_on_signals;
use super::talk;
use super::{DeviceArgs, Interrupted, images};

/// Name of the index in a folder. Ocelli passes over names that begin with a dot, so data sets stay as they are.
const NAME: &str = ".ocelli.index";
/// While pictures are embedded the index is saved after this long, or twenty times as long as the last saving
/// took.
const SAVE_EVERY: Duration = Duration::from_secs(30);
const SAVING_SHARE: u32 = 20;

/// Where features come from and where they are kept.
#[derive(Args, Clone)]
pub struct IndexArgs {
    /// A run folder, a checkpoint, or a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`)
    #[arg(long)]
    weights: PathBuf,
    /// The file that features are kept in (default: .ocelli.index in the folder)
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Embed every picture again and replace the index
    #[arg(long)]
    rebuild: bool,
    /// Use the index as it is, without looking for new, changed and deleted pictures
    #[arg(long, conflicts_with = "rebuild")]
    no_update: bool,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Number of attention heads, if the weights do not say
    #[arg(long)]
    heads: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A folder and the features of its pictures.
pub struct Indexed {
    /// The folder.
    pub folder: PathBuf,
    /// Its pictures, unless nobody looked.
    pub images: Option<Arc<AllImages>>,
    /// Their features.
    pub file: IndexFile,
    /// The network they are of.
    pub network: Network,
    /// The network in a few words, without the folders its file lies in: for pages that go to others.
    pub network_name: String,
    /// What was done.
    pub update: Update,
    /// Set once somebody asks to stop. Nobody listens before there is something to embed.
    pub stop: Arc<AtomicBool>,
}

/// What bringing an index up to date took.
#[derive(Default)]
pub struct Update {
    /// Pictures embedded now.
    pub embedded: usize,
    /// Pictures whose features were there and are no more: deleted or changed.
    pub dropped: usize,
    /// Files that could not be read.
    pub bad: Vec<BadFile>,
}

impl Indexed {
    /// Opens a folder and its index, and embeds what is new or has changed. Says what it does unless JSON is printed.
    pub fn open(folder: &Path, args: &IndexArgs, json: bool) -> anyhow::Result<Self> {
        if !folder.is_dir() {
            let found = if folder.exists() { "a file" } else { "nothing there" };
            bail!("{}: expected a folder of pictures, found {found}", folder.display());
        }
        let images = if args.no_update { None } else { Some(Arc::new(AllImages::open(folder)?)) };
        let network = args.network()?;
        if talk::notes(json) {
            for line in images.iter().flat_map(|images| images.understood().lines()) {
                println!("{line}");
            }
            let loaded = &network.loaded;
            println!("{}", opening::lines(loaded, &network.device.name, &loaded.size.to_string()));
        }
        let path = args.index.clone().unwrap_or_else(|| folder.join(NAME));
        let file = IndexFile::open(&path, settings(&network)?, network.loaded.config.dim(), args.rebuild)?;
        if args.no_update && file.entries().is_empty() {
            bail!(
                "{}: expected an index with pictures, found none; leave out --no-update to make it",
                path.display()
            );
        }
        let (update, stop) = (Update::default(), Arc::new(AtomicBool::new(false)));
        let file_name = args.weights.file_name().map(|name| name.to_string_lossy());
        let network_name = match file_name {
            Some(file) => format!("{} of {file}", network.loaded.arch()),
            None => network.loaded.arch(),
        };
        let mut indexed = Self { folder: folder.to_owned(), images, file, network, network_name, update, stop };
        if let Some(images) = indexed.images.clone() {
            indexed.bring_up_to_date(&images, args.rebuild)?;
        }
        if !json {
            indexed.say();
        }
        if indexed.file.entries().is_empty() {
            bail!("{}: no picture could be read", folder.display());
        }
        Ok(indexed)
    }

    fn say(&self) {
        let Update { embedded, dropped, bad } = &self.update;
        for bad in bad {
            println!("warning: skipped {}: {}", bad.name, bad.reason);
        }
        if talk::is_quiet() {
            return;
        }
        let mut line = format!("index: {}, {}", self.file.path().display(), pictures(self.file.entries().len()));
        if *embedded > 0 {
            line += &format!(", {embedded} embedded now");
        }
        if *dropped > 0 {
            line += &format!(", {dropped} deleted or changed");
        }
        println!("{line}");
    }

    /// The same as fields.
    pub fn fields(&self) -> Value {
        let Update { embedded, dropped, bad } = &self.update;
        let bad: Vec<Value> = bad.iter().map(|b| json!({ "name": b.name, "reason": b.reason })).collect();
        json!({
            "file": self.file.path(), "pictures": self.file.entries().len(), "embedded": embedded,
            "deleted_or_changed": dropped, "skipped": bad,
        })
    }

    /// The file of a picture by its name in the index.
    pub fn path_of(&self, name: &str) -> PathBuf {
        let listed = self.images.as_ref().and_then(|images| images.path(images.find(name)?));
        listed.unwrap_or_else(|| self.folder.join(name))
    }

    /// Drops what is gone and embeds what is new. What is embedded when somebody stops it, or when something
    /// fails, is kept.
    fn bring_up_to_date(&mut self, images: &Arc<AllImages>, anew: bool) -> anyhow::Result<()> {
        let plan = Plan::of(images, self.file.entries());
        self.update.bad = plan.unreadable;
        self.update.dropped = self.file.entries().len() - plan.keep.len();
        if !plan.knows_any && !self.file.entries().is_empty() {
            bail!(
                "{}: the index knows {}, none of which is in {}: it may be another folder's. --rebuild replaces it; \
                 another --index keeps it",
                self.file.path().display(),
                pictures(self.file.entries().len()),
                self.folder.display()
            );
        }
        if plan.embed.is_empty() && self.update.dropped == 0 && !anew {
            return Ok(());
        }
        self.file.check_writable()?;
        let stop = self.stop.clone();
        stop_on_signals(&stop)?;
        let bar = images::bar(plan.embed.len(), false);
        let mut growing = Growing { file: &mut self.file, keep: plan.keep, entries: Vec::new(), rows: Vec::new() };
        let (mut saved, mut pause, mut embedded) = (Instant::now(), SAVE_EVERY, 0);
        let indices = plan.embed.iter().map(|(index, _)| *index).collect();
        let marks: HashMap<usize, Mark> = plan.embed.into_iter().collect();
        let source: Arc<dyn Source> = images.clone();
        let bad = self.network.embed(&source, indices, |pictures| {
            for picture in pictures {
                let Some(&Mark { bytes, modified_ns }) = marks.get(&picture.index) else { continue };
                let (name, (width, height)) = (images.name(picture.index), picture.size);
                growing.entries.push(Entry { name, bytes, modified_ns, width, height });
                growing.rows.extend(picture.feature);
                embedded += 1;
                bar.inc(1);
            }
            if saved.elapsed() > pause {
                let before = Instant::now();
                growing.save()?;
                saved = Instant::now();
                pause = SAVE_EVERY.max(SAVING_SHARE * (saved - before));
            }
            Ok(!stop.load(Ordering::Relaxed))
        });
        bar.finish_and_clear();
        growing.save()?;
        self.update.embedded = embedded;
        self.update.bad.extend(bad?);
        if stop.load(Ordering::Relaxed) {
            let how = format!(
                "{} of {} new pictures are in {}; the same command goes on from there",
                embedded,
                marks.len(),
                self.file.path().display()
            );
            return Err(Interrupted(how).into());
        }
        Ok(())
    }
}

/// As the decimals a person would write: 0.95, not the double nearest to the single nearest to it.
pub fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_default()
}

/// `3 pictures`, `1 picture`.
pub fn pictures(count: usize) -> String {
    format!("{count} picture{}", if count == 1 { "" } else { "s" })
}

impl IndexArgs {
    fn network(&self) -> anyhow::Result<Network> {
        let device = self.device.open()?;
        let given = Preprocessing { size: self.size.given(), ..self.normalise.given()? };
        let loading = Loading { heads: self.heads, given, ..Loading::default() };
        let mut loaded = loading.open(&self.weights, &device.device)?;
        self.size.apply(&mut loaded.size);
        Ok(Network { loaded, device })
    }
}

/// An index and what is not in its file yet.
struct Growing<'a> {
    file: &'a mut IndexFile,
    /// Rows of the file that stay.
    keep: Vec<usize>,
    entries: Vec<Entry>,
    rows: Vec<f32>,
}

impl Growing<'_> {
    fn save(&mut self) -> anyhow::Result<()> {
        self.file.replace(&self.keep, (&self.entries, &self.rows))?;
        self.keep = (0..self.file.entries().len()).collect();
        self.entries.clear();
        self.rows.clear();
        Ok(())
    }
}

/// By what a file is known again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    bytes: u64,
    modified_ns: i64,
}

/// What is to be done with an index.
struct Plan {
    /// Rows that stay, rising.
    keep: Vec<usize>,
    /// Images to embed.
    embed: Vec<(usize, Mark)>,
    /// Files that cannot be looked at.
    unreadable: Vec<BadFile>,
    /// Whether any name in the index is one of the folder's.
    knows_any: bool,
}

impl Plan {
    fn of(images: &AllImages, entries: &[Entry]) -> Self {
        let mut known: HashMap<&str, usize> =
            entries.iter().enumerate().map(|(row, entry)| (entry.name.as_str(), row)).collect();
        let mut plan = Self { keep: Vec::new(), embed: Vec::new(), unreadable: Vec::new(), knows_any: false };
        for index in 0..images.len() {
            let name = images.name(index);
            let mark = match mark_of(&images.path(index).unwrap_or_default()) {
                Ok(mark) => mark,
                Err(e) => {
                    plan.unreadable.push(BadFile { name, reason: e.to_string() });
                    continue;
                }
            };
            // Of two files that read as one name the second is another picture.
            let row = known.remove(name.as_str());
            plan.knows_any |= row.is_some();
            let row = row.filter(|row| {
                let Entry { bytes, modified_ns, .. } = entries[*row];
                mark == Mark { bytes, modified_ns }
            });
            match row {
                Some(row) => plan.keep.push(row),
                None => plan.embed.push((index, mark)),
            }
        }
        plan.keep.sort_unstable();
        plan
    }
}

fn mark_of(path: &Path) -> std::io::Result<Mark> {
    let metadata = path.metadata()?;
    // A file system without times leaves the size alone to tell.
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let modified_ns = match modified.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => nanoseconds(since),
        Err(before) => -nanoseconds(before.duration()),
    };
    Ok(Mark { bytes: metadata.len(), modified_ns })
}

/// What features depend on.
fn settings(network: &Network) -> anyhow::Result<Settings> {
    let loaded = &network.loaded;
    let mut state = StateDict::default();
    state.add_module("", &loaded.encoder)?;
    let mut words = Vec::new();
    for (name, tensor) in &state.tensors {
        let text: Vec<u64> = name.bytes().map(u64::from).collect();
        let values: Vec<u64> = tensor
            .values
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |word, v| word << 32 | u64::from(v.to_bits())))
            .collect();
        words.extend([ocelli::data::hash_words(&text), ocelli::data::hash_words(&values)]);
    }
    let (statistics, size) = (&loaded.statistics.value, &loaded.size.value);
    let px = |px: usize| if px == 0 { "none".to_owned() } else { format!("{px} px") };
    let features = match loaded.config {
        BackboneConfig::Vit(_) => "class token",
        BackboneConfig::ResNet(_) => "mean over the cells",
    };
    let settings = [
        ("network", format!("{} with weights {:016x}", loaded.arch(), ocelli::data::hash_words(&words))),
        ("features", features.to_owned()),
        ("normalisation", format!("mean {:?}, std {:?}", statistics.mean, statistics.std)),
        ("resize", px(size.resize_px)),
        ("crop", px(size.crop_px)),
    ];
    Ok(Settings(settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}
