"""DINOv2's networks at reduced size: writes dinov2.json and dinov2.safetensors beside this file.

    python make_dinov2.py            # needs torch, timm and safetensors
    python make_dinov2.py --full OUT # timm's full-size ViT-S/14 with formula weights and their features, to OUT

The weights are not stored: they follow from names, shapes and the hash of README.md, as `tensors` of the JSON says. timm's
cases are its own classes. The official ones, and that of transformers, are the same blocks behind position embeddings as those
programs interpolate them, in their names.
"""
import json
import os
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import timm

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
SALT = "dinov2/"
BATCH, PATCH, IMAGE, DIM, DEPTH, HEADS, REGISTERS = 2, 14, 56, 32, 2, 2, 4
SIZES = [(56, 56), (84, 56), (42, 70)]
QUERY = 5
M = 0xFFFFFFFF


def formula(name, count):
    """u in [-1, 1] of every entry, float64."""
    h = 0x811C9DC5
    for byte in (SALT + name).encode():
        h = ((h ^ byte) * 0x01000193) & M
    x = (torch.arange(count, dtype=torch.int64) * 0x9E3779B1) & M
    x ^= h
    x ^= x >> 16
    x = (x * 0x85EBCA6B) & M
    x ^= x >> 13
    x = (x * 0xC2B2AE35) & M
    x ^= x >> 16
    return x.double() / 4294967296.0 * 2.0 - 1.0


def rule(name, shape):
    """offset and scale of a tensor: larger than what networks are drawn with, so that a mistake shows."""
    if name.endswith("gamma"):
        return 0.6, 0.4
    if "token" in name or name == "pos_embed":
        return 0.0, 0.5
    if len(shape) > 1:
        fan_in = 1
        for n in shape[1:]:
            fan_in *= n
        return 0.0, 2.0 / fan_in**0.5
    return (1.0, 0.1) if name.endswith("weight") else (0.0, 0.1)


def filled(name, shape):
    offset, scale = rule(name, shape)
    count = 1
    for n in shape:
        count *= n
    return (offset + scale * formula(name, count)).float().double().reshape(shape)


def network(timm_name, full=False):
    reduced = {} if full else dict(img_size=IMAGE, embed_dim=DIM, depth=DEPTH, num_heads=HEADS)
    model = timm.create_model(timm_name, num_classes=0, dynamic_img_size=True, **reduced)
    for block in model.blocks:
        block.attn.fused_attn = False
    return model.double().eval()


