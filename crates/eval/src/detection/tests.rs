use super::*;

fn found(image: usize, class: usize, score: f32, xyxy: [f32; 4]) -> Detection {
    Detection { image, class, score, xyxy }
}

fn object(image: usize, class: usize, xyxy: [f32; 4]) -> Truth {
    Truth { image, class, xyxy, ..Truth::default() }
}

const A: [f32; 4] = [0.0, 0.0, 9.0, 9.0];
const B: [f32; 4] = [100.0, 0.0, 109.0, 9.0];

#[test]
fn overlaps_count_pixels_as_each_protocol_does() {
    // Half of a box 10 px wide (inclusive) or 9 px wide (edges).
    assert_eq!(pixel_iou(A, [5.0, 0.0, 9.0, 9.0]), 0.5);
    assert!((iou(A, [4.5, 0.0, 9.0, 9.0]) - 0.5).abs() < 1e-12);
    assert_eq!((iou(A, B), pixel_iou(A, B), pixel_iou(A, A), iou(A, A)), (0.0, 0.0, 1.0, 1.0));
    // Boxes that touch share a column of inclusive pixels, but no area.
    assert!(pixel_iou(A, [9.0, 0.0, 18.0, 9.0]) > 0.0 && iou(A, [9.0, 0.0, 18.0, 9.0]) == 0.0);
    assert_eq!(iou([1.0, 1.0, 1.0, 5.0], [1.0, 1.0, 1.0, 5.0]), 0.0, "no area, and no NaN");
}

#[test]
fn thresholds_are_those_of_linspace() {
    let all = iou_thresholds();
    assert_eq!((all[0], all[9]), (0.5, 0.95));
    assert!(all.iter().enumerate().all(|(i, t)| (t - (0.5 + 0.05 * i as f64)).abs() < 1e-12));
}

#[test]
fn an_overlap_at_vocs_threshold_is_no_match() {
    // Nine of ten columns: an overlap of .9, right at the thresholds below it and wrong at it and above.
    let scores =
        voc_scores(&[found(0, 0, 0.9, [0.0, 0.0, 8.0, 9.0])], &[object(0, 0, A)], 1, Interpolation::ElevenPoint);
    let ap = scores.unwrap().per_class[0].ap.unwrap();
    assert!((ap - 0.8).abs() < 1e-12, "{ap}");
}

