//! Every template in every setting the code asks for is WGSL that naga accepts: no GPU needed. Optional capabilities are
//! there for what `Caps` names.

use std::collections::BTreeSet;

use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use ocelli_kernels::gpu::{Setting, expand, shaders};

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
            ("shared", flags()),
            ("group", numbers(&[8, 64])),
            ("lanes", numbers(&[0, 8])),
            ("wide", flags()),
        ],
        "attention_backward" => vec![
            ("head", numbers(&[4, 32, 64])),
            ("of", names(&["queries", "keys"])),
            ("own", numbers(&[1, 2])),
            ("shared", flags()),
            ("group", numbers(&[8, 64])),
            ("lanes", numbers(&[0, 8])),
            ("wide", flags()),
        ],
        "attention_row" => {
            vec![("head", numbers(&[4, 32, 64])), ("shared", flags()), ("group", numbers(&[4, 64]))]
        }
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
        "conv_parts" | "conv_weight_parts" | "gelu_parts" | "gemm_parts" | "gemm_place" | "info_nce_parts"
        | "reduce_parts" | "uniform_parts" | "vec4_parts" => return None,
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
    for name in shaders() {
        for settings in axes(name).map(|a| combinations(&a)).unwrap_or_default() {
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
