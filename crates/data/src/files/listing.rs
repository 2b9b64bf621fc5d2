//! What lies in a folder: pictures, other files, and what is passed over because a tool, or Ocelli itself, left it there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use walkdir::{DirEntry, IntoIter, WalkDir};

use super::decode::EXTENSIONS;
use super::entries::{has_no_ending, leads_up, portable_name, problem, special};
use super::own::{PICTURES, begins_as_a_picture, is_marked, is_named_as_a_chart, is_run, may_be_marked};
use super::understood::{Understood, count, some_of, unread};
use crate::DataError;

/// Linked folders that are followed within one another: folders that all link to each other would be walked once for every
/// way through them.
const MOST_LINKS: usize = 3;

/// Folders and files that operating systems and tools leave behind, in lower case. Names that begin with a dot, `@`, `$` or `#`
/// are passed over too.
const LEFT_BY_TOOLS: [&str; 5] =
    ["__macosx", "system volume information", "lost+found", "thumbs.db", "desktop.ini"];
/// What names of files begin with that Ocelli keeps in folders of pictures: no news to a person.
const OWN_HIDDEN: &str = ".ocelli";

/// A folder's contents. Names have `/` between their parts on every system, and are sorted by their bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    /// Pictures by their ending, or without one by their first bytes: name and path below the root.
    pub images: Vec<(String, PathBuf)>,
    /// Folders.
    pub folders: Vec<String>,
    /// Other files.
    pub others: Vec<String>,
    /// Folders that were passed over with everything in them.
    pub hidden_folders: Vec<String>,
    /// Files that were passed over.
    pub hidden_files: Vec<String>,
    /// Folders of runs, that of the command among them: passed over with everything in them.
    pub runs: Vec<String>,
    /// Pictures that Ocelli drew: passed over.
    pub drawn: Vec<String>,
    /// Links that lead nowhere or in a circle, folders that cannot be read, and what is neither file nor folder: in words.
    pub problems: Vec<String>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// What is wanted of a folder.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted<'a> {
    /// The folder that is written to: it is no data, as that of a run that is there already.
    out: Option<&'a Path>,
    /// Whether pictures that Ocelli drew are wanted too.
    drawn: bool,
}

impl Listing {
    /// Lists a folder with everything below it; links are followed.
    pub fn of(root: &Path) -> Result<Self, DataError> {
        Self::wanted(root, Wanted::default())
    }

    /// The same for a command that writes to a folder, which may be below this one.
    pub fn beside(root: &Path, out: Option<&Path>) -> Result<Self, DataError> {
        Self::wanted(root, Wanted { out, drawn: false })
    }

    /// The same with the pictures that Ocelli drew: label maps may be its own.
    pub fn with_drawn(root: &Path) -> Result<Self, DataError> {
        Self::wanted(root, Wanted { out: None, drawn: true })
    }

    fn wanted(root: &Path, wanted: Wanted<'_>) -> Result<Self, DataError> {
        let shown = root.display().to_string();
        if !root.exists() {
            return Err(DataError::NotFound { path: shown });
        }
        if !root.is_dir() {
            let special = root.metadata().ok().and_then(|m| special(m.file_type()));
            let found = special.or_else(|| super::held::file(root)).unwrap_or("a file");
            return Err(DataError::NotAFolder { path: shown, found: found.to_owned() });
        }
        let mut walking = Walking::new(root, wanted);
        walking.walk()?;
        Ok(walking.finish())
    }

