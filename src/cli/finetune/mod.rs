//! `ocelli finetune`: a network trained further, for a task of its own.

mod classification;
mod detection;
mod flags;
mod plan;
mod segmentation;

use clap::Subcommand;

use super::ranks;

/// Train a network further for another task: classification, detection or segmentation
#[derive(Subcommand)]
pub enum FinetuneCommand {
    /// Train a backbone and a linear classifier on labelled images
    ///
    /// Both are trained together, from pre-trained weights, by the recipe of DeiT that DINO uses as well: AdamW, label smoothing,
    /// mixup, cutmix, RandAugment and random erasing. The best classifier is kept in the run's folder as classifier.safetensors.
    Classification(classification::ClassificationArgs),
    /// Train an object detector on images with boxes
    ///
    /// The detector is Faster R-CNN on a ResNet's fourth stage (C4). Every layer is trained from pre-trained weights, as MoCo and
    /// DenseCL are evaluated. The run's folder keeps the best detector as detector.safetensors, and its figures as detection.json.
    Detection(detection::DetectionArgs),
    /// Train a network that assigns a class to every pixel
    ///
    /// The network is FCN on a dilated ResNet with its auxiliary head, as DenseCL is evaluated, or a linear or small convolutional
    /// head on a Vision Transformer's patches. The run's folder keeps the best network as segmenter.safetensors, and its figures
    /// as segmentation.json.
    Segmentation(segmentation::SegmentationArgs),
}

pub fn run(command: &FinetuneCommand) -> anyhow::Result<()> {
    match command {
        FinetuneCommand::Classification(args) => classification::run(args),
        FinetuneCommand::Detection(args) => {
            ranks::one_process("finetune detection")?;
            detection::run(args)
        }
        FinetuneCommand::Segmentation(args) => {
            ranks::one_process("finetune segmentation")?;
            segmentation::run(args)
        }
    }
}
