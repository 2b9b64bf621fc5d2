//! Mutated files: no panic, no hang, and never more memory than twice the file and 64 MB.
//!
//! A quick run by default; `OCELLI_FUZZ=200000` for the full one (inputs per family), `OCELLI_FUZZ_SEED` for another.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod support;

#[path = "../../../tests/support/fuzz.rs"]
mod bounds;

use bounds::{bounded, fuzz, fuzz_text, settings};
use ocelli_weights::preprocessing::{by_name, read_json};
use ocelli_weights::{
    HostTensor, ShardIndex, StateDict, Weights, read_data_pickle, read_model_config, write_safetensors,
};
use support::{Lies, PTH, fixture, header, pth, safetensors, tensor, zip};

/// Opcodes that build.
const OPCODES: &[u8] =
    b".(012NIJKMLGFSTUVXBC]})ltdaesucRbiQPghjpqr\x80\x81\x82\x85\x86\x87\x88\x8a\x8c\x8d\x8f\x90\x92\x93\x94\x95";

/// Everything a reader does with a file.
fn read(bytes: &[u8]) -> bool {
    let Ok(weights) = Weights::open(bytes) else { return false };
    let layout = weights.layout();
    for entry in weights.entries().iter().take(1000) {
        if let Ok(values) = weights.values(entry) {
            assert_eq!(values.len(), entry.len());
        }
    }
    for network in &layout.networks {
        let Ok(state) = weights.backbone(network) else { continue };
        assert!(network.refusal.is_none() && network.notes().iter().all(|note| !note.is_empty()));
        for (name, tensor) in &state.tensors {
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len(), "{name}");
        }
    }
    let _ = weights.state_dict(|e| Some(e.name.clone()));
    true
}

