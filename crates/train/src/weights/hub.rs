//! Networks by their name at Hugging Face (`hf:NAME`): what its library has cached on this machine, and, where somebody asks
//! for it, what its own program downloads into that cache.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::source::{file_name, has_its_shards, in_folder, short_text};
use crate::TrainError;

/// How a name in Hugging Face's cache is given.
const HUB: &str = "hf:";
/// Hugging Face's own programs that download, the present one first.
const PROGRAMS: [&str; 2] = ["hf", "huggingface-cli"];
/// What is downloaded, one pattern a call (the two programs take several in different ways): what describes a network, and
/// its weights. Other frameworks' copies of the same weights stay where they are.
const FIRST: [&str; 2] = ["*.json", "model*.safetensors"];
/// Where there are no safetensors.
const ELSE: [&str; 1] = ["pytorch_model*.bin"];

static DOWNLOAD: AtomicBool = AtomicBool::new(false);

/// Lets this process download what `hf:NAME` does not find in the cache, with Hugging Face's own program (`hf` or
/// `huggingface-cli`). Without it nothing is ever downloaded.
pub fn allow_download() {
    DOWNLOAD.store(true, Ordering::Relaxed);
}

/// The name in `hf:NAME`, where it is one.
pub(super) fn hub_name(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(HUB)
}

/// The weights of `facebook/dino-vits16` or `facebook/dino-vits16@REVISION` in the cache of `huggingface_hub`, downloaded
/// where that is missing and [`allow_download`] was called.
///
/// # Errors
/// When they are not there, and the message says how to get them; when the download fails.
pub(super) fn in_hub(name: &str) -> Result<PathBuf, TrainError> {
    let named = Named::parse(name)?;
    let roots = cache_folders(|key| env::var_os(key).map(PathBuf::from).filter(|p| !p.as_os_str().is_empty()));
    let found = || in_folder(&named.find(&roots)?);
    if !DOWNLOAD.load(Ordering::Relaxed) {
        return found();
    }
    // An index comes before its shards, and an earlier download may have ended between them.
    let whole = || found().ok().filter(|path| has_its_shards(path));
    for patterns in [&FIRST[..], &ELSE[..]] {
        if let Some(path) = whole() {
            return Ok(path);
        }
        patterns.iter().try_for_each(|files| named.download(files))?;
    }
    found()
}

