//! What a GPU that gives up says, turned into errors a person can act on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::TrainError;

/// Runs `work`; a panic inside (the tensor library reports a failing device that way) becomes an error.
///
/// # Errors
/// What `work` returns, or what the panic said.
pub(crate) fn fenced<T>(work: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        Err(device_error(text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message")))
    })
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
        let caught = fenced::<()>(|| panic!("Device lost: {}", 7)).unwrap_err();
        assert!(matches!(caught, TrainError::DeviceLost { .. }));
    }
}