    /// Tells what is left out, whatever the layout. Files that a layout takes are not.
    pub fn tell(&self, understood: &mut Understood, is_taken: impl Fn(&String) -> bool) {
        let hidden_files: Vec<String> =
            self.hidden_files.iter().filter(|name| !file_name(name).starts_with(OWN_HIDDEN)).cloned().collect();
        understood.leave_out("hidden folder", "hidden folders", &self.hidden_folders);
        understood.leave_out("hidden file", "hidden files", &hidden_files);
        understood.leave_out("folder of a run", "folders of runs", &self.runs);
        understood.leave_out("picture that Ocelli drew", "pictures that Ocelli drew", &self.drawn);
        let left: Vec<&String> = self.others.iter().filter(|name| !is_taken(name)).collect();
        understood.leave_out_files(left.iter().copied());
        understood.leave_out("unreadable entry", "unreadable entries", &self.problems);
        understood.notes.extend(unread(left.into_iter()));
        understood.notes.extend(self.notes.iter().cloned());
    }

    /// The same of a set whose layout says itself which files it takes.
    pub fn tell_briefly(&self, understood: &mut Understood) {
        understood.leave_out("folder of a run", "folders of runs", &self.runs);
        understood.leave_out("picture that Ocelli drew", "pictures that Ocelli drew", &self.drawn);
        understood.leave_out("unreadable entry", "unreadable entries", &self.problems);
        understood.notes.extend(self.notes.iter().cloned());
    }

    /// The error that there is no picture.
    pub fn no_images(&self, path: &Path) -> DataError {
        DataError::NoImages {
            path: path.display().to_string(),
            expected: EXTENSIONS.join(", "),
            found: self.describe(),
        }
    }

    /// What is there instead of images.
    fn describe(&self) -> String {
        const SHOWN: usize = 5;
        let some = |names: &[String]| {
            let more = if names.len() > SHOWN { ", …" } else { "" };
            format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
        };
        let hidden = [self.hidden_folders.as_slice(), &self.hidden_files].concat();
        let own = [self.runs.as_slice(), &self.drawn].concat();
        let mut found = match self.others.as_slice() {
            [] if !own.is_empty() => format!("only what Ocelli wrote: {}", some(&own)),
            [only] => format!("1 file, not with a known image extension: {only}"),
            [] if !hidden.is_empty() => format!("only what is passed over: {}", some(&hidden)),
            [] if !self.problems.is_empty() => format!("only {}", some(&self.problems)),
            [] if !self.folders.is_empty() => format!("only empty folders: {}", some(&self.folders)),
            [] => "an empty folder".to_owned(),
            others => format!("{} files, none with a known image extension: {}", others.len(), some(others)),
        };
        if !own.is_empty() && !self.others.is_empty() {
            found += &format!("; what Ocelli wrote is passed over: {}", some(&own));
        }
        if let Some(held) = super::held::contents(self.others.iter()) {
            found += &format!("; {held}");
        }
        for note in unread(self.others.iter()).iter().chain(&self.notes) {
            found += &format!("; {note}");
        }
        found
    }
}

/// A folder while it is listed.
struct Walking<'a> {
    root: &'a Path,
    wanted: Wanted<'a>,
    /// Without links, where that can be told.
    real_root: Option<PathBuf>,
    /// That of [`Wanted::out`], which need not be there yet. A run may be written into the very folder that it learns from, or
    /// around it: then there is none.
    real_out: Option<PathBuf>,
    /// Where charts of a run lie, below the root: the root is a run's folder, or that of its pictures.
    charts: Option<&'static str>,
    listing: Listing,
    /// Files without an ending, which may be pictures.
    unnamed: Vec<(String, PathBuf)>,
}

impl<'a> Walking<'a> {
    fn new(root: &'a Path, wanted: Wanted<'a>) -> Self {
        let real_root = root.canonicalize().ok();
        let real_out = wanted.out.and_then(real_path_of);
        let real_out = real_out.filter(|out| real_root.as_ref().is_none_or(|root| !root.starts_with(out)));
        let is_below_a_run = |root: &PathBuf| {
            root.file_name().is_some_and(|name| name == PICTURES) && root.parent().is_some_and(is_run)
        };
        let charts = match &real_root {
            _ if is_run(root) => Some("pictures/"),
            Some(root) if is_below_a_run(root) => Some(""),
            _ => None,
        };
        let (listing, unnamed) = Default::default();
        Self { root, wanted, real_root, real_out, charts, listing, unnamed }
    }

    fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(self.root).unwrap_or(path)
    }

    fn walk(&mut self) -> Result<(), DataError> {
        let mut walk = WalkDir::new(self.root).follow_links(true).into_iter();
        while let Some(entry) = walk.next() {
            match entry {
                Ok(entry) if entry.depth() == 0 => {}
                Ok(entry) => self.take(&entry, &mut walk),
                Err(e) if e.depth() == 0 => {
                    let reason = problem("", &e);
                    return Err(DataError::Io { path: self.root.display().to_string(), reason });
                }
                Err(e) => {
                    let path = self.relative(e.path().unwrap_or(self.root));
                    let name = portable_name(path);
                    // A link of a tool's, such as an editor's lock, may lead nowhere.
                    match is_left_by_a_tool(file_name(&name)) {
                        true => self.listing.hidden_files.push(name),
                        false => self.listing.problems.push(problem(&name, &e)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Folders below the root, and above this one, that are links.
    fn links_above(&self, path: &Path) -> usize {
        path.ancestors().skip(1).take_while(|above| *above != self.root).filter(|above| above.is_symlink()).count()
    }

    /// Folders beside the charts in the folder of a run.
    fn is_part_of_the_roots_run(&self, name: &str) -> bool {
        self.charts.is_some_and(|at| !at.is_empty()) && matches!(name, "checkpoints" | "tensorboard")
    }

    fn take(&mut self, entry: &DirEntry, walk: &mut IntoIter) {
        let path = self.relative(entry.path()).to_path_buf();
        let name = portable_name(&path);
        let is_hidden = is_left_by_a_tool(&entry.file_name().to_string_lossy());
        let kind = entry.file_type();
        if kind.is_dir() {
            let target = (entry.path_is_symlink() || self.real_out.is_some())
                .then(|| entry.path().canonicalize().ok())
                .flatten();
            let names = if is_hidden {
                &mut self.listing.hidden_folders
            } else if entry.path_is_symlink() && leads_up(target.as_deref(), self.real_root.as_deref()) {
                self.listing.problems.push(format!("{name} (a link to a folder it lies in)"));
                return walk.skip_current_dir();
            } else if entry.path_is_symlink() && self.links_above(entry.path()) >= MOST_LINKS {
                self.listing.problems.push(format!("{name} (more than {MOST_LINKS} links within one another)"));
                return walk.skip_current_dir();
            } else if (target.is_some() && target == self.real_out)
                || self.is_part_of_the_roots_run(&name)
                || is_run(entry.path())
            {
                self.note_others(entry.path(), &name);
                &mut self.listing.runs
            } else {
                return self.listing.folders.push(name);
            };
            names.push(name);
            return walk.skip_current_dir();
        }
        if is_hidden {
            self.listing.hidden_files.push(name);
        } else if let Some(what) = special(kind) {
            self.listing.problems.push(format!("{name} ({what})"));
        } else if is_image(&path) {
            self.listing.images.push((name, path));
        } else if has_no_ending(&path) {
            self.unnamed.push((name, path));
        } else {
            self.listing.others.push(name);
        }
    }

    /// A person's own pictures may lie in the folder of a run: that they are left out is said.
    fn note_others(&mut self, folder: &Path, name: &str) {
        let files = WalkDir::new(folder).into_iter().filter_map(Result::ok).filter(|e| e.file_type().is_file());
        let is_chart = |path: &Path| {
            let folder = path.parent().and_then(Path::file_name);
            folder.is_some_and(|f| f == PICTURES)
                && path.file_name().is_some_and(|n| is_named_as_a_chart(&n.to_string_lossy()))
        };
        let others =
            files.map(DirEntry::into_path).filter(|p| is_image(p) && !is_chart(p) && !is_marked(p)).count();
        if others > 0 {
            let (are, them) = if others == 1 { ("is", "it") } else { ("are", "them") };
            self.listing.notes.push(format!(
                "{name} is the folder of a run: its {} {are} left out with it; move the run elsewhere to have {them}",
                count(others, "other image", "other images")
            ));
        }
    }

    /// Looks into the files that names do not tell, and sorts everything.
    fn finish(mut self) -> Listing {
        let root = self.root;
        let is_picture: Vec<bool> =
            self.unnamed.par_iter().map(|(_, path)| begins_as_a_picture(&root.join(path))).collect();
        let listing = &mut self.listing;
        for (file, is_picture) in std::mem::take(&mut self.unnamed).into_iter().zip(is_picture) {
            if is_picture { listing.images.push(file) } else { listing.others.push(file.0) }
        }
        let (charts, takes_drawn) = (self.charts, self.wanted.drawn);
        let is_chart =
            |name: &str| charts.is_some_and(|at| name.strip_prefix(at).is_some_and(is_named_as_a_chart));
        let is_ours = |(name, path): &(String, PathBuf)| {
            is_chart(name) || (!takes_drawn && may_be_marked(name) && is_marked(&root.join(path)))
        };
        let is_drawn: Vec<bool> = listing.images.par_iter().map(is_ours).collect();
        for (image, is_drawn) in std::mem::take(&mut listing.images).into_iter().zip(is_drawn) {
            if is_drawn { listing.drawn.push(image.0) } else { listing.images.push(image) }
        }
        listing.images.sort();
        listing.note_odd_names();
        let out = self.real_out.as_deref().zip(self.real_root.as_deref());
        let out = out.and_then(|(out, root)| Some(portable_name(out.strip_prefix(root).ok()?)));
        listing.drop_own_folders(out.as_ref());
        for names in [
            &mut listing.folders,
            &mut listing.others,
            &mut listing.hidden_folders,
            &mut listing.hidden_files,
            &mut listing.runs,
            &mut listing.drawn,
            &mut listing.problems,
        ] {
            names.sort();
        }
        self.listing
    }
}

impl Listing {
    /// Drops folders that hold nothing but what Ocelli wrote, or will write to `out`: a folder for runs beside the data is no
    /// class, nor does the data look otherwise once it is there. The images are sorted.
    fn drop_own_folders(&mut self, out: Option<&String>) {
        let mut above = BTreeSet::new();
        for name in self.runs.iter().chain(&self.drawn).chain(out) {
            above.extend(name.match_indices('/').map(|(at, _)| &name[..at]));
        }
        let images = &self.images;
        let holds_images = |folder: &str| {
            let below = format!("{folder}/");
            let at = images.partition_point(|(name, _)| *name < below);
            images.get(at).is_some_and(|(name, _)| name.starts_with(&below))
        };
        self.folders.retain(|folder| !above.contains(folder.as_str()) || holds_images(folder));
    }

    fn note_odd_names(&mut self) {
        let is_odd = |(_, path): &&(String, PathBuf)| path.to_str().is_none();
        let odd: Vec<&str> = self.images.iter().filter(is_odd).map(|(name, _)| name.as_str()).collect();
        let have = match odd.len() {
            0 => return,
            1 => "has a name that is",
            _ => "have names that are",
        };
        let images = count(odd.len(), "image", "images");
        self.notes
            .push(format!("{images} {have} not UTF-8, shown with the number of each odd byte: {}", some_of(&odd)));
    }
}

/// A path without links, of which the last parts need not be there.
fn real_path_of(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let there = absolute.ancestors().find(|above| above.exists())?;
    Some(there.canonicalize().ok()?.join(absolute.strip_prefix(there).ok()?))
}

fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn is_left_by_a_tool(name: &str) -> bool {
    name.starts_with(['.', '@', '$', '#']) || LEFT_BY_TOOLS.contains(&name.to_lowercase().as_str())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}
