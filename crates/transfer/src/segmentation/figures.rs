//! What a fine-tuning for segmentation tells: its figures, and what healthy looks like.

use ocelli_methods::Figure;

/// Mean intersection over union, as it is named in rows and events.
pub(super) const MIOU: &str = "miou";
/// Mean accuracy of the classes.
pub(super) const MEAN_ACCURACY: &str = "mean_accuracy";
/// Share of the pixels that are right.
pub(super) const PIXEL_ACCURACY: &str = "pixel_accuracy";
/// The loss of guessing.
pub(super) const GUESSING: &str = "ln(classes)";

/// What every step tells, in the order of its row.
pub(super) fn figures(has_auxiliary: bool) -> Vec<Figure> {
    let mut figures = vec![
        Figure::new(
            "loss",
            "Loss",
            "The sum of both heads' losses. Healthy: down from the first steps on, then slowly, with the learning rate.",
        )
        .headline(),
        Figure::new(
            "loss_decode",
            "Loss of the head",
            "Cross-entropy over all pixels; those without a label count as 0. Healthy: below ln(classes) within a few dozen \
             steps. Level there: the learning rate is too high, or the labels do not belong to the pictures.",
        )
        .from_zero()
        .level(GUESSING),
    ];
    if has_auxiliary {
        figures.push(
            Figure::new(
                "loss_auxiliary",
                "Loss of the auxiliary head",
                "The same for the head on the third stage, times its weight. Healthy: down; in proportion to its weight it ends \
                 above the other one, since it sees less of the picture.",
            )
            .from_zero(),
        );
    }
    figures.push(
        Figure::new(
            "batch_accuracy",
            "Pixel accuracy of the batch",
            "Share of the labelled pixels of the crops whose class is found. Healthy: up, fast at first. It is high early \
             where one class fills most pictures: the mIoU says more.",
        )
        .from_zero()
        .bar_with("pixels", 100.0, 1, " %"),
    );
    figures.push(
        Figure::new(
            "labelled",
            "Share of pixels with a label",
            "Healthy: level. A small share means that crops reach beyond their pictures, or that most pixels have no class: the \
             loss is then small for that reason.",
        )
        .from_zero(),
    );
    figures
}

/// What an evaluation tells, per cent; nothing where no picture is held out.
pub(super) fn scores(is_evaluated: bool) -> Vec<Figure> {
    if !is_evaluated {
        return Vec::new();
    }
    vec![
        Figure::new(
            MIOU,
            "mIoU",
            "Mean over the classes of intersection over union on the evaluated pictures, from one confusion matrix over all \
             of them; classes that never occur are left out. Healthy: up, and level at the end.",
        )
        .bar_with("mIoU", 1.0, 1, " %"),
        Figure::new(
            MEAN_ACCURACY,
            "Mean class accuracy",
            "Share of each class's pixels that are found, averaged over the classes. Far above the mIoU: classes spread over their neighbours.",
        ),
        Figure::new(PIXEL_ACCURACY, "Pixel accuracy", "Share of all labelled pixels whose class is found."),
    ]
}