/// Where the cache may be, by the library's own rules: the first that is set counts.
fn cache_folders(var: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let given = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].iter().find_map(|key| var(key));
    let home = || {
        var("HF_HOME")
            .or_else(|| Some(var("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(var("HOME").or_else(|| var("USERPROFILE"))?.join(".cache").join("huggingface")))
    };
    given.or_else(|| Some(home()?.join("hub"))).into_iter().collect()
}

/// A network at Hugging Face.
struct Named<'a> {
    /// As it was given, behind `hf:`.
    name: &'a str,
    repository: &'a str,
    revision: &'a str,
}

/// Words of a name that can be no path and no flag.
fn is_plain(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && !text.starts_with(['.', '-']) && !text.contains("..") && text.chars().all(fine)
}

impl<'a> Named<'a> {
    fn parse(name: &'a str) -> Result<Self, TrainError> {
        let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
        let named = Self { name, repository, revision };
        let parts: Vec<&str> = repository.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_plain(part)) || !is_plain(revision) {
            return Err(named.fail(
                "expected the name of a network at Hugging Face, such as hf:facebook/dino-vits16, or with a revision behind an @"
                    .into(),
            ));
        }
        Ok(named)
    }

    fn fail(&self, reason: String) -> TrainError {
        TrainError::File { path: PathBuf::from(format!("{HUB}{}", self.name)), reason }
    }

    /// The folder in which `huggingface_hub` has cached it.
    fn find(&self, roots: &[PathBuf]) -> Result<PathBuf, TrainError> {
        let (repository, revision) = (self.repository, self.revision);
        let cached = format!("models--{}", repository.replace('/', "--"));
        if let Some(folder) = roots.iter().map(|root| root.join(&cached)).find(|folder| folder.is_dir()) {
            let commit = short_text(&folder.join("refs").join(revision), 256).map(|text| text.trim().to_owned());
            let commit = commit.filter(|c| is_plain(c)).unwrap_or_else(|| revision.to_owned());
            let snapshots = folder.join("snapshots");
            let mut there: Vec<PathBuf> =
                fs::read_dir(&snapshots).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
            there.sort();
            let is = |path: &&PathBuf| path.is_dir() && file_name(path).starts_with(&commit);
            let only = (revision == "main" && there.len() == 1).then(|| there.first()).flatten();
            if let Some(found) = there.iter().find(is).or(only) {
                return Ok(found.clone());
            }
            let names: Vec<&str> = there.iter().map(|p| file_name(p)).collect();
            return Err(self.fail(format!(
                "expected revision {revision} in {}, found {}; --download gets it",
                snapshots.display(),
                if names.is_empty() { "none".into() } else { names.join(", ") }
            )));
        }
        let looked: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
        let looked = if looked.is_empty() {
            "no cache folder (HF_HOME and HOME are not set)".into()
        } else {
            looked.join(", ")
        };
        Err(self.fail(format!(
            "expected a network that huggingface_hub has cached on this machine, found none of this name (looked in {looked}); \
             --download gets it"
        )))
    }

    /// Lets Hugging Face's program fetch files of this network into its cache. Its progress goes where errors go.
    fn download(&self, files: &str) -> Result<(), TrainError> {
        for program in PROGRAMS {
            let args = ["download", self.repository, "--revision", self.revision, "--include", files];
            match Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status() {
                Ok(status) if status.success() => return Ok(()),
                Ok(status) => {
                    let login = if program == PROGRAMS[0] { "hf auth login" } else { "huggingface-cli login" };
                    return Err(self.fail(format!(
                        "`{program} {}` failed ({status}); its message stands above. Check the name and the internet \
                         connection. If the repository needs a login: `{login}`",
                        args.join(" ")
                    )));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.fail(format!("cannot start {program}: {error}"))),
            }
        }
        Err(self.fail(format!(
            "--download needs Hugging Face's own program, {} or {}; found neither on the PATH. `pip install huggingface_hub` \
             installs it",
            PROGRAMS[0], PROGRAMS[1]
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_library_has_it() {
        let with = |pairs: &[(&str, &str)]| {
            let found = cache_folders(|key| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| PathBuf::from(v)));
            found.first().map(|p| p.display().to_string().replace('\\', "/"))
        };
        assert_eq!(with(&[("HF_HUB_CACHE", "/a"), ("HF_HOME", "/b"), ("HOME", "/c")]).as_deref(), Some("/a"));
        assert_eq!(with(&[("HF_HOME", "/b"), ("HOME", "/c")]).as_deref(), Some("/b/hub"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/c")]).as_deref(), Some("/x/huggingface/hub"));
        assert_eq!(with(&[("HOME", "/c")]).as_deref(), Some("/c/.cache/huggingface/hub"));
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn a_cached_network_is_found_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let roots = [root.path().to_owned()];
        let of = |name: &str| Named::parse(name)?.find(&roots);
        let error = of("facebook/dino-vits16").unwrap_err().to_string();
        assert!(error.contains("found none of this name") && error.contains("--download"), "{error}");
        let cached = root.path().join("models--facebook--dino-vits16");
        for commit in ["0123abc", "4567def"] {
            fs::create_dir_all(cached.join("snapshots").join(commit)).unwrap();
        }
        let error = of("facebook/dino-vits16").unwrap_err().to_string();
        assert!(error.contains("revision main") && error.contains("0123abc, 4567def"), "{error}");
        fs::create_dir_all(cached.join("refs")).unwrap();
        fs::write(cached.join("refs/main"), "4567def\n").unwrap();
        assert_eq!(file_name(&of("facebook/dino-vits16").unwrap()), "4567def");
        assert_eq!(file_name(&of("facebook/dino-vits16@0123").unwrap()), "0123abc");
        for bad in
            ["", "../a", "a/b/c", "/etc", "a/..", "a@../../b", "a/b@", ".a/b", "a\\b", "-a/b", "a/-b", "a@-b"]
        {
            let error = of(bad).unwrap_err().to_string();
            assert!(error.contains("such as hf:facebook/dino-vits16"), "{bad}: {error}");
        }
    }
}
