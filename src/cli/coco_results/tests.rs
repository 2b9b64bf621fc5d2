use super::*;

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.json");
    let (images, classes) = (names(&["val/000000000139.jpg", "val/street.png"]), names(&["ant", "bee"]));
    let found = [
        Detection { image: 0, class: 1, score: 0.875, xyxy: [1.5, 2.0, 11.25, 20.0] },
        Detection { image: 1, class: 0, score: 0.1, xyxy: [0.0, 0.0, 3.0, 4.0] },
    ];
    let labels = Labels::of(&images, &classes, None).unwrap();
    let rows: Vec<Value> = found.iter().map(|d| labels.row(&classes[d.class], d)).collect();
    assert_eq!((&rows[0]["image_id"], &rows[1]["image_id"]), (&139.into(), &"street".into()));
    assert_eq!(rows[0]["bbox"], json!([1.5, 2.0, 9.75, 18.0]));
    std::fs::write(&path, Value::from(rows).to_string()).unwrap();
    let (read, how) = read(&path, &images, &classes, &Ids::default()).unwrap();
    assert_eq!((read.as_slice(), how), (&found[..], "categories by name"));
}

#[test]
fn numbers_mean_what_the_instances_say() {
    let folder = tempfile::tempdir().unwrap();
    let (path, instances) = (folder.path().join("found.json"), folder.path().join("instances.json"));
    let (images, classes) = (names(&["a.jpg", "b.jpg"]), names(&["ant", "bee"]));
    std::fs::write(&path, r#"[{"image_id": 7, "category_id": 90, "bbox": [0, 0, 1, 1], "score": 1}]"#).unwrap();
    let told = r#"{"images": [{"id": 7, "file_name": "b.jpg"}], "categories": [{"id": 90, "name": "bee"}]}"#;
    std::fs::write(&instances, told).unwrap();
    let ids = Ids::read(&instances).unwrap();
    let (found, _) = read(&path, &images, &classes, &ids).unwrap();
    assert_eq!((found[0].image, found[0].class), (1, 1));
    let message = read(&path, &images, &classes, &Ids::default()).unwrap_err().to_string();
    assert!(message.contains("image_id 7") && message.contains("box 0"), "{message}");
}

#[test]
fn damaged_results_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.json");
    let (images, classes) = (names(&["1.jpg", "x/2.jpg", "y/2.jpg"]), names(&["ant"]));
    let good = json!({"image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.5});
    let with = |key: &str, value: Value| {
        let mut row = good.clone();
        row[key] = value;
        json!([good, row]).to_string()
    };
    for (text, words) in [
        (String::new(), "expected JSON"),
        ("{}".into(), "a list of boxes; found an object"),
        (with("image_id", 9.into()), "box 1: image_id 9 is none of the 3 images"),
        (with("image_id", 2.into()), "image_id 2"),
        (with("image_id", json!(["x".repeat(500)])), "…"),
        (with("category_id", 2.into()), "from 1 to 1, found 2"),
        (with("category_id", 0.into()), "from 1 to 1"),
        (with("category_name", "wasp".into()), "\"wasp\""),
        (with("bbox", json!([0, 0, 1])), "four numbers"),
        (with("bbox", json!([0, 0, -1, 1])), "0 or more"),
        (with("bbox", json!([0, 0, 1e300, 1])), "four numbers"),
        (with("score", Value::Null), "score"),
    ] {
        std::fs::write(&path, text).unwrap();
        let message = format!("{:#}", read(&path, &images, &classes, &Ids::default()).unwrap_err());
        assert!(message.contains(words), "{message}");
    }
    assert!(Ids::read(&path).is_err());
}

#[test]
fn images_of_one_number_have_their_names_and_cocos_numbers_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (path, instances) = (folder.path().join("found.json"), folder.path().join("instances.json"));
    let (images, classes) = (names(&["a/1.jpg", "b/1.jpg", "b/02.jpg"]), names(&["ant", "bee"]));
    let labels = Labels::of(&images, &classes, None).unwrap();
    assert_eq!(labels.images, [json!("a/1.jpg"), json!("b/1.jpg"), json!(2)]);
    let found =
        [0, 1, 2].map(|image| Detection { image, class: image % 2, score: 0.5, xyxy: [0.0, 0.0, 1.0, 1.0] });
    let rows =
        |labels: &Labels| -> Vec<Value> { found.iter().map(|d| labels.row(&classes[d.class], d)).collect() };
    std::fs::write(&path, Value::from(rows(&labels)).to_string()).unwrap();
    let (read_back, _) = read(&path, &images, &classes, &Ids::default()).unwrap();
    assert_eq!(read_back, found, "names tell them apart");
    let message = Labels::of(&names(&["1.jpg", "1.jpg"]), &classes, None).err().unwrap().to_string();
    assert!(message.contains("two called \"1.jpg\""), "{message}");

    let told = json!({
        "images": [{"id": 70, "file_name": "a/1.jpg"}, {"id": 71, "file_name": "b/1.jpg"}, {"id": 9, "file_name": "02.jpg"}],
        "categories": [{"id": 90, "name": "bee"}, {"id": 4, "name": "ant"}],
    });
    std::fs::write(&instances, told.to_string()).unwrap();
    let of = |images: &[String], classes: &[String]| Labels::of(images, classes, Some(&instances));
    let labels = of(&images, &classes).unwrap();
    assert_eq!(
        (labels.images.clone(), labels.categories.as_slice()),
        (vec![70.into(), 71.into(), 9.into()], &[4, 90][..])
    );
    std::fs::write(&path, Value::from(rows(&labels)).to_string()).unwrap();
    let (read_back, _) = read(&path, &images, &classes, &Ids::read(&instances).unwrap()).unwrap();
    assert_eq!(read_back, found, "COCO's numbers");
    for (images, classes, words) in [
        (names(&["c/1.jpg"]), names(&["ant"]), "c/1.jpg"),
        (names(&["3.jpg"]), names(&["ant"]), "3.jpg"),
        (names(&["02.jpg"]), names(&["wasp"]), "\"wasp\""),
        (names(&["x/02.jpg", "y/02.jpg"]), names(&["ant"]), "two called 9"),
    ] {
        let message = of(&images, &classes).err().unwrap().to_string();
        assert!(message.contains(words), "{message}");
    }
}
