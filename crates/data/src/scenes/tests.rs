use super::*;

fn source(count: usize, seed: u64) -> SceneSource {
    SceneSource::new(SceneConfig { count, seed, ..SceneConfig::default() }).unwrap()
}

#[test]
fn scenes_are_a_function_of_seed_and_index() {
    let (a, b) = (source(100, 3), source(50, 3));
    assert_eq!(a.scene(17), b.scene(17));
    assert_ne!(a.scene(17).image, a.scene(27).image);
    assert_ne!(a.scene(17).image, source(100, 4).scene(17).image);
    assert_eq!(a.load(17).unwrap(), a.scene(17).image);
    assert_eq!(a.mask(17).unwrap(), a.scene(17).mask);
    assert!(a.load(100).is_err() && a.label(100).is_none() && a.mask(100).is_none());
}

/// Runs on scenes can be replayed only while these stay.
#[test]
fn pixels_and_masks_are_those_of_the_first_version() {
    let source =
        SceneSource::new(SceneConfig { count: 40, size_px: 33, seed: 3, ..SceneConfig::default() }).unwrap();
    let mut hash = 0;
    for scene in (0..40).map(|i| source.scene(i)) {
        let bytes = scene.image.data.iter().chain(&scene.mask.data);
        hash = bytes.fold(hash, |hash, byte| hash_words(&[hash, u64::from(*byte)]));
    }
    assert_eq!(hash, 0xfaf3_aedb_11ff_f957);
}

#[test]
fn classes_are_balanced_and_masks_sensible() {
    let source = source(600, 1);
    let mut counts = [0; CLASS_NAMES.len()];
    for i in 0..source.len() {
        counts[source.label(i).unwrap() as usize] += 1;
        let mask = source.mask(i).unwrap();
        let fraction = mask.fraction();
        let class = CLASS_NAMES[source.label(i).unwrap() as usize];
        assert!((0.03..=0.5).contains(&fraction), "scene {i}, {class}: {fraction}");
        assert!(mask.data.iter().all(|&v| v <= 1));
    }
    assert!(counts.iter().all(|&c| c == 60), "{counts:?}");
}

#[test]
fn any_size_draws_the_same_scene() {
    let large = SceneSource::new(SceneConfig { size_px: 128, ..SceneConfig::default() }).unwrap();
    for i in 0..10 {
        let small = source(10, 0).scene(i).mask.fraction();
        let large = large.scene(i).mask.fraction();
        assert!((small - large).abs() < 0.02, "{small} {large}");
    }
    assert!(SceneSource::new(SceneConfig { size_px: 8, ..SceneConfig::default() }).is_err());
}

/// k-NN on raw pixels (Euclidean, k = 20, majority), the yardstick that learned features must beat.
fn raw_pixel_accuracy(train: usize, test: usize) -> f64 {
    let pixels = |source: &SceneSource, i| -> Vec<f32> {
        source.load(i).unwrap().data.iter().map(|&v| f32::from(v)).collect()
    };
    let (gallery, queries) = (source(train, 10), source(test, 11));
    let images: Vec<Vec<f32>> = (0..train).map(|i| pixels(&gallery, i)).collect();
    let mut right = 0;
    for q in 0..test {
        let query = pixels(&queries, q);
        let distance = |image: &[f32]| -> f32 { image.iter().zip(&query).map(|(a, b)| (a - b) * (a - b)).sum() };
        let mut near: Vec<(f32, u32)> =
            images.iter().enumerate().map(|(i, image)| (distance(image), gallery.label(i).unwrap())).collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut votes = [0; CLASS_NAMES.len()];
        near.iter().take(20).for_each(|&(_, label)| votes[label as usize] += 1);
        let best = (0..votes.len()).max_by_key(|&c| votes[c]).unwrap();
        right += usize::from(best as u32 == queries.label(q).unwrap());
    }
    right as f64 / test as f64
}

#[test]
fn raw_pixels_do_not_solve_it() {
    let accuracy = raw_pixel_accuracy(600, 200);
    println!("raw-pixel 20-NN, 600 train, 200 test: {accuracy:.3}");
    assert!(accuracy < 0.35, "{accuracy}");
}
