//! PyTorch on this very machine loads what is exported, and what it writes loads here.

use std::fs;
use std::process::Command;

use ocelli::models::Init;
use ocelli::models::weights::{ModuleState as _, StateDict, Weights, write_safetensors};

use super::super::command::{ocelli, stdout};
use super::super::fixture;
use super::super::support::device;

/// A Python with torch: `OCELLI_PYTHON`, else `python3`.
fn python() -> Option<String> {
    let python = std::env::var("OCELLI_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import torch, safetensors, numpy"]).output();
    if there.is_ok_and(|o| o.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {python} has no torch, safetensors and numpy (OCELLI_PYTHON names another)");
    None
}

/// DINO's names and shapes for a ViT-S/16 at 224 px, written out; the checks PyTorch's own `strict` would make; and timm's
/// network of that shape where timm is installed.
const CHECK: &str = r#"
import sys, torch, safetensors.torch
d, depth, p, cells = 384, 12, 16, 196
want = {"cls_token": (1, 1, d), "pos_embed": (1, cells + 1, d),
        "patch_embed.proj.weight": (d, 3, p, p), "patch_embed.proj.bias": (d,),
        "norm.weight": (d,), "norm.bias": (d,)}
for i in range(depth):
    b = f"blocks.{i}."
    for n in ("norm1", "norm2"):
        want[b + n + ".weight"] = want[b + n + ".bias"] = (d,)
    for n, o, k in (("attn.qkv", 3 * d, d), ("attn.proj", d, d), ("mlp.fc1", 4 * d, d), ("mlp.fc2", d, 4 * d)):
        want[b + n + ".weight"], want[b + n + ".bias"] = (o, k), (o,)
reference = safetensors.torch.load_file(sys.argv[1])
for path in sys.argv[1:]:
    if path.endswith(".safetensors"):
        state = safetensors.torch.load_file(path)
    else:
        state = torch.load(path, weights_only=True)
        assert type(state).__name__ == "OrderedDict", type(state)
    found = {k: tuple(v.shape) for k, v in state.items()}
    assert found == want, sorted(set(found.items()) ^ set(want.items()))[:5]
    half = ".f16." in path
    for name, tensor in state.items():
        assert tensor.dtype == (torch.float16 if half else torch.float32), (path, name, tensor.dtype)
        apart = (tensor.float() - reference[name]).abs().max().item()
        assert apart <= (1e-3 if half else 0.0), (path, name, apart)
    assert sum(v.numel() for v in state.values()) == 21665664
    try:
        import timm
    except ImportError:
        print("no timm")
        continue
    model = timm.create_model("vit_small_patch16_224", num_classes=0)
    model.load_state_dict({k: v.float() for k, v in state.items()}, strict=True)
    print("timm")
print("all good")
"#;

#[test]
fn exports_load_in_pytorch() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let config: ocelli::models::Arch = "vit-s/16".parse().unwrap();
    let vit = config.config(224, 0.0).init(&mut Init::new(3, &device())).unwrap();
    let mut state = StateDict::default();
    state.add_module("", &vit).unwrap();
    fs::write(at("source.safetensors"), write_safetensors(&state).unwrap()).unwrap();
    let mut files = vec![at("source.safetensors")];
    for (format, name) in [("safetensors", "safetensors"), ("pth-layout", "pth")] {
        for dtype in ["f32", "f16"] {
            let out = at(&format!("out.{dtype}.{name}"));
            let source = &files[0];
            stdout(&ocelli(&["export", source, "--format", format, "--dtype", dtype, "--out", &out]));
            files.push(out);
        }
    }
    let said = stdout(&Command::new(python).args(["-c", CHECK]).args(&files).output().unwrap());
    assert!(said.contains("all good"), "{said}");
    eprintln!("{}", said.lines().next().unwrap_or_default());
}

/// Files PyTorch writes on this very machine read here, whatever its version.
#[test]
fn files_of_this_pytorch_read() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = fixture("make.py");
    let copy = folder.path().join("make.py");
    fs::copy(script, &copy).unwrap();
    stdout(&Command::new(python).arg(&copy).output().unwrap());
    for name in ["kinds.zip.pth", "kinds.legacy.pth", "kinds.protocol4.pth", "dino.pth", "backbone.f16.pth"] {
        let (fresh, kept) = (fs::read(folder.path().join(name)).unwrap(), fs::read(fixture(name)).unwrap());
        let all = |bytes: &[u8]| -> StateDict {
            let weights = Weights::open(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut state = weights.state_dict(|e| Some(e.name.clone())).unwrap();
            // Versions differ in what the optimizer says of itself.
            state.metadata.clear();
            state
        };
        assert_eq!(all(&fresh), all(&kept), "{name}");
    }
}
