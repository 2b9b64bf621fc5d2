//! Every expansion that the hardware family launches.
//!
//! The tests of the operations hold each launch on graphics hardware against this list (`tests/ops/shaders.rs`), so a setting
//! that a kernel uses and the list lacks fails there.

use ocelli_kernels::gpu::Setting;

/// A template in one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// Who launches it first of all: networks at their published sizes, or sizes that do not divide by four.
    pub user: &'static str,
    /// The template's name.
    pub shader: &'static str,
    /// What it is expanded with, in the order of the launch.
    pub settings: Vec<(&'static str, Setting)>,
}

impl Expansion {
    /// What tells it from all others, in words: `gemm_shared layout=nn a_vec=on …`.
    pub fn name(&self) -> String {
        name(self.shader, &self.settings)
    }

    /// Whether no published network launches it.
    pub fn is_odd(&self) -> bool {
        self.user == ODD
    }
}

/// A template and its settings in words, whatever their order.
pub fn name(shader: &str, settings: &[(&'static str, Setting)]) -> String {
    let mut words: Vec<String> = settings
        .iter()
        .map(|(name, value)| match value {
            Setting::Number(n) => format!(" {name}={n}"),
            Setting::Flag(on) => format!(" {name}={}", if *on { "on" } else { "off" }),
            Setting::Name(value) => format!(" {name}={value}"),
        })
        .collect();
    words.sort();
    format!("{shader}{}", words.concat())
}

const VIT: &str = "ViT";
const RESNET: &str = "ResNet";
const ALL: &str = "all networks";
const DINO: &str = "DINO";
const MOCO: &str = "MoCo";
const DETECTORS: &str = "detectors";
const SEARCH: &str = "search";
/// Sizes that no published network has: they divide by nothing, or are the tests'.
const ODD: &str = "odd sizes";

/// A setting's name and the values it takes.
type Axis = (&'static str, Vec<Setting>);

/// Only one value.
fn is(value: impl Into<Setting>) -> Vec<Setting> {
    vec![value.into()]
}

fn either() -> Vec<Setting> {
    vec![true.into(), false.into()]
}

fn numbers(numbers: &[usize]) -> Vec<Setting> {
    numbers.iter().map(|n| (*n).into()).collect()
}

fn names(names: &[&'static str]) -> Vec<Setting> {
    names.iter().map(|n| (*n).into()).collect()
}

#[derive(Default)]
struct List(Vec<Expansion>);

impl List {
    /// Every combination of the values that is not there yet.
    fn add(&mut self, user: &'static str, shader: &'static str, axes: &[Axis]) {
        let none = vec![Vec::new()];
        let all = axes.iter().fold(none, |all: Vec<Vec<(&'static str, Setting)>>, (name, values)| {
            all.iter().flat_map(|head| values.iter().map(move |v| [&head[..], &[(*name, *v)]].concat())).collect()
        });
        for settings in all {
            if !self.0.iter().any(|e| e.shader == shader && e.settings == settings) {
                self.0.push(Expansion { user, shader, settings });
            }
        }
    }

    fn products(&mut self) {
        for (layout, ending, user) in
            [("nn", "any", ALL), ("nt", "any", ALL), ("tn", "plain", ALL), ("tn", "any", ODD)]
        {
            for (user, whole) in [(user, is(true)), (ODD, either())] {
                self.add(
                    user,
                    "gemm_shared",
                    &[
                        ("layout", is(layout)),
                        ("a_vec", whole.clone()),
                        ("b_vec", whole.clone()),
                        ("c_vec", whole),
                        ("ending", is(ending)),
                        ("wide", is(false)),
                    ],
                );
            }
        }
        for (user, whole) in [(ALL, true), (ODD, false)] {
            self.add(user, "sum_rows", &[("vec", is(whole)), ("group", is(64))]);
        }
    }

    fn attention(&mut self) {
        let blocks = [(VIT, &[64, 32][..], 8_usize), (ODD, &[4, 8, 12, 16, 48][..], 8), (ODD, &[128][..], 4)];
        for (user, heads, rows) in blocks {
            let axes = [("head", numbers(heads)), ("rows", is(rows))];
            self.add(user, "attention_blocks", &axes);
            let of = ("of", names(&["queries", "keys"]));
            self.add(user, "attention_backward_blocks", &[&axes[..], &[of][..]].concat());
        }
        for (user, heads) in [(VIT, &[64, 32][..]), (ODD, &[4, 8, 12, 16, 128][..])] {
            self.add(user, "attention_row", &[("head", numbers(heads)), ("shared", is(true)), ("group", is(64))]);
        }
    }

    fn around_attention(&mut self) {
        for (user, whole) in [(VIT, true), (ODD, false)] {
            let vec = ("vec", is(whole));
            for (backward, past) in [(false, is(false)), (true, either())] {
                let passes = [vec.clone(), ("backward", is(backward)), ("past", past)];
                let layer_norm = [&passes[..], &[("shared", is(true)), ("group", is(64))]].concat();
                self.add(user, "layer_norm", &layer_norm);
            }
            self.add(user, "layer_norm_weights", &[vec.clone(), ("group", is(64))]);
            self.add(user, "gelu", &[vec, ("slope", either()), ("group", is(64))]);
        }
    }

    /// A kernel's width, step and gap. The input gradient goes through the forward kernel once for each phase: of 3 taps with
    /// stride 2 that see 2 and 1, of 7 that see 4 and 3.
    fn convolutions(&mut self) {
        let published = [
            (7, 2, 1),
            (4, 1, 1),
            (3, 1, 1),
            (3, 2, 1),
            (2, 1, 1),
            (1, 1, 1),
            (1, 2, 1),
            // Stages that keep their resolution.
            (3, 1, 2),
            (3, 1, 4),
        ];
        let odd = [(1, 2, 2), (1, 3, 1), (2, 2, 1), (3, 1, 3), (3, 2, 2), (3, 3, 1), (5, 1, 1), (6, 1, 1)];
        for (user, shapes) in [(RESNET, &published[..]), (ODD, &odd)] {
            for (taps, step, gap) in shapes {
                let along = [("taps", is(*taps)), ("step", is(*step)), ("gap", is(*gap))];
                self.add(user, "conv_shared", &along);
            }
        }
        self.add(RESNET, "conv_weight_shared", &[("taps", numbers(&[1, 3, 7]))]);
        self.add(ODD, "conv_weight_shared", &[("taps", numbers(&[2, 5, 6]))]);
    }

    fn batch_norm(&mut self) {
        let maps = [("shared", is(true)), ("group", is(64))];
        let channels = [("shared", is(true)), ("group", is(256))];
        let ends = [("residual", either()), ("relu", either())];
        self.add(RESNET, "batch_norm", &[&maps[..], &ends].concat());
        // Without ReLU the gradient of what was added is the result's.
        for (residual, relu) in [(either(), true), (is(false), false)] {
            let ends = [("residual", residual), ("relu", is(relu))];
            self.add(RESNET, "batch_norm_backward", &[&maps[..], &ends].concat());
        }
        self.add(RESNET, "batch_norm_stats", &channels);
        self.add(RESNET, "batch_norm_sums", &[&channels[..], &[("relu", either())]].concat());
    }

    fn losses(&mut self) {
        for (user, whole) in [(DINO, true), (ODD, false)] {
            let vec = ("vec", is(whole));
            let rows = [vec.clone(), ("centred", either()), ("shared", is(true)), ("group", is(256))];
            self.add(user, "softmax_stats", &rows);
            self.add(user, "dino_cross_entropy", &[vec, ("gradient", either()), ("group", is(64))]);
        }
        for shader in ["info_nce_rows", "info_nce_gradient"] {
            self.add(MOCO, shader, &[("group", is(64))]);
        }
        self.add(MOCO, "info_nce_shared", &[("ending", names(&["stats", "weights"]))]);
    }

    fn optimizer(&mut self) {
        for (user, whole) in [(ALL, true), (ODD, false)] {
            let vec = ("vec", is(whole));
            self.add(user, "square_sums", &[vec.clone(), ("group", is(64))]);
            self.add(user, "adamw", &[vec, ("each", is(4)), ("ema", either()), ("group", is(64))]);
        }
    }

    fn around_networks(&mut self) {
        for (user, each) in [(DETECTORS, 4), (ODD, 1)] {
            for shader in ["roi_align", "roi_align_backward"] {
                self.add(user, shader, &[("each", is(each)), ("group", is(64))]);
            }
        }
        for (user, room) in [(SEARCH, 64), (ODD, 128), (SEARCH, 256)] {
            self.add(user, "topk", &[("shared", is(true)), ("room", is(room)), ("group", is(64))]);
        }
        let passes = names(&["columns", "rows", "grey", "mean", "colour", "blur", "normalise"]);
        self.add(ALL, "views", &[("pass", passes), ("group", is(64))]);
    }
}

/// The whole list.
pub fn hardware() -> Vec<Expansion> {
    let mut list = List::default();
    list.products();
    list.attention();
    list.around_attention();
    list.convolutions();
    list.batch_norm();
    list.losses();
    list.optimizer();
    list.around_networks();
    list.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_in_any_order() {
        let settings: [(&str, Setting); 2] = [("vec", true.into()), ("group", 64.into())];
        assert_eq!(name("gelu", &settings), "gelu group=64 vec=on");
        assert_eq!(name("gelu", &[settings[1], settings[0]]), "gelu group=64 vec=on");
    }

    #[test]
    fn every_expansion_is_listed_once() {
        let mut names: Vec<String> = hardware().iter().map(Expansion::name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().any(|n| n == "conv_shared gap=1 step=2 taps=7"), "ResNet's first convolution");
    }
}