/// Files that ask for as much memory per byte as they can.
fn greedy(size: usize) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let tensor = tensor(4, 0, 4, 1);
    let numbered =
        |count: usize, one: &dyn Fn(u32) -> Vec<u8>| -> Vec<u8> { (0..count as u32).flat_map(one).collect() };
    let repeats: [&[u8]; 12] = [
        b"N",
        b")",
        b"]",
        b"}",
        b"(",
        b"]N\x85",
        b"ca\nb\n",
        b"\x8c\x00",
        b"]0",
        b"N\x94",
        b"V\\u0041\n",
        b"K\x01K\x02\x86a",
    ];
    for part in repeats {
        let pickle = [b"\x80\x02]".as_slice(), &part.repeat(size / part.len()), b"."].concat();
        files.push((format!("{} again and again", part.escape_ascii()), pth(&pickle)));
    }
    // One tensor under many names, many tensors, a list of a list of itself, one memo entry per five bytes.
    let named = numbered(size / 8, &|i| [b"U\x04", &i.to_le_bytes()[..], b"h\x01"].concat());
    files.push(("names".into(), pth(&[b"\x80\x02}(U\x01w", &tensor[..], b"q\x01", &named, b"u."].concat())));
    let many = [b"\x80\x02](".as_slice(), &tensor.repeat(size / tensor.len()), b"e."].concat();
    files.push(("tensors".into(), pth(&many)));
    let own = [b"\x80\x02]q\x00(".as_slice(), &b"h\x00".repeat(size / 2), &tensor, b"e."].concat();
    files.push(("itself".into(), pth(&own)));
    let memo = numbered(size / 5, &|i| [b"r".as_slice(), &i.to_le_bytes()].concat());
    files.push(("memo".into(), pth(&[b"\x80\x02N".as_slice(), &memo, b"."].concat())));
    // A header of the smallest tensors there are, and one of nothing but brackets.
    let tensors = numbered(size / 60, &|i| {
        format!(r#""{i:x}":{{"dtype":"F32","shape":[],"data_offsets":[{},{}]}},"#, 4 * i, 4 * i + 4).into_bytes()
    });
    let json = String::from_utf8(tensors).unwrap();
    files.push(("header".into(), header(&format!("{{{}}}", json.trim_end_matches(',')), 4 * (size / 60))));
    let scalars =
        r#"{"a":{"dtype":"F32","shape":["#.to_owned() + &"1,".repeat(size / 2) + r#"1],"data_offsets":[0,4]}}"#;
    files.push(("shape".into(), header(&scalars, 4)));
    let names: Vec<String> = (0..(size / 80).min(65_000)).map(|i| format!("a/data/{i}")).collect();
    let mut entries: Vec<(&str, &[u8], Lies)> = vec![("a/data.pkl", &many, Lies::default())];
    entries.extend(names.iter().map(|n| (n.as_str(), [0; 16].as_slice(), Lies::default())));
    files.push(("entries".into(), zip(&entries)));
    files
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn mutated_files_neither_panic_nor_hang_nor_swell() {
    let (count, seed) = settings(2000);
    let megabytes = if count > 10_000 { 24 } else { 1 };
    for size in [200_000, megabytes << 20] {
        for (name, bytes) in greedy(size) {
            bounded(&format!("{name}, {} bytes", bytes.len()), &bytes, &read);
        }
    }
    let (often, none) = ((count, seed), |_: &[u8]| None);
    let files: Vec<Vec<u8>> = PTH.iter().map(|f| fixture(f)).collect();
    fuzz("pickle and zip", &files, OPCODES, often, &none, &read);
    // Pickles in a sound zip: mutations get further into the machine.
    let pickle = [b"\x80\x02}q\x00(U\x01wq\x01".as_slice(), &tensor(4, 0, 4, 1), b"q\x02U\x01ah\x02u."].concat();
    fuzz("pickle", &[pickle], OPCODES, often, &none, &|bytes| read(&pth(bytes)));
    // Every second file keeps an honest length of its header, or nearly all would end there.
    let honest = |bytes: &[u8]| {
        let end = bytes.iter().rposition(|b| *b == b'}')?;
        (bytes.len().is_multiple_of(2) && end > 8)
            .then(|| [&((end - 7) as u64).to_le_bytes()[..], &bytes[8..]].concat())
    };
    fuzz("safetensors", &safetensors(), OPCODES, often, &honest, &read);
    data_pickles(often, megabytes);
    preprocessing(often);
    layouts(often);
    companions(often);
}

/// A file of the project's fixtures of other programs' layouts.
fn layout(name: &str) -> Vec<u8> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let path = std::path::Path::new(&root).join("../../tests/golden/weights_layouts").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every program's names, and shapes that nearly fit: a tensor a line.
fn layouts(often: (usize, u64)) {
    let names = [
        "hf-vit/model.safetensors",
        "hf-registers/model.safetensors",
        "hf-resnet/model.safetensors",
        "torchvision-vit.safetensors",
        "timm-deit3.safetensors",
        "timm-registers.safetensors",
        "transformers5.pth",
    ];
    let texts = names.map(|name| {
        let file = layout(name);
        let weights = Weights::open(&file).unwrap();
        let line = |e: &ocelli_weights::Entry| {
            let shape: Vec<String> = e.shape.iter().map(usize::to_string).collect();
            format!("{} {}\n", e.name, shape.join(","))
        };
        weights.entries().iter().map(line).collect::<String>()
    });
    // Values are of no interest here; a little makes many inputs.
    const MOST: usize = 10_000;
    let parse = |text: &str| {
        let mut state = StateDict::default();
        for line in text.lines() {
            let Some((name, shape)) = line.rsplit_once(' ') else { continue };
            let shape: Option<Vec<usize>> = shape.split(',').map(|n| n.parse().ok()).collect();
            let Some(shape) = shape else { continue };
            let count = shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
            let twice = state.tensors.iter().any(|(n, _)| n == name);
            if let (Some(0..=MOST), false) = (count, twice) {
                let values = vec![0.5; count.unwrap_or(0)];
                state.tensors.push((name.to_owned(), HostTensor { shape, values }));
            }
        }
        let bytes = write_safetensors(&state).unwrap();
        read(&bytes) && Weights::open(&bytes).unwrap().network(None).is_ok()
    };
    let letters = [
        "0",
        "1",
        "3",
        "16",
        "17",
        ",",
        ".weight",
        "blocks.",
        "layer",
        "ls1.gamma",
        "q_proj",
        "\n",
        " ",
        "norm",
        ".",
    ];
    fuzz_text("names of programs", &texts, &letters, often, &parse);
    let seeds: Vec<Vec<u8>> = [names[0], names[4], names[6]].map(layout).to_vec();
    fuzz("files of programs", &seeds, OPCODES, often, &|_| None, &read);
}

/// The index of shards and the network's configuration.
fn companions(often: (usize, u64)) {
    let index = String::from_utf8(layout("hf-shards/model.safetensors.index.json")).unwrap();
    let small = r#"{"metadata":{"total_size":8},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.bin"}}"#;
    let letters = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "..",
        "/",
        "\\\\",
        "\\u002e",
        ".bin",
        ".safetensors",
        "C:",
        "\\u0000",
        "é",
    ];
    let shard = safetensors().swap_remove(0);
    let open = Weights::open(&shard).unwrap();
    fuzz_text("index of shards", &[index, small.to_owned()], &letters, often, &|text| {
        let Ok(index) = ShardIndex::parse("index", text) else { return false };
        for file in index.files() {
            let path = std::path::Path::new(file);
            assert!(
                path.components().count() == 1 && path.file_name().is_some_and(|n| n == file.as_str()),
                "{file:?}"
            );
            assert!(!file.contains(['/', '\\', ':', '\0']) && !file.starts_with('.'), "{file:?}");
        }
        let _ = index.check(&open);
        true
    });
    let configs = ["hf-vit", "hf-resnet", "hf-registers"]
        .map(|name| String::from_utf8(layout(&format!("{name}/config.json"))).unwrap());
    fuzz_text("config.json of transformers", &configs, &letters, often, &|text| {
        let told = read_model_config(text);
        assert!(told.iter().all(|(_, value)| value.chars().count() <= 80));
        let mut weights = open.clone();
        weights.tell(told.clone());
        let _ = weights.layout();
        !told.is_empty()
    });
}

