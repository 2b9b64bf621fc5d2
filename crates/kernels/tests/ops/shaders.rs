//! Every template in every setting the code asks for is WGSL that naga accepts: no GPU needed. Optional capabilities are
//! there for what `Caps` names.
//!
//! What the hardware family launches is listed a second time, exactly (`examples/registers/settings.rs`): a compiler for real
//! cards is asked about those. Every launch of the other tests is held against that list.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use ocelli_kernels::gpu::{Family, Setting, caps, expand, shaders, watch_launches};

// The table asks for more of it.
#[allow(dead_code)]
#[path = "../../examples/registers/settings.rs"]
mod hardware;

/// Templates that only software adapters launch.
const SOFTWARE: [&str; 12] = [
    "attention",
    "attention_backward",
    "attention_delta",
    "conv_register",
    "conv_weight_register",
    "fold",
    "gemm_register",
    "gemm_subgroup",
    "info_nce_register",
    "info_nce_stats",
    "info_nce_weights",
    "unfold",
];

/// Launches of the hardware family that the list lacks.
static UNLISTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The name of a launch that the list lacks.
fn unlisted(shader: &str, settings: &[(&'static str, Setting)]) -> Option<String> {
    static LISTED: LazyLock<BTreeSet<String>> =
        LazyLock::new(|| hardware::hardware().iter().map(hardware::Expansion::name).collect());
    Some(hardware::name(shader, settings)).filter(|name| !LISTED.contains(name))
}

fn watch(shader: &'static str, settings: &[(&'static str, Setting)], _: (usize, usize)) {
    if caps().family == Family::Hardware {
        UNLISTED.lock().unwrap_or_else(PoisonError::into_inner).extend(unlisted(shader, settings));
    }
}

/// Holds every launch of this process against the list from now on.
pub fn watch_settings() {
    watch_launches(watch);
}

/// Asserts that the list has every launch so far. Launches may happen on a thread of the device's, where a panic would be lost, so
/// whoever reads a result asks.
pub fn assert_listed() {
    let unlisted = UNLISTED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(
        unlisted.is_empty(),
        "crates/kernels/examples/registers/settings.rs lacks what the kernels for hardware launch; add it and run \
         `cargo xtask registers`: {unlisted:#?}"
    );
}