def attention(block, x):
    """Softmax attention of a block, [batch, heads, tokens, tokens]."""
    x, a = block.norm1(x), block.attn
    b, n, d = x.shape
    q, k, _ = a.qkv(x).reshape(b, n, 3, a.num_heads, d // a.num_heads).permute(2, 0, 3, 1, 4)
    return (q @ k.transpose(-1, -2) * (d // a.num_heads) ** -0.5).softmax(-1)


def through(model, x, registers):
    """Class token, patches, and the last block's attention of class and one patch to class and patches."""
    for block in model.blocks[:-1]:
        x = block(x)
    rows = attention(model.blocks[-1], x)
    x = model.norm(model.blocks[-1](x))
    keep = [0, *range(1 + registers, x.shape[1])]
    return {
        "cls": x[:, 0],
        "patches": x[:, 1 + registers:],
        "attn_cls": rows[:, :, 0][..., keep],
        "attn_row": rows[:, :, 1 + registers + QUERY][..., keep],
    }


def positions(stored, height, width, how):
    """[1, 1 + cells, dim] at another size, as the official code and transformers do."""
    rows, cols = height // PATCH, width // PATCH
    side = round((stored.shape[1] - 1) ** 0.5)
    if rows * cols == side * side and height == width:
        return stored
    patches = stored[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if how == "dino":
        scale = ((rows + 0.1) / side, (cols + 0.1) / side)
        patches = F.interpolate(patches, scale_factor=scale, mode="bicubic", antialias=False)
    else:
        patches = F.interpolate(patches, size=(rows, cols), mode="bicubic", antialias=how == "antialiased")
    assert patches.shape[-2:] == (rows, cols)
    return torch.cat([stored[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def official(model, images, pos_embed, registers, how):
    _, _, height, width = images.shape
    x = model.patch_embed.proj(images).flatten(2).transpose(1, 2)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], 1) + positions(pos_embed, height, width, how)
    if registers is not None:
        x = torch.cat([x[:, :1], registers.expand(len(x), -1, -1), x[:, 1:]], 1)
    return through(model, x, 0 if registers is None else registers.shape[1])


def load(model, tensors):
    """Formula weights in timm's names."""
    own = {name: filled(name, shape) for name, shape in tensors.items()}
    model.load_state_dict(own, strict=True)


@torch.no_grad()
def case(key):
    """Shapes by the file's names, and a function of images."""
    whose, registers = key.split(".")
    registers = REGISTERS if registers == "reg4" else 0
    name = "vit_small_patch14_reg4_dinov2" if whose == "timm" and registers else "vit_small_patch14_dinov2"
    model = network(name)
    shapes = {n: list(t.shape) for n, t in model.state_dict().items()}
    load(model, shapes)
    if whose == "timm":
        def run(images):
            x = model._pos_embed(model.patch_embed(images))
            found = through(model, model.norm_pre(x), registers)
            whole = model.forward_features(images)
            assert (whole[:, 0] - found["cls"]).abs().max() < 1e-9
            return found
        return shapes, run, "antialiased", registers
    how = {"official": "antialiased" if registers else "dino", "transformers": "bicubic"}[whose]
    pos_embed = filled("pos_embed", shapes["pos_embed"])
    if registers:
        shapes["register_tokens"] = [1, registers, DIM]
    shapes["mask_token"] = [1, DIM]
    tokens = filled("register_tokens", shapes["register_tokens"]) if registers else None
    return shapes, lambda images: official(model, images, pos_embed, tokens, how), how, registers


def images_of(height, width):
    return formula("input", BATCH * 3 * height * width).float().double().reshape(BATCH, 3, height, width)


@torch.no_grad()
def main():
    out, cases = {}, []
    worst = 0.0
    for key in ["timm.plain", "timm.reg4", "official.plain", "official.reg4", "transformers.plain"]:
        shapes, run, how, registers = case(key)
        tensors = {n: [s, *rule(n, s)] for n, s in shapes.items()}
        cases.append({"key": key, "position_rule": how, "registers": registers, "tensors": tensors})
        for height, width in SIZES:
            for what, value in run(images_of(height, width)).items():
                out[f"{key}.{height}x{width}.{what}"] = value.float().contiguous()
    size = "42x70"
    apart = lambda a, b: float((out[f"{a}.{size}.patches"] - out[f"{b}.{size}.patches"]).abs().max())
    about = {
        "name": "dinov2",
        "what": "Forward passes of DINOv2's ViT with and without registers at reduced size, formula weights: timm's classes, and the "
                "official position embeddings, before timm's blocks.",
        "made_by": f"make_dinov2.py, torch {torch.__version__.split('+')[0]}, timm {timm.__version__}, float64 rounded once to float32",
        "config": {
            "salt": SALT, "input_name": "input", "batch": BATCH, "patch": PATCH, "image_size_px": IMAGE, "dim": DIM, "depth": DEPTH,
            "heads": HEADS, "sizes": [list(s) for s in SIZES], "query": QUERY,
            "tensors_are": "name: [shape, offset, scale], every value offset + scale * u, rounded once to float32",
            "cases": cases,
        },
        "tolerance": {"tokens": {"atol": 1e-5, "rtol": 1e-5}, "attention": {"atol": 2e-6, "rtol": 1e-5}},
        "effect_of_another_position_rule": {
            "dino for bicubic": apart("official.plain", "transformers.plain"),
            "dino for antialiased": apart("official.plain", "timm.plain"),
        },
    }
    with open(os.path.join(HERE, "dinov2.json"), "w") as f:
        json.dump(about, f, indent=1)
        f.write("\n")
    save_file(out, os.path.join(HERE, "dinov2.safetensors"))
    print(json.dumps(about["effect_of_another_position_rule"]), {k: list(v.shape) for k, v in list(out.items())[:4]})


@torch.no_grad()
def full(folder):
    """timm's full-size classes: weights and features of one image at 224 and 518 px."""
    os.makedirs(folder, exist_ok=True)
    for name in ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"]:
        model = network(name, full=True).float()
        state = {n: filled(n, list(t.shape)).float() for n, t in model.state_dict().items()}
        model.load_state_dict(state)
        save_file({n: t.contiguous() for n, t in state.items()}, f"{folder}/{name}.safetensors")
        expected = {}
        for side in (224, 518):
            images = formula("input", 3 * side * side).float().reshape(1, 3, side, side)
            tokens = model.forward_features(images)
            first = model.num_prefix_tokens
            expected[f"{side}.cls"] = tokens[:, 0].contiguous()
            expected[f"{side}.patches"] = tokens[:, first:first + 8].contiguous()
        save_file(expected, f"{folder}/{name}.expected.safetensors")


if sys.argv[1:2] == ["--full"]:
    full(sys.argv[2])
else:
    main()