#[test]
fn voc_counts_a_second_find_as_wrong_and_a_difficult_one_not_at_all() {
    let truths = [object(3, 0, A), Truth { is_difficult_or_crowd: true, ..object(3, 0, B) }, object(9, 0, A)];
    let detections =
        [found(3, 0, 0.9, A), found(3, 0, 0.8, A), found(3, 0, 0.7, B), found(9, 0, 0.6, A), found(9, 0, 0.5, B)];
    let curve = &voc::curves(&detections, &truths, 1, 0.5).unwrap()[0];
    assert_eq!(curve.recall, [0.5, 0.5, 0.5, 1.0, 1.0]);
    assert_eq!(curve.precision, [1.0, 0.5, 0.5, 2.0 / 3.0, 0.5]);
    // Recall 0 to .5: 1; beyond: 2/3.
    let continuous = curve.average_precision(Interpolation::Continuous).unwrap();
    assert!((continuous - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
    let eleven = curve.average_precision(Interpolation::ElevenPoint).unwrap();
    assert!((eleven - (6.0 + 5.0 * 2.0 / 3.0) / 11.0).abs() < 1e-12);
}

#[test]
fn a_threshold_is_exceeded_not_reached_in_voc_and_reached_in_coco() {
    let half = [5.0, 0.0, 9.0, 9.0];
    let voc = voc_scores(&[found(0, 0, 1.0, half)], &[object(0, 0, A)], 1, Interpolation::Continuous).unwrap();
    assert_eq!(voc.ap50, Some(0.0));
    let (whole, half) = ([0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 5.0, 10.0]);
    let coco = coco_scores(&[found(0, 0, 1.0, half)], &[object(0, 0, whole)], 1).unwrap();
    assert!((coco.ap50.unwrap() - 1.0).abs() < 1e-12 && (coco.ap.unwrap() - 0.1).abs() < 1e-12);
}

#[test]
fn classes_without_objects_are_left_out_of_means() {
    let truths = [object(0, 1, A)];
    let detections = [found(0, 1, 0.9, A), found(0, 0, 0.9, A), found(0, 2, 0.3, B)];
    let voc = voc_scores(&detections, &truths, 3, Interpolation::ElevenPoint).unwrap();
    assert!((voc.ap.unwrap() - 1.0).abs() < 1e-12);
    assert_eq!((voc.per_class[0].ap, voc.per_class[0].detections, voc.per_class[1].objects), (None, 1, 1));
    let coco = coco_scores(&detections, &truths, 3).unwrap();
    assert!((coco.ap.unwrap() - 1.0).abs() < 1e-12 && coco.per_class[2].ap.is_none());
    assert!((coco.ap_small.unwrap() - 1.0).abs() < 1e-12 && coco.ap_large.is_none());
    let nothing = coco_scores(&[], &[], 2).unwrap();
    assert_eq!((nothing.ap, nothing.ar100), (None, None));
    let nothing = voc_scores(&[], &[], 2, Interpolation::ElevenPoint).unwrap();
    assert_eq!(nothing.ap, None);
    let missed = voc_scores(&[], &truths, 3, Interpolation::ElevenPoint).unwrap();
    assert_eq!(missed.ap, Some(0.0));
}

#[test]
fn areas_are_the_masks_where_there_are_masks() {
    let large = [0.0, 0.0, 200.0, 200.0];
    let truths = [Truth { area: Some(50.0), ..object(0, 0, large) }];
    let coco = coco_scores(&[found(0, 0, 0.9, large)], &truths, 1).unwrap();
    assert!(coco.ap_small.is_some() && coco.ap_large.is_none());
}

#[test]
fn coco_takes_the_best_hundred_of_an_image() {
    let truths = [object(0, 0, A)];
    let wrong = |i: usize| found(0, 0, 0.5 + i as f32 * 1e-3, B);
    let mut detections: Vec<Detection> = (0..100).map(wrong).collect();
    detections.push(found(0, 0, 0.4, A));
    assert_eq!(coco_scores(&detections, &truths, 1).unwrap().ar100, Some(0.0));
    detections.remove(0);
    let found = coco_scores(&detections, &truths, 1).unwrap();
    assert_eq!((found.ar100, found.ar10), (Some(1.0), Some(0.0)));
}

#[test]
fn crowds_take_any_number_and_count_none() {
    let crowd = Truth { is_difficult_or_crowd: true, ..object(0, 0, [0.0, 0.0, 100.0, 100.0]) };
    let truths = [object(0, 0, [200.0, 0.0, 210.0, 10.0]), crowd];
    let mut detections: Vec<Detection> =
        (0..5).map(|i| found(0, 0, 0.9, [i as f32 * 10.0, 0.0, i as f32 * 10.0 + 10.0, 10.0])).collect();
    detections.push(found(0, 0, 0.1, [200.0, 0.0, 210.0, 10.0]));
    let coco = coco_scores(&detections, &truths, 1).unwrap();
    assert!((coco.ap.unwrap() - 1.0).abs() < 1e-12, "{coco:?}");
}

#[test]
fn confusion_tells_what_was_taken_for_what() {
    let truths = [object(0, 0, A), object(0, 1, B), object(1, 1, A)];
    let detections =
        [found(0, 1, 0.9, A), found(0, 0, 0.8, A), found(0, 1, 0.7, B), found(2, 0, 0.6, A), found(1, 1, 0.2, A)];
    let c = confusion(&detections, &truths, 2, 0.5, 0.5).unwrap();
    // Object 0 was taken for class 1 first; what found it again stands for nothing there.
    assert_eq!(c.counts, [0, 1, 0, 0, 1, 1, 2, 0, 0]);
    assert_eq!((c.get(0, 1), c.get(2, 0), c.get(1, 2), c.get(3, 0)), (1, 2, 1, 0));
}

#[test]
fn boxes_are_rounded_as_in_the_protocols_files() {
    let d = as_voc_file(&found(0, 0, 0.123_456, [10.04, 10.06, 20.25, 20.35]));
    assert_eq!((d.score, d.xyxy), (0.123, [11.0, 11.1, 20.2, 20.4]));
    // Ties of exact values go to even.
    assert_eq!(as_voc_file(&found(0, 0, 0.0625, [0.0, 0.0, 20.25, 20.75])).xyxy, [1.0, 1.0, 20.2, 20.8]);
    let thin = as_voc_file(&found(0, 0, 0.5, [3.0, 3.0, 3.5, 9.0]));
    assert!(thin.xyxy[2] >= thin.xyxy[0]);
    assert_eq!(voc::truth_as_voc(&object(0, 0, [9.0, 9.0, 20.0, 20.0])).xyxy, [10.0, 10.0, 20.0, 20.0]);
}

#[test]
fn a_summary_reads_back_and_its_curves_are_short() {
    let truths: Vec<Truth> = (0..400).map(|i| object(i, i % 2, [0.0, 0.0, 20.0, 30.0])).collect();
    let detections: Vec<Detection> =
        (0..400).map(|i| found(i, 0, 0.3 + i as f32 * 1e-3, [0.0, 0.0, 20.0, 30.0])).collect();
    let names = ["ant".to_owned(), "bee".to_owned()];
    let told = summary(&detections, &truths, &names, 400, Interpolation::ElevenPoint, 0.5).unwrap();
    let curve = &told.classes[0].curve;
    assert_eq!((curve.recall.len(), curve.recall[199], told.classes[1].curve.recall.len()), (200, 1.0, 0));
    let text = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<DetectionSummary>(&text).unwrap(), told);
    assert!(text.contains("11-point"), "{text}");
}

#[test]
fn bad_input_is_refused_in_words() {
    let message =
        |d: &[Detection], t: &[Truth], classes: usize| coco_scores(d, t, classes).unwrap_err().to_string();
    assert!(message(&[], &[], 0).contains("classes"));
    assert!(message(&[found(0, 2, 0.5, A)], &[], 2).contains("not below the number of classes, 2"));
    assert!(message(&[found(0, 0, f32::NAN, A)], &[], 2).contains("at detection 0"));
    assert!(message(&[], &[object(0, 0, [0.0, f32::INFINITY, 1.0, 1.0])], 2).contains("at object 0"));
    assert!(message(&[found(0, 0, 0.5, [5.0, 0.0, 4.0, 9.0])], &[], 2).contains("x1 ≤ x2"));
    assert!(message(&[], &[Truth { area: Some(f32::NAN), ..object(0, 0, A) }], 2).contains("areas"));
    // Numbers of images are names, not sizes.
    let far = [found(usize::MAX, 0, 0.5, A)];
    assert!(voc_scores(&far, &[object(usize::MAX, 0, A)], 1, Interpolation::ElevenPoint).unwrap().ap.is_some());
}

#[test]
fn many_detections_of_an_image_take_no_table_of_pairs() {
    let detections: Vec<Detection> = (0..20_000).map(|i| found(0, 0, (i % 977) as f32 / 977.0, A)).collect();
    let truths: Vec<Truth> = (0..500).map(|i| object(0, 0, [i as f32, 0.0, i as f32 + 9.0, 9.0])).collect();
    let voc = voc_scores(&detections, &truths, 1, Interpolation::Continuous).unwrap();
    assert!(voc.ap50.is_some_and(|ap| ap > 0.0));
    assert!(coco_scores(&detections, &truths, 1).unwrap().ar100.is_some());
    assert!(confusion(&detections, &truths, 1, 0.0, 0.5).is_ok());
}
