//! What a detector in training tells of itself.

use ocelli_eval::detection::DetectionSummary;
use ocelli_methods::Figure;
use ocelli_train::Scores;

/// Names of the scores in rows and events.
const AP50: &str = "voc_ap50";
const AP: &str = "voc_ap";
const AP75: &str = "voc_ap75";
const COCO_AP: &str = "coco_ap";
const COCO_AP50: &str = "coco_ap50";
const COCO_AR: &str = "coco_ar100";

/// What an evaluation tells, per cent.
pub(super) const SCORES: [Figure; 6] = [
    Figure::new(
        AP50,
        "AP50",
        "VOC's average precision at IoU .5, the mean over the classes. Healthy: up, and once more where the rate steps down.",
    )
    .from_zero()
    .bar_with("AP50", 1.0, 1, " %"),
    Figure::new(
        AP,
        "AP",
        "The mean of VOC's AP over IoU .5:.05:.95, as MoCo and DenseCL report it (not COCO's). Healthy: as AP50, at about 0.6 of it.",
    )
    .from_zero()
    .bar_with("AP", 1.0, 1, " %"),
    Figure::new(AP75, "AP75", "The same at IoU .75: how well boxes fit.").from_zero(),
    Figure::new(COCO_AP, "COCO AP", "COCO's average precision, the mean over IoU .5:.05:.95.").from_zero(),
    Figure::new(COCO_AP50, "COCO AP50", "The same at IoU .5.").from_zero(),
    Figure::new(COCO_AR, "COCO AR", "Share of the objects found with up to 100 boxes an image, the mean over IoU .5:.05:.95.")
        .from_zero(),
];

/// What every step tells, in the order of its row.
pub(super) const FIGURES: [Figure; 9] = [
    Figure::new(
        "loss",
        "Loss",
        "Sum of the four losses below. Healthy: falls fast in the first hundreds of steps, then slowly; it steps down with the rate.",
    )
    .from_zero()
    .headline(),
    Figure::new(
        "loss_rpn_cls",
        "Anchors: object or not",
        "Cross-entropy of the anchors that were looked at. Healthy: from ln 2 = 0.69 down to 0.1 and less.",
    )
    .from_zero(),
    Figure::new(
        "loss_rpn_loc",
        "Anchors: where the object is",
        "Distance of the anchors' boxes from their objects. Healthy: slowly down, to 0.05 or so; much of it is images without sure \
         anchors.",
    )
    .from_zero(),
    Figure::new(
        "loss_cls",
        "Regions: which class",
        "Cross-entropy of the regions. Healthy: from ln(classes + 1) down within a few steps, because most are background, then slowly.",
    )
    .from_zero(),
    Figure::new(
        "loss_box_reg",
        "Regions: where the object is",
        "Distance of the regions' boxes from their objects, over all regions. Healthy: up at first, as more regions are objects, then \
         down.",
    )
    .from_zero(),
    Figure::new(
        "foreground",
        "Objects among the regions",
        "Share of the regions learnt from that are objects. Healthy: up to the configured share (0.25) as proposals get better. Level \
         near 0: proposals miss the objects; look at anchors.sizes_px.",
    )
    .from_zero()
    .bar_with("objects", 100.0, 0, " %"),
    Figure::new(
        "class_accuracy",
        "Regions told right",
        "Share of the regions whose class, or background, comes first. Healthy: above the share of background, and up.",
    ),
    Figure::new(
        "object_accuracy",
        "Objects told right",
        "Share of the regions that are objects whose class comes first. Healthy: 0 at first, because background is the safe guess, then \
         up. Level at 0: a higher optim.lr, or longer.",
    )
    .from_zero()
    .bar_with("right", 100.0, 0, " %"),
    Figure::new(
        "object_anchors",
        "Object anchors of an image",
        "Anchors of an image that are objects, at most half of those looked at. A matter of the data and of anchors.sizes_px: where it \
         is about 1, anchors fit the objects badly.",
    )
    .from_zero(),
];

/// An evaluation's scores; AP50 is the one people quote.
pub(super) fn scores_of(summary: &DetectionSummary) -> Scores {
    let (voc, coco) = (&summary.voc, &summary.coco);
    let named = [
        (AP50, voc.ap50),
        (AP, voc.ap),
        (AP75, voc.ap75),
        (COCO_AP, coco.ap),
        (COCO_AP50, coco.ap50),
        (COCO_AR, coco.ar100),
    ];
    Scores {
        named: named.into_iter().filter_map(|(name, value)| Some((name, 100.0 * value?))).collect(),
        quoted: voc.ap50.map(|ap50| ("AP50".to_owned(), 100.0 * ap50)),
        ..Scores::default()
    }
}
