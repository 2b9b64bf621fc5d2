//! What can end a run.

use std::path::PathBuf;

/// An error of training or of the files around it.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] ocelli_data::DataError),
    /// The method.
    #[error(transparent)]
    Method(#[from] ocelli_methods::MethodError),
    /// The network.
    #[error(transparent)]
    Backbone(#[from] ocelli_models::BackboneError),
    /// A Vision Transformer.
    #[error(transparent)]
    Vit(#[from] ocelli_models::VitError),
    /// Weights.
    #[error(transparent)]
    Weights(#[from] ocelli_models::weights::WeightsError),
    /// Evaluation.
    #[error(transparent)]
    Eval(#[from] ocelli_eval::EvalError),
    /// A file.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what happened.
        reason: String,
    },
    /// The data set is smaller than one batch.
    #[error("the data set has {images} images, fewer than one batch of {batch}; lower batch_size")]
    TooFewImages {
        /// Images there are.
        images: usize,
        /// Images a batch takes.
        batch: usize,
    },
    /// A figure left the finite numbers.
    #[error(
        "{what} became {value} at step {step}. Usual remedies: a lower optim.lr, a longer optim.warmup_epochs, a smaller \
         optim.clip_grad, a lower dino.teacher_temp"
    )]
    NotFinite {
        /// The loss, the gradients, the weights.
        what: &'static str,
        /// Its value.
        value: f32,
        /// Optimizer steps done.
        step: usize,
    },
    /// The run collapsed.
    #[error(
        "the run has collapsed since step {since}: {}. Usual remedies: {}. To go on regardless: watch.collapse = \"warn\"",
        .sign.meaning,
        .sign.remedies
    )]
    Collapsed {
        /// How one sees it.
        sign: ocelli_methods::Sign,
        /// Steps after which it still looked healthy.
        since: usize,
    },
    /// The device has not enough memory.
    #[error(
        "the device ran out of memory ({cause}). What to lower, the most effective first: batch_size (or raise accumulate, \
         which computes a batch in parts), views.local_crops, views.global_size_px, dino.head.out_dim, a \
         smaller --arch. `--dry-run` tells what a configuration takes"
    )]
    OutOfMemory {
        /// What the driver said.
        cause: String,
    },
    /// Something takes more memory than there is.
    #[error(
        "expected a device with {} of memory or more ({}), found {} {place}; {}",
        crate::memory::gb(.needs.bytes),
        .needs.what,
        crate::memory::gb(*.has),
        .needs.remedy
    )]
    DoesNotFit {
        /// What it takes.
        needs: crate::memory::Needs,
        /// Bytes there are.
        has: u64,
        /// Where.
        place: &'static str,
    },
    /// A tensor is larger than the device binds.
    #[error(
        "expected tensors of {} or less (the device's {limit}), found {what} with {}; lower {lower}, or take another --device",
        crate::limits::mib(*.most),
        crate::limits::mib(*.bytes)
    )]
    TooLarge {
        /// Which tensor, with its shape.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit's name, as WebGPU has it.
        limit: &'static str,
        /// The limit in bytes.
        most: u64,
        /// Keys to lower, in words.
        lower: String,
    },
    /// The device went away.
    #[error("the device was lost ({cause}): a driver that restarted, a card that was removed or overheated")]
    DeviceLost {
        /// What the driver said.
        cause: String,
    },
    /// The device.
    #[error("{0}")]
    Device(String),
    /// A panic in code of ours, or one that our code caused.
    #[error("this is a fault in Ocelli, not in its input: {message} (at {location})")]
    Fault {
        /// What the panic said.
        message: String,
        /// File and line.
        location: String,
    },
}

impl TrainError {
    /// Wraps an I/O error with the path and what was being done.
    pub(crate) fn io(path: impl Into<PathBuf>, doing: &str, error: &std::io::Error) -> Self {
        Self::File { path: path.into(), reason: format!("cannot {doing}: {error}") }
    }
}
