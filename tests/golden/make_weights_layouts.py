"""Tiny networks in the layouts of the programs people have, with their features.

    python make_weights_layouts.py            # needs torch, torchvision, timm, transformers, safetensors

Each is made by the program's own class with weights by formula and saved as that program saves it, in half precision, into the
folder weights_layouts/ beside this file; features.safetensors there has the picture and each network's features of it, computed by
those classes in single precision. Layouts that only rename these (lightly, solo-learn, VISSL, Lightning, mmpretrain) are made of
them by tests/weights_layouts.
"""
import json
import math
import os
import shutil
import zlib

import torch
from safetensors.torch import save_file

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)
import timm.models.vision_transformer as timm_vit  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402

transformers.logging.set_verbosity_error()
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights_layouts")
DIM, DEPTH, HEADS, PATCH, SIDE, HIDDEN = 16, 2, 2, 4, 16, 32


def fill(model):
    """Weights by formula, exact in half precision: about 1/√inputs, gains around 1, variances above 0."""
    model.eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            phase = zlib.crc32(name.encode()) % 1000 / 159.0
            wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.7317 + phase).reshape(tensor.shape)
            # Matrices and kernels, not tokens and positions.
            if tensor.dim() in (2, 4):
                value = wave * math.sqrt(2.0 / tensor[0].numel())
            elif tensor.dim() == 3:
                value = wave * 0.5
            elif any(word in name for word in ("running_var", "gamma", "lambda")) or ("norm" in name or "ln" in name) and name.endswith("weight"):
                value = 1.0 + 0.4 * wave
            else:
                value = 0.1 * wave
            tensor.copy_(value.half().float())
    return model


def picture(height, width):
    at = torch.arange(3 * height * width, dtype=torch.float64)
    return torch.sin(at * 0.113).mul(1.5).reshape(1, 3, height, width).float()


def preprocessor(folder, **keys):
    with open(os.path.join(folder, "preprocessor_config.json"), "w") as file:
        json.dump({"do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3, **keys}, file, indent=1)
        file.write("\n")


def save_pretrained(model, name, **how):
    """As transformers saves it: in its published names, which its classes of version 5 no longer have."""
    folder = os.path.join(HERE, name)
    half = type(model)(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder, **how)
    return folder


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    small, wide = picture(SIDE, SIDE), picture(24, SIDE)
    out = {"picture": small, "picture_wide": wide}
    common = dict(hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=SIDE, patch_size=PATCH)
    with torch.no_grad():
        # Hugging Face: a classifier (prefix vit., old names), and the encoder alone in shards.
        config = transformers.ViTConfig(intermediate_size=HIDDEN, num_labels=3, **common)
        classifier = fill(transformers.ViTForImageClassification(config))
        folder = save_pretrained(classifier, "hf-vit")
        preprocessor(folder, image_mean=[0.5, 0.4, 0.3], image_std=[0.5, 0.25, 0.2], size={"height": SIDE, "width": SIDE})
        out["hf-vit"] = classifier.vit(small).last_hidden_state[:, 0]
        out["hf-vit.wide"] = classifier.vit(wide, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        encoder = fill(transformers.ViTModel(config, add_pooling_layer=True))
        save_pretrained(encoder, "hf-shards", max_shard_size="6KB")
        out["hf-shards"] = encoder(small).last_hidden_state[:, 0]
        # The names that the classes have in memory, which people save with torch.save.
        torch.save({k: v.half() for k, v in encoder.state_dict().items()}, os.path.join(HERE, "transformers5.pth"))
        out["transformers5.pth"] = out["hf-shards"]

        dinov2 = fill(transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=2, **common)))
        folder = save_pretrained(dinov2, "hf-dinov2")
        preprocessor(
            folder,
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
            size={"shortest_edge": 18},
            crop_size={"height": SIDE, "width": SIDE},
            do_center_crop=True,
        )
        out["hf-dinov2"] = dinov2(small).last_hidden_state[:, 0]
        out["hf-dinov2.wide"] = dinov2(wide).last_hidden_state[:, 0]
        config = transformers.Dinov2WithRegistersConfig(mlp_ratio=2, num_register_tokens=4, **common)
        registers = fill(transformers.Dinov2WithRegistersModel(config))
        save_pretrained(registers, "hf-registers")
        out["hf-registers"] = registers(small).last_hidden_state[:, 0]
        out["hf-registers.wide"] = registers(wide).last_hidden_state[:, 0]

        config = transformers.ResNetConfig(
            embedding_size=4, hidden_sizes=[4, 8, 16, 32], depths=[1, 1, 1, 1], layer_type="basic", num_labels=3
        )
        resnet = fill(transformers.ResNetForImageClassification(config))
        save_pretrained(resnet, "hf-resnet")
        large = picture(64, 64)
        out["picture_large"] = large
        out["hf-resnet"] = resnet.resnet(large).pooler_output.flatten(1)

        # torchvision's Vision Transformer.
        net = fill(
            torchvision.models.VisionTransformer(
                image_size=SIDE, patch_size=PATCH, num_layers=DEPTH, num_heads=HEADS, hidden_dim=DIM, mlp_dim=HIDDEN, num_classes=3
            )
        )
        tensors = {k: v.half() for k, v in net.state_dict().items()}
        save_file(tensors, os.path.join(HERE, "torchvision-vit.safetensors"))
        net.heads = torch.nn.Identity()
        out["torchvision-vit.safetensors"] = net(small)

        # timm: as DeiT III (layer scale, no position for the class token), and registers with positions of their own.
        usual = dict(img_size=SIDE, patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, mlp_ratio=2.0, num_classes=3)
        for name, how in (
            ("timm-deit3.safetensors", dict(init_values=1.0, no_embed_class=True)),
            ("timm-registers.safetensors", dict(reg_tokens=4, qkv_bias=False)),
        ):
            net = fill(timm_vit.VisionTransformer(**usual, **how))
            save_file({k: v.half() for k, v in net.state_dict().items()}, os.path.join(HERE, name))
            out[name] = net.forward_features(small)[:, 0]
    save_file({k: v.clone().contiguous() for k, v in out.items()}, os.path.join(HERE, "features.safetensors"))


main()
