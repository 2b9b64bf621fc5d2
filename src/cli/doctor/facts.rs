//! What the system tells of itself, without anything being tried.

use std::env;
use std::fs;
use std::path::PathBuf;

use ocelli::train::memory::{gb, host_available};
use serde_json::{Value, json};

/// Environment variables that Ocelli, the Vulkan loader or the command line reads. None of them holds a secret.
const VARIABLES: [&str; 15] = [
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "LOCALAPPDATA",
    "NO_COLOR",
    "OCELLI_PYTHON",
    "OCELLI_SIMD",
    "RAYON_NUM_THREADS",
    "RUST_BACKTRACE",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_LOADER_DRIVERS_SELECT",
    "XDG_CACHE_HOME",
];

/// Those of the variables that are set, with their values.
pub fn environment() -> Vec<(&'static str, String)> {
    let set = |name: &&'static str| Some((*name, env::var_os(name)?.to_string_lossy().into_owned()));
    VARIABLES.iter().filter_map(set).collect()
}

/// A text for others to read: the user's own folder, whose name is often a person's, is written ~.
pub fn without_home(text: &str) -> String {
    let home = env::var_os("HOME").or_else(|| env::var_os("USERPROFILE")).map(PathBuf::from);
    match home.filter(|home| home.is_absolute() && home.parent().is_some()) {
        Some(home) => shortened(text, &home.display().to_string()),
        None => text.to_owned(),
    }
}

fn shortened(text: &str, home: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(home) {
        let (before, after) = (&rest[..at], &rest[at + home.len()..]);
        // Another folder's name may begin alike.
        let ends = after.chars().next().is_none_or(|c| !(c.is_alphanumeric() || "._-".contains(c)));
        out += before;
        out += if ends { "~" } else { home };
        rest = after;
    }
    out + rest
}

/// What the tool was built for: processor, system and C library.
pub fn target() -> String {
    let library = match () {
        () if cfg!(target_env = "gnu") => " (gnu)",
        () if cfg!(target_env = "musl") => " (musl)",
        () if cfg!(target_env = "msvc") => " (msvc)",
        () => "",
    };
    format!("{} {}{library}", env::consts::ARCH, env::consts::OS)
}

/// The processor's name, where the system tells.
pub fn cpu_name() -> Option<String> {
    let told = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = told.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The vector extensions that matter here and that the processor has.
#[cfg(target_arch = "x86_64")]
pub fn cpu_features() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt)*) => { [$(($name, is_x86_feature_detected!($name))),*] };
    }
    let all =
        detected!("sse4.2" "avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni");
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

/// The vector extensions that matter here and that the processor has.
#[cfg(target_arch = "aarch64")]
pub fn cpu_features() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    macro_rules! detected {
        ($($name:tt)*) => { [$(($name, is_aarch64_feature_detected!($name))),*] };
    }
    let all = detected!("neon" "fp16" "dotprod" "sve");
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

/// On other processors none is looked for.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}

/// The memory of the machine in words and as fields, where the system tells.
pub fn memory() -> Option<(String, Value)> {
    let available = host_available()?;
    let told = fs::read_to_string("/proc/meminfo").ok();
    let total = told.as_deref().and_then(total_bytes);
    let of = total.map(|bytes| format!(" of {}", gb(bytes))).unwrap_or_default();
    let words = format!("{}{of} can still be taken", gb(available));
    Some((words, json!({ "available_bytes": available, "total_bytes": total })))
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_folder_is_not_named() {
        let told = |text: &str| shortened(text, "/home/ada");
        assert_eq!(told("/home/ada"), "~");
        assert_eq!(told("a:/home/ada/photos:/home/ada"), "a:~/photos:~");
        assert_eq!(told("cannot read /home/ada/x.png; try again"), "cannot read ~/x.png; try again");
        assert_eq!(told("/home/adamant/photos"), "/home/adamant/photos");
        assert_eq!(told("nothing"), "nothing");
    }

    #[test]
    fn the_memory_of_a_machine() {
        assert_eq!(total_bytes("MemTotal:        2048 kB\nMemFree:  3 kB\n"), Some(2 << 20));
        assert_eq!(total_bytes("MemFree: 3 kB\n"), None);
    }
}