/// Plain data and numpy arrays.
fn data_pickles(often: (usize, u64), megabytes: usize) {
    let read = |bytes: &[u8]| read_data_pickle(bytes).is_ok();
    let forms = ["lists", "arrays", "mixed"];
    let names = forms.iter().flat_map(|form| [2, 3, 4].map(|p| format!("gnd.{form}.p{p}.pkl")));
    let files: Vec<Vec<u8>> = names.chain(["arrays.p4.pkl".to_owned()]).map(|name| fixture(&name)).collect();
    fuzz("data pickle", &files, OPCODES, often, &|_| None, &read);
    // Objects that are written out at many places, and arrays of as many elements as there are bytes.
    let size = megabytes << 20;
    let zeros = |count: usize| [b"B".as_slice(), &(count as u32).to_le_bytes(), &vec![0; count]].concat();
    let array = |count: usize| {
        let start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01J";
        let dtype = b"\x85cnumpy\ndtype\nU\x02i1\x85R\x89";
        [start.as_slice(), &(count as u32).to_le_bytes(), dtype, &zeros(count), b"tb"].concat()
    };
    let shared =
        |one: &[u8]| [b"\x80\x03](".as_slice(), one, b"q\x07", &b"h\x07".repeat(size / 2), b"e."].concat();
    for (name, bytes) in [
        ("one array", [b"\x80\x03".as_slice(), &array(size), b"."].concat()),
        ("an array again and again", shared(&array(100))),
        ("a dict again and again", shared(b"}U\x01aK\x01s")),
        ("an empty dict again and again", shared(b"}")),
        ("small dicts", [b"\x80\x02](".as_slice(), &b"}U\x01aK\x01s".repeat(size / 7), b"e."].concat()),
        ("a text again and again", shared(b"U\x0fabcdefghijklmno")),
        ("numbers", [b"\x80\x02](".as_slice(), &b"K\x01".repeat(size / 2), b"e."].concat()),
    ] {
        bounded(name, &bytes, &read);
    }
}

/// What files beside the weights, and names, say of pictures.
fn preprocessing(often: (usize, u64)) {
    let files = [
        r#"{"architecture":"vit_tiny_patch16_224","pretrained_cfg":{"tag":"augreg","input_size":[3,224,224],"crop_pct":0.9,"interpolation":"bicubic","mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]}}"#,
        r#"{"do_normalize":true,"do_resize":true,"do_center_crop":true,"image_mean":[0.485,0.456,0.406],"image_std":[0.229,0.224,0.225],"size":{"shortest_edge":256},"crop_size":{"height":224,"width":224}}"#,
        r#"{"do_normalize":false,"do_rescale":true,"size":224}"#,
    ]
    .map(str::to_owned);
    let letters = ["{", "}", "[", "]", ",", ":", "\"", "-", "0", "9", "1e400", "null", "true", ".", "\\u0041"];
    fuzz_text("config.json", &files, &letters, often, &|text| match read_json("config.json", text) {
        Ok(found) => found.is_some(),
        Err(error) => {
            assert!(error.starts_with("config.json"), "{error}");
            false
        }
    });
    let names =
        ["vit_tiny_patch16_224.augreg_in21k_ft_in1k", "dino_deitsmall16_pretrain.pth", "timm/resnet50-0676ba61"]
            .map(str::to_owned);
    let letters = ["_", ".", "/", ":", "-", "224", "18446744073709551615", "patch", "pth", "A", "\u{1b}"];
    fuzz_text("names of weights", &names, &letters, often, &|name| by_name(name, "as it is called").is_some());
}
