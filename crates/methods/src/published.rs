//! What is published: the rows of the tables, the names their backbones have here, and the presets that make them.
//!
//! `ocelli presets`, `ocelli bench` and `ocelli table` show these numbers beside our own, never among them. A row more is a
//! line more here; a test says which presets are not there yet.

use serde::Serialize;

/// A table somebody published.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PublishedTable {
    /// A short name.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// What its figures are.
    pub about: &'static str,
    /// Its figures of backbones, where it has any.
    pub archs: &'static [PublishedArch],
    /// Its rows, in its order.
    pub rows: &'static [PublishedRow],
}

/// A row of a published table.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PublishedRow {
    /// The method as the table writes it.
    pub title: &'static str,
    /// The method's name here.
    pub method: &'static str,
    /// The backbone's name here.
    pub arch: &'static str,
    /// What it was trained on.
    pub data: &'static str,
    /// For how many epochs, where that is known.
    pub epochs: Option<u32>,
    /// Accuracy of a linear classifier on ImageNet, per cent.
    pub linear: Option<f64>,
    /// k-NN accuracy on ImageNet, per cent.
    pub knn: Option<f64>,
    /// Average precision of detection on VOC 2007 after training on its 07+12 images.
    pub detection_ap: Option<f64>,
    /// Mean IoU of segmentation on VOC 2012, per cent.
    pub segmentation_miou: Option<f64>,
    /// The preset that makes it.
    pub preset: &'static str,
    /// What one must know to compare with it; empty where nothing.
    pub note: &'static str,
}

/// A backbone of DINO's table.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PublishedArch {
    /// Its name here.
    pub arch: &'static str,
    /// Its name in the table.
    pub label: &'static str,
    /// Parameters without a head, millions, as the table rounds them.
    pub parameters_m: u32,
    /// Images a second through one V100 in inference, batches of 128.
    pub images_per_second: u32,
}

/// The backbones of DINO's table with the table's figures; the first is the one others are compared with.
pub const PUBLISHED_ARCHS: &[PublishedArch] = &[
    arch("resnet-50", "RN50", 23, 1237),
    arch("resnet-50x2", "RN50w2", 93, 384),
    arch("resnet-50x4", "RN50w4", 375, 117),
    arch("resnet-50x5", "RN50w5", 586, 76),
    arch("resnet-200x2", "RN200w2", 250, 123),
    arch("resnet-152x3-sk", "RN152w3+SK", 794, 46),
    arch("vit-s/16", "ViT-S/16", 21, 1007),
    arch("vit-s/8", "ViT-S/8", 21, 180),
    arch("vit-b/16", "ViT-B/16", 85, 312),
    arch("vit-b/8", "ViT-B/8", 85, 63),
];

