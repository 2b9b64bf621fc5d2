//! The one error type of this crate: every message names the file or setting, what was expected and what was found.

/// What can go wrong between a path on disk and a batch of views.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be opened or read.
    #[error("{path}: {reason}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// The data set path does not exist.
    #[error(
        "{path}: no such file or folder; expected a folder of images, CIFAR records (.bin, .bin.xz), \
         or the built-in data set `scenes`"
    )]
    NotFound {
        /// The path asked for.
        path: String,
    },
    /// A folder was expected.
    #[error("{path}: expected a folder of images, found {found}")]
    NotAFolder {
        /// The path asked for.
        path: String,
        /// What is there.
        found: String,
    },
    /// The folder holds no image.
    #[error("{path}: no images found; expected files ending in {expected}, found {found}")]
    NoImages {
        /// The folder.
        path: String,
        /// The known extensions.
        expected: String,
        /// What the folder holds instead.
        found: String,
    },
    /// One image could not be decoded.
    #[error("{name}: {reason}")]
    Decode {
        /// The image.
        name: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// An image claims more pixels than allowed; nothing was allocated for it.
    #[error(
        "{name}: claims {width}x{height} = {pixels} pixels, the limit is {limit} pixels; if that is the picture, raise it: \
         --max-pixels {}M, or loader.max_pixels in a run's configuration",
        .pixels.div_ceil(1_000_000)
    )]
    TooManyPixels {
        /// The image.
        name: String,
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// Claimed width × height.
        pixels: u64,
        /// The limit in force.
        limit: u64,
    },
    /// A file of fixed-size records is not what it should be.
    #[error("{path}: {reason}")]
    Records {
        /// The record file.
        path: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A data set description could not be understood.
    #[error("data set `{spec}`: {reason}")]
    Spec {
        /// The text given.
        spec: String,
        /// What was expected.
        reason: String,
    },
    /// A setting has an impossible value.
    #[error("{what}: expected {expected}, found {found}")]
    Config {
        /// The setting.
        what: String,
        /// The values it may take.
        expected: String,
        /// The value it has.
        found: String,
    },
    /// A sample was asked for that the source does not have.
    #[error("sample {index} was asked for, the source holds {len}")]
    OutOfRange {
        /// The sample.
        index: usize,
        /// Number of samples in the source.
        len: usize,
    },
    /// More images are unreadable than the limit allows.
    #[error(
        "{bad} of {total} images are unreadable, at most {allowed} are tolerated (loader.max_bad_fraction is the share; in \
         training, --set loader.max_bad_fraction=0.2 tolerates a fifth):\n{listing}"
    )]
    TooManyBad {
        /// Unreadable images found so far.
        bad: usize,
        /// Images in the source.
        total: usize,
        /// How many may be unreadable.
        allowed: usize,
        /// The first of them, one per line.
        listing: String,
    },
    /// Code running on a worker thread panicked.
    #[error("{what}: a worker panicked: {message}")]
    Panic {
        /// What was being worked on.
        what: String,
        /// The panic message.
        message: String,
    },
}

impl DataError {
    /// A [`DataError::Config`] from anything printable.
    #[allow(clippy::needless_pass_by_value)] // Callers pass numbers and fresh text.
    pub(crate) fn config(what: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Config { what: what.into(), expected: expected.into(), found: found.to_string() }
    }
}
