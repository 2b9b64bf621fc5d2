//! What a panic means: a device that gives up, which the tensor library reports that way, or a fault of ours.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};

use ocelli_data::DataError;

use crate::TrainError;

/// Message and place of the newest panics, of all threads: a panic on a worker is caught on another thread, which learns
/// its message alone.
static RECENT: Mutex<VecDeque<(String, String)>> = Mutex::new(VecDeque::new());
/// Damaged pictures make decoders panic, on many threads at once.
const REMEMBERED: usize = 64;
const NO_MESSAGE: &str = "no message";

/// From now on the place of every panic is remembered; what else was to happen at a panic happens as before.
pub fn record_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            record(info);
            before(info);
        }));
    });
}

fn record(info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
    let message = info.payload_as_str().unwrap_or(NO_MESSAGE).to_owned();
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.truncate(REMEMBERED - 1);
    recent.push_front((message, place));
}

/// File and line of the newest panic with this message.
fn place_of(message: &str) -> Option<String> {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.iter().find(|(said, at)| said == message && !at.is_empty()).map(|(_, at)| at.clone())
}

/// Runs `work`; a panic inside becomes an error that tells a device that gave up from a fault of ours.
///
/// # Errors
/// What the panic meant.
pub fn catch_panics<T>(work: impl FnOnce() -> T) -> Result<T, TrainError> {
    record_panics();
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| of_panic(payload.as_ref()))
}

/// As [`catch_panics`], for work that has errors of its own; a panic of one of the loader's threads among them.
///
/// # Errors
/// What `work` returns, or what the panic meant.
pub(crate) fn fenced<T>(work: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
    catch_panics(work)?.map_err(|error| match error {
        TrainError::Data(error) => of_data(error),
        error => error,
    })
}

/// What a caught panic meant.
pub(crate) fn of_panic(payload: &(dyn Any + Send)) -> TrainError {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let message = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or(NO_MESSAGE);
    judge(message, place_of(message).as_deref())
}

/// An error of reading data; a panic of the threads that read is a fault of ours. (A decoder's is a damaged picture, and is
/// an error already.)
pub fn of_data(error: DataError) -> TrainError {
    match error {
        DataError::Panic { what, message } => {
            let location = place_of(&message).unwrap_or_else(|| UNKNOWN.into());
            TrainError::Fault { message: format!("{message} (while reading {what})"), location }
        }
        error => TrainError::Data(error),
    }
}

const UNKNOWN: &str = "an unknown place";
/// What the tensor library says when reading values back failed, in whatever file the values were read.
const READ_BACK: [&str; 2] = ["Error while reading data", "Failed to read tensor data"];
/// Crates that panic when a device or its driver does not do what it should.
const DEVICE_STACK: [&str; 7] = ["wgpu", "naga", "cubecl", "cubek", "burn-cubecl", "burn-fusion", "burn-wgpu"];

/// A panic by its message and its place. The place decides: our own code may say "memory" as well.
fn judge(message: &str, place: Option<&str>) -> TrainError {
    let is_devices = match place {
        _ if READ_BACK.iter().any(|said| message.starts_with(said)) => true,
        Some(place) => is_in_device_stack(place),
        None => message.starts_with("wgpu error"),
    };
    if is_devices {
        return device_error(message);
    }
    TrainError::Fault { message: message.trim().to_owned(), location: place.unwrap_or(UNKNOWN).to_owned() }
}

/// Whether a source file belongs to the crates that drive the device: the folder around its last `src` is the crate's.
fn is_in_device_stack(place: &str) -> bool {
    let parts: Vec<&str> = place.split(['/', '\\']).collect();
    let krate = parts.iter().rposition(|part| *part == "src").and_then(|at| parts.get(at.checked_sub(1)?));
    krate.is_some_and(|krate| DEVICE_STACK.iter().any(|name| krate.starts_with(name)))
}

/// Sorts a message of the tensor library or the driver.
pub(crate) fn device_error(text: &str) -> TrainError {
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| lower.contains(w));
    // The chain of causes ends with the one that began it.
    let cause = text.lines().map(str::trim).rfind(|l| !l.is_empty() && !is_noise(l)).unwrap_or(text).to_owned();
    if has(&[
        "can't allocate",
        "cannot allocate",
        "out of memory",
        "outofmemory",
        "out-of-memory",
        "max_buffer_size",
    ]) {
        TrainError::OutOfMemory { cause }
    } else if has(&["device lost", "device is lost", "devicelost", "connection lost"]) {
        TrainError::DeviceLost { cause }
    } else {
        TrainError::Device(format!("the device failed: {text}"))
    }
}

