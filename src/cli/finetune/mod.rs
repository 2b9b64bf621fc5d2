//! `ocelli finetune`: a network trained further, for a task of its own.

mod classification;
mod detection;
mod flags;
mod plan;
mod segmentation;

use clap::Subcommand;

/// Train a network further, for a task of its own
#[derive(Subcommand)]
pub enum FinetuneCommand {
    /// Train a backbone and a linear classifier on labelled images
    ///
    /// Both are trained together, from pre-trained weights: AdamW, label smoothing, mixup, cutmix, RandAugment and random
    /// erasing, as DeiT does and DINO transfers by. The best classifier is kept in the run's folder as
    /// classifier.safetensors.
    Classification(classification::ClassificationArgs),
    /// Train an object detector on images with boxes
    ///
    /// Faster R-CNN on a ResNet's fourth stage (C4), every layer trained from pre-trained weights, as MoCo and DenseCL are
    /// judged. The best detector is kept in the run's folder as detector.safetensors, what it came to as detection.json.
    Detection(detection::DetectionArgs),
    /// Train a network that assigns a class to every pixel
    ///
    /// FCN on a dilated ResNet with its auxiliary head, as DenseCL is judged, or a linear or small convolutional head on a Vision
    /// Transformer's patches. The best network is kept in the run's folder as segmenter.safetensors, what it came to as
    /// segmentation.json.
    Segmentation(segmentation::SegmentationArgs),
}

pub fn run(command: &FinetuneCommand) -> anyhow::Result<()> {
    match command {
        FinetuneCommand::Classification(args) => classification::run(args),
        FinetuneCommand::Detection(args) => detection::run(args),
        FinetuneCommand::Segmentation(args) => segmentation::run(args),
    }
}