/// A setting's name and the values it takes.
type Axis = (&'static str, Vec<Setting>);

fn flags() -> Vec<Setting> {
    vec![Setting::Flag(false), Setting::Flag(true)]
}

fn names(names: &[&'static str]) -> Vec<Setting> {
    names.iter().map(|n| Setting::Name(n)).collect()
}

fn numbers(numbers: &[usize]) -> Vec<Setting> {
    numbers.iter().map(|n| Setting::Number(*n)).collect()
}

fn axes(shader: &str) -> Option<Vec<Axis>> {
    let gemm = || {
        vec![
            ("layout", names(&["nn", "nt", "tn"])),
            ("a_vec", flags()),
            ("b_vec", flags()),
            ("c_vec", flags()),
            ("ending", names(&["plain", "any"])),
            ("wide", flags()),
        ]
    };
    Some(match shader {
        "adamw" => {
            vec![("vec", flags()), ("each", numbers(&[4, 64])), ("ema", flags()), ("group", numbers(&[8, 64]))]
        }
        "attention" => vec![
            ("head", numbers(&[4, 32, 64])),
            ("queries", numbers(&[1, 4])),
            ("group", numbers(&[8, 64])),
            ("lanes", numbers(&[0, 8])),
            ("wide", flags()),
        ],
        "attention_backward" => vec![
            ("head", numbers(&[4, 32, 64])),
            ("of", names(&["queries", "keys"])),
            ("own", numbers(&[1, 2])),
            ("group", numbers(&[8, 64])),
            ("lanes", numbers(&[0, 8])),
            ("wide", flags()),
        ],
        "attention_row" => {
            vec![("head", numbers(&[4, 32, 64])), ("shared", flags()), ("group", numbers(&[4, 64]))]
        }
        "attention_blocks" => vec![("head", numbers(&[4, 12, 48, 64])), ("rows", numbers(&[4, 8]))],
        "attention_backward_blocks" => vec![
            ("head", numbers(&[4, 12, 48, 64])),
            ("rows", numbers(&[4, 8])),
            ("of", names(&["queries", "keys"])),
        ],
        "attention_delta" => vec![("head", numbers(&[4, 32, 64])), ("group", numbers(&[8, 64]))],
        "batch_norm" => {
            vec![("residual", flags()), ("relu", flags()), ("shared", flags()), ("group", numbers(&[8, 64]))]
        }
        "batch_norm_backward" => vec![
            ("residual", flags()),
            ("relu", vec![Setting::Flag(true)]),
            ("shared", flags()),
            ("group", numbers(&[8, 64])),
        ],
        "batch_norm_stats" => vec![("shared", flags()), ("group", numbers(&[8, 256]))],
        "batch_norm_sums" => vec![("relu", flags()), ("shared", flags()), ("group", numbers(&[8, 256]))],
        "conv_register" => vec![
            ("rows", numbers(&[4])),
            ("py", numbers(&[1, 2])),
            ("px", numbers(&[4])),
            ("taps", numbers(&[1, 2, 3])),
            ("step", numbers(&[1, 2])),
            ("gap", numbers(&[1, 2])),
            ("unroll", numbers(&[1, 4])),
            ("padded", flags()),
            ("group", numbers(&[8])),
        ],
        "conv_shared" => vec![("taps", numbers(&[1, 3])), ("step", numbers(&[1, 2])), ("gap", numbers(&[1, 2]))],
        "conv_weight_register" => vec![
            ("rows", numbers(&[4])),
            ("columns", numbers(&[1, 4])),
            ("taps", numbers(&[1, 3])),
            ("step", numbers(&[1, 2])),
            ("gap", numbers(&[1, 2])),
            ("segment", numbers(&[1, 4])),
            ("guarded", flags()),
            ("group", numbers(&[8])),
        ],
        "conv_weight_shared" => vec![("taps", numbers(&[1, 3]))],
        "dino_cross_entropy" => vec![("vec", flags()), ("gradient", flags()), ("group", numbers(&[8, 64]))],
        "fold" => vec![
            ("kernel_h", numbers(&[1, 3])),
            ("kernel_w", numbers(&[1, 2])),
            ("stride", numbers(&[1, 2])),
            ("each", numbers(&[16])),
            ("group", numbers(&[8])),
        ],
        "gelu" => vec![("vec", flags()), ("slope", flags()), ("group", numbers(&[16, 64]))],
        "gemm_register" => {
            let mut axes = gemm();
            axes.extend([("rows", numbers(&[4, 16])), ("columns", numbers(&[1, 4])), ("group", numbers(&[8]))]);
            axes
        }
        "gemm_subgroup" => {
            let mut axes = gemm();
            axes.extend([("rows", numbers(&[8, 32])), ("columns", numbers(&[2])), ("lanes", numbers(&[4, 8]))]);
            axes
        }
        "gemm_shared" => gemm(),
        "info_nce_gradient" | "info_nce_rows" => vec![("group", numbers(&[8, 64]))],
        "info_nce_register" => vec![
            ("ending", names(&["stats", "weights"])),
            ("rows", numbers(&[8])),
            ("columns", numbers(&[16])),
            ("group", numbers(&[8])),
        ],
        "info_nce_stats" => vec![("vec", flags()), ("group", numbers(&[8]))],
        "info_nce_weights" => vec![("vec", flags()), ("each", numbers(&[16])), ("group", numbers(&[8]))],
        "info_nce_shared" => vec![("ending", names(&["stats", "weights"]))],
        "layer_norm" => {
            vec![
                ("vec", flags()),
                ("backward", flags()),
                ("past", flags()),
                ("shared", flags()),
                ("group", numbers(&[8, 64])),
            ]
        }
        "layer_norm_weights" | "square_sums" | "sum_rows" => vec![("vec", flags()), ("group", numbers(&[8, 64]))],
        "roi_align" | "roi_align_backward" => vec![("each", numbers(&[1, 4])), ("group", numbers(&[8, 64]))],
        "softmax_stats" => {
            vec![("vec", flags()), ("centred", flags()), ("shared", flags()), ("group", numbers(&[4, 256]))]
        }
        "topk" => vec![("shared", flags()), ("room", numbers(&[64, 256])), ("group", numbers(&[4, 64]))],
        "unfold" => vec![
            ("kernel_h", numbers(&[1, 3])),
            ("kernel_w", numbers(&[1, 2])),
            ("each", numbers(&[8])),
            ("group", numbers(&[8])),
        ],
        "views" => vec![
            ("pass", names(&["columns", "rows", "grey", "mean", "colour", "blur", "normalise"])),
            ("group", numbers(&[16, 64])),
        ],
        // Parts of others.
        "attention_block_parts"
        | "conv_parts"
        | "conv_weight_parts"
        | "gelu_parts"
        | "gemm_parts"
        | "gemm_place"
        | "info_nce_parts"
        | "reduce_parts"
        | "uniform_parts"
        | "vec4_parts" => return None,
        other => panic!("shaders/{other}.wgsl has no settings in this test"),
    })
}

/// Every combination of the values.
fn combinations(axes: &[Axis]) -> Vec<Vec<(&'static str, Setting)>> {
    axes.iter().fold(vec![vec![]], |all, (name, values)| {
        all.iter().flat_map(|head| values.iter().map(move |v| [&head[..], &[(*name, *v)]].concat())).collect()
    })
}

/// What a text needs of a device beyond what every browser has.
fn capabilities(text: &str) -> Capabilities {
    let mut needed = Capabilities::empty();
    needed.set(Capabilities::SUBGROUP, text.contains("subgroup"));
    needed.set(Capabilities::SHADER_INT64, text.contains("u64"));
    needed
}

/// Also leaves those that every browser has to take in the file `OCELLI_EXPANSIONS`, a zero byte after each, for the browser's
/// tests: browsers have rules that naga does not check.
#[test]
fn every_expansion_is_valid() {
    let mut seen = BTreeSet::new();
    let mut plain = String::new();
    let listed = hardware::hardware();
    for name in shaders() {
        let mut all = axes(name).map(|a| combinations(&a)).unwrap_or_default();
        all.extend(listed.iter().filter(|e| e.shader == name).map(|e| e.settings.clone()));
        for settings in all {
            let both = |a, b| settings.contains(&a) && settings.contains(&b);
            // Only a gradient has something to be added to; what a workgroup shares, no subgroup does.
            if both(("backward", false.into()), ("past", true.into()))
                || both(("shared", true.into()), ("lanes", 8.into()))
            {
                continue;
            }
            let text = expand(name, &settings);
            if !seen.insert(text.clone()) {
                continue;
            }
            if capabilities(&text).is_empty() {
                plain += &format!("// {name} {settings:?}\n{text}\0");
            }
            let module = naga::front::wgsl::parse_str(&text)
                .unwrap_or_else(|e| panic!("{name} {settings:?}\n{}", e.emit_to_string(&text)));
            if let Err(e) = Validator::new(ValidationFlags::all(), capabilities(&text))
                .subgroup_stages(ShaderStages::COMPUTE)
                .subgroup_operations(SubgroupOperationSet::all())
                .validate(&module)
            {
                panic!("{name} {settings:?}\n{}", e.emit_to_string(&text));
            }
            // An unused binding would vanish from the pipeline's automatic layout, and binding it would fail.
            let bound = text.matches("@binding(").count();
            let entry = &module.entry_points[0].function;
            let mut used: BTreeSet<_> = entry
                .expressions
                .iter()
                .chain(module.functions.iter().flat_map(|(_, f)| f.expressions.iter()))
                .filter_map(|(_, e)| match e {
                    naga::Expression::GlobalVariable(v) => module.global_variables[*v].binding.map(|b| b.binding),
                    _ => None,
                })
                .collect();
            used.retain(|b| *b < 64);
            assert_eq!(used.len(), bound, "{name} {settings:?}: a binding is not used");
            let buffers = text.matches("var<storage").count();
            assert!(buffers <= 8, "{name} {settings:?}: {buffers} storage buffers, browsers guarantee 8");
        }
    }
    println!("{} expansions", seen.len());
    if let Ok(path) = std::env::var("OCELLI_EXPANSIONS") {
        std::fs::write(path, plain).unwrap();
    }
}

#[test]
fn the_list_of_hardware_has_every_template_but_those_of_software() {
    let listed: BTreeSet<&str> = hardware::hardware().iter().map(|e| e.shader).collect();
    for name in shaders().filter(|name| axes(name).is_some()) {
        assert!(
            listed.contains(name) != SOFTWARE.contains(&name),
            "{name} belongs either to `SOFTWARE` here or to crates/kernels/examples/registers/settings.rs"
        );
    }
    for name in listed {
        assert!(shaders().any(|other| other == name), "there is no shaders/{name}.wgsl");
    }
}

#[test]
fn a_launch_that_the_list_lacks_is_told() {
    let launch =
        |group: usize| unlisted("gelu", &[("vec", true.into()), ("slope", true.into()), ("group", group.into())]);
    assert_eq!(launch(64), None);
    assert_eq!(launch(65).as_deref(), Some("gelu group=65 slope=on vec=on"));
    assert!(unlisted("gelu", &[("vec", true.into())]).is_some(), "a setting is missing");
}