/// The tables.
pub const PUBLISHED: &[PublishedTable] = &[
    PublishedTable {
        name: "dino",
        title: "DINO, table 2: ResNet-50 and ViT-S/16 (Caron et al. 2021, https://arxiv.org/abs/2104.14294)",
        about: "ImageNet: accuracy of a linear classifier and of k-NN, per cent; parameters in millions; im/s: images a \
                second of inference on one V100",
        archs: PUBLISHED_ARCHS,
        rows: &[
            row("Supervised", "supervised", "resnet-50", "supervised-r50").imagenet(79.3, 79.3).noted(
                "a stronger recipe than the usual 76.1 (torchvision); which one is not known here",
            ),
            row("SimCLR", "simclr", "resnet-50", "simclr-r50-1000").imagenet(69.1, 60.7).after(1000),
            row("MoCo v2", "moco", "resnet-50", "moco-r50-800").imagenet(71.1, 61.9).after(800),
            row("InfoMin", "infomin", "resnet-50", "infomin-r50-800").imagenet(73.0, 65.3).after(800),
            row("Barlow Twins", "barlow", "resnet-50", "barlow-r50-1000").imagenet(73.2, 66.0).after(1000),
            row("OBoW", "obow", "resnet-50", "obow-r50-200").imagenet(73.8, 61.9).after(200),
            row("BYOL", "byol", "resnet-50", "byol-r50-1000").imagenet(74.4, 64.8).after(1000),
            row("DCv2", "deepcluster", "resnet-50", "deepcluster-r50-800").imagenet(75.2, 67.1).after(800),
            row("SwAV", "swav", "resnet-50", "swav-r50-800").imagenet(75.3, 65.7).after(800),
            row("DINO", "dino", "resnet-50", "dino-r50-800").imagenet(75.3, 67.5).after(800),
            row("Supervised", "supervised", "vit-s/16", "supervised-vit-s16").imagenet(79.8, 79.8).after(300),
            row("BYOL*", "byol", "vit-s/16", "byol-vit-s16-300").imagenet(71.4, 66.6).after(300).noted(BY_DINO),
            row("MoCo v2*", "moco", "vit-s/16", "moco-vit-s16-300").imagenet(72.7, 64.4).noted(
                "run by the authors of DINO, for how long is not known here; their 300 epochs gave 71.6 / 62.0 (table 7)",
            ),
            row("SwAV*", "swav", "vit-s/16", "swav-vit-s16-300").imagenet(73.5, 66.3).noted(
                "run by the authors of DINO, for how long is not known here; their 300 epochs gave 71.8 / 64.7 (table 7)",
            ),
            row("DINO", "dino", "vit-s/16", "vit-s16-800").imagenet(77.0, 74.5).after(800),
        ],
    },
    PublishedTable {
        name: "dino-architectures",
        title: "DINO, table 2: across architectures",
        about: "as above",
        archs: PUBLISHED_ARCHS,
        rows: &[
            row("SimCLR", "simclr", "resnet-50x4", "simclr-r50w4-1000").imagenet(76.8, 69.3).after(1000),
            row("SwAV", "swav", "resnet-50x2", "swav-r50w2").imagenet(77.3, 67.3),
            row("BYOL", "byol", "resnet-50x2", "byol-r50w2-1000").linear(77.4),
            row("DINO", "dino", "vit-b/16", "vit-b16-400").imagenet(78.2, 76.1).after(400),
            row("SwAV", "swav", "resnet-50x5", "swav-r50w5").imagenet(78.5, 67.1),
            row("BYOL", "byol", "resnet-50x4", "byol-r50w4-1000").linear(78.6),
            row("BYOL", "byol", "resnet-200x2", "byol-r200w2-1000").imagenet(79.6, 73.9),
            row("DINO", "dino", "vit-s/8", "vit-s8-800").imagenet(79.7, 78.3).after(800),
            row("SimCLRv2", "simclr", "resnet-152x3-sk", "simclrv2-r152w3-sk-800").imagenet(79.8, 73.1),
            row("DINO", "dino", "vit-b/8", "vit-b8-300").imagenet(80.1, 77.4).after(300),
        ],
    },
    PublishedTable {
        name: "densecl",
        title: "DenseCL: dense tasks (Wang et al. 2021, https://arxiv.org/abs/2011.09157, and its repository)",
        about: "AP: detection on VOC 07+12; mIoU: segmentation on VOC 2012, both fine-tuned from what was pre-trained",
        archs: &[],
        rows: &[
            row("MoCo v2", "moco", "resnet-50", "moco-r50-coco-800").on("COCO").after(800).voc(54.7, 64.5),
            row("DenseCL", "densecl", "resnet-50", "densecl-r50-coco-800").on("COCO").after(800).voc(56.7, 67.5),
            row("DenseCL", "densecl", "resnet-50", "densecl-r50-coco-1600").on("COCO").after(1600).voc(57.2, 68.0),
            row("MoCo v2", "moco", "resnet-50", "moco-r50-200").after(200).voc(57.0, 67.5),
            row("DenseCL", "densecl", "resnet-50", "densecl-r50-200").after(200).voc(58.7, 69.4).noted(
                "mmselfsup's own run: linear 63.5, k-NN (k = 20) 48.5, lower than MoCo v2's, which is right",
            ),
            row("DenseCL", "densecl", "resnet-101", "densecl-r101-200").after(200).voc(61.3, 74.1),
        ],
    },
    PublishedTable {
        name: "repositories",
        title: "What the methods' own repositories say beyond these",
        about: "ImageNet, per cent",
        archs: &[],
        rows: &[
            row("DINO", "dino", "vit-s/16", "vit-s16-100").imagenet(74.0, 69.3).after(100),
            row("DINO", "dino", "vit-s/16", "vit-s16-300").imagenet(76.0, 73.3).after(300),
            row("MoCo v2", "moco", "resnet-50", "moco-r50-200").linear(67.7).after(200),
            row("SwAV", "swav", "resnet-50x4", "swav-r50w4").linear(77.9),
        ],
    },
];

