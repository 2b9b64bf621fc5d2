"""A ViT-S/16 with random weights for both sides of the bench: vit.onnx and vit.safetensors in the folder given.

pip install torch timm onnx safetensors, then: python web/bench/export.py models
"""

import pathlib
import sys

import timm
import torch
from safetensors.torch import save_file

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
network = timm.create_model("vit_small_patch16_224", num_classes=0).eval()
save_file(network.state_dict(), folder / "vit.safetensors")
torch.onnx.export(
    network, (torch.zeros(1, 3, 224, 224),), folder / "vit.onnx", input_names=["pixels"], output_names=["cls"],
    opset_version=17, dynamo=False,
)