fn is_noise(line: &str) -> bool {
    ["No backtrace", "Asked at", "Caused by", "An IO error happened"].iter().any(|n| line.starts_with(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_device_says_is_sorted() {
        let full = "Error while reading data: An error happened during execution\nCaused by:\n  An IO error happened\n\
                    Caused by:\n  can't allocate buffer of size: 4823040000\nNo backtrace available\nAsked at:\n";
        let error = device_error(full);
        assert!(
            matches!(&error, TrainError::OutOfMemory { cause } if cause == "can't allocate buffer of size: 4823040000")
        );
        assert!(error.to_string().contains("batch_size"));
        assert!(matches!(device_error("wgpu error: Parent device is lost"), TrainError::DeviceLost { .. }));
        assert!(matches!(device_error("something else"), TrainError::Device(_)));
        // Read back in a file of ours, which is where the library says that it happened.
        assert!(matches!(judge(full, Some("crates/train/src/averages.rs:27")), TrainError::OutOfMemory { .. }));
    }

    #[test]
    fn the_place_tells_a_device_from_a_fault() {
        let of = |message: &str, place: &str| judge(message, Some(place));
        let registry = "/home/x/.cargo/registry/src/index.crates.io-1949/";
        let at = |file: &str| format!("{registry}{file}");
        let lost = "wgpu error: Validation Error: Parent device is lost";
        assert!(matches!(
            of(lost, &at("wgpu-30.0.1/src/backend/wgpu_core.rs:694")),
            TrainError::DeviceLost { .. }
        ));
        let out = "out of memory";
        assert!(matches!(of(out, &at("cubecl-runtime-0.11.3/src/client.rs:283")), TrainError::OutOfMemory { .. }));
        assert!(matches!(
            of("x", "C:\\x\\registry\\src\\index\\burn-fusion-0.22.1\\src\\a.rs:1"),
            TrainError::Device(_)
        ));
        // The same words from code of ours, and what we did wrong as other crates tell it.
        let shapes = "=== Tensor Operation Error ===\n  Operation: 'matmul'";
        let ours = [
            (lost, "crates/kernels/src/gpu/launch.rs:7".to_owned()),
            (out, "src/cli/mod.rs:3".to_owned()),
            ("no entry", "/home/x/.cargo/git/checkouts/ocelli-1/ab/crates/data/src/files/open.rs:9".to_owned()),
            (shapes, at("burn-tensor-0.22.1/src/tensor/api/check.rs:1334")),
            ("index out of bounds", "/rustc/59807616e/library/core/src/slice/index.rs:5".to_owned()),
        ];
        for (message, place) in ours {
            let error = of(message, &place);
            assert!(
                matches!(&error, TrainError::Fault { location, .. } if *location == place),
                "{place}: {error:?}"
            );
            let text = error.to_string();
            assert!(text.contains(&place) && !text.contains("the device failed"), "{text}");
        }
    }

    #[test]
    fn a_panic_of_ours_is_a_fault_with_its_place() {
        let line = line!() + 1;
        let caught = fenced::<()>(|| panic!("Device lost: {}", 7)).unwrap_err();
        let TrainError::Fault { message, location } = &caught else { panic!("{caught:?}") };
        assert_eq!(message, "Device lost: 7");
        assert!(location.ends_with(&format!("fence.rs:{line}")), "{location}");
    }

    /// rayon and threads hand the message on, and not the place.
    #[test]
    fn a_panic_on_another_thread_is_a_fault_with_its_place() {
        let line = line!() + 1;
        let work = || std::thread::spawn(|| panic!("worker {}", 8)).join();
        let caught = fenced::<()>(|| match work() {
            Ok(()) => Ok(()),
            Err(payload) => std::panic::resume_unwind(payload),
        });
        let TrainError::Fault { message, location } = &caught.unwrap_err() else { panic!("expected a fault") };
        assert_eq!(message, "worker 8");
        assert!(location.ends_with(&format!("fence.rs:{line}")), "{location}");
    }

    /// The loader catches its workers' panics itself.
    #[test]
    fn a_panic_of_the_loader_is_a_fault_and_a_damaged_picture_is_not() {
        record_panics();
        let line = line!() + 1;
        let _ = std::thread::spawn(|| panic!("loader {}", 9)).join();
        let error = DataError::Panic { what: "a.png".into(), message: "loader 9".into() };
        let caught = fenced::<()>(|| Err(error.into())).unwrap_err();
        let TrainError::Fault { message, location } = &caught else { panic!("{caught:?}") };
        assert!(message.contains("loader 9") && message.contains("a.png"), "{message}");
        assert!(location.ends_with(&format!("fence.rs:{line}")), "{location}");
        let damaged =
            DataError::Decode { name: "a.png".into(), reason: "damaged file: the decoder panicked".into() };
        assert!(matches!(fenced::<()>(|| Err(damaged.into())), Err(TrainError::Data(_))));
    }
}