const BY_DINO: &str = "run by the authors of DINO";

/// The published backbone of this name.
pub fn published_arch(arch: &str) -> Option<&'static PublishedArch> {
    PUBLISHED_ARCHS.iter().find(|a| a.arch == arch)
}

/// The rows with a method on a backbone, in the order of the tables.
pub fn published_rows(
    method: &str,
    arch: &str,
) -> impl Iterator<Item = (&'static PublishedTable, &'static PublishedRow)> {
    let all = PUBLISHED.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
    all.filter(move |(_, row)| row.method == method && row.arch == arch)
}

const fn arch(
    arch: &'static str,
    label: &'static str,
    parameters_m: u32,
    images_per_second: u32,
) -> PublishedArch {
    PublishedArch { arch, label, parameters_m, images_per_second }
}

const fn row(title: &'static str, method: &'static str, arch: &'static str, preset: &'static str) -> PublishedRow {
    PublishedRow {
        title,
        method,
        arch,
        data: "ImageNet",
        epochs: None,
        linear: None,
        knn: None,
        detection_ap: None,
        segmentation_miou: None,
        preset,
        note: "",
    }
}

impl PublishedRow {
    const fn after(self, epochs: u32) -> Self {
        Self { epochs: Some(epochs), ..self }
    }

    const fn on(self, data: &'static str) -> Self {
        Self { data, ..self }
    }

    const fn linear(self, linear: f64) -> Self {
        Self { linear: Some(linear), ..self }
    }

    const fn imagenet(self, linear: f64, knn: f64) -> Self {
        Self { linear: Some(linear), knn: Some(knn), ..self }
    }

    const fn voc(self, ap: f64, miou: f64) -> Self {
        Self { detection_ap: Some(ap), segmentation_miou: Some(miou), ..self }
    }

    const fn noted(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ocelli_models::{BackboneArch, BackboneConfig};

    use super::*;
    use crate::METHODS;

    fn rows() -> impl Iterator<Item = &'static PublishedRow> {
        PUBLISHED.iter().flat_map(|table| table.rows)
    }

    #[test]
    fn every_row_has_its_preset() {
        let there: BTreeSet<&str> = METHODS.iter().flat_map(|m| m.presets.iter().map(|p| p.name)).collect();
        let missing: BTreeSet<&str> = rows().map(|row| row.preset).filter(|p| !there.contains(p)).collect();
        assert!(missing.is_empty(), "{} presets of published rows are missing: {missing:?}", missing.len());
    }

    /// Names read back as they are written, and the counts are those the tables round.
    #[test]
    fn every_backbone_is_known_here() {
        for name in rows().map(|row| row.arch) {
            let arch: BackboneArch = name.parse().unwrap();
            assert_eq!(arch.to_string(), name);
        }
        for published in PUBLISHED_ARCHS {
            let parameters = match published.arch.parse().unwrap() {
                BackboneArch::Vit(arch) => BackboneConfig::Vit(arch.config(224, 0.0)),
                BackboneArch::ResNet(arch) => BackboneConfig::ResNet(arch.into()),
            }
            .num_parameters();
            assert_eq!(parameters / 1_000_000, published.parameters_m as usize, "{}", published.arch);
            assert!(published_arch(published.arch).is_some());
        }
        // DINO's table has all of them.
        let of_dino: BTreeSet<&str> =
            PUBLISHED.iter().filter(|t| !t.archs.is_empty()).flat_map(|t| t.rows).map(|r| r.arch).collect();
        assert_eq!(of_dino, PUBLISHED_ARCHS.iter().map(|a| a.arch).collect());
    }

    #[test]
    fn a_row_is_found_by_method_and_backbone() {
        let found: Vec<_> =
            published_rows("moco", "resnet-50").map(|(table, row)| (table.name, row.preset)).collect();
        let presets = [
            ("dino", "moco-r50-800"),
            ("densecl", "moco-r50-coco-800"),
            ("densecl", "moco-r50-200"),
            ("repositories", "moco-r50-200"),
        ];
        assert_eq!(found, presets);
        assert_eq!(published_rows("dino", "resnet-18").count(), 0);
    }
}
