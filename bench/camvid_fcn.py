"""FCN on a dilated ResNet in PyTorch, with the recipe and the starting weights of an Ocelli run, and both mIoUs side by side.

    ocelli pretrain --preset moco-laptop --data imagenette-128 --set arch=resnet-18 --epochs 2 --out runs/r18
    ocelli export runs/r18 --format safetensors --out r18.safetensors
    ocelli finetune segmentation --weights r18.safetensors --data camvid-240x180:test --preset laptop --seed 0 --device cpu \\
        --iterations 400 --batch-size 4 --set evaluate_every=400 --out runs/camvid0
    python bench/camvid_fcn.py --run runs/camvid0 --weights r18.safetensors --data camvid-240x180 --seed 0

Everything that decides the figure is read from RUN/config.toml, so that the recipes cannot differ; what this script does not
know is refused. Written here: the network (ResNet of basic or bottleneck blocks with dilation in place of stride, torchvision's
FCN head, an auxiliary head on the third stage), the loss over all pixels, SGD with decay of everything, the poly rate, and the
views (scale, crop with the rule of the largest class, flip, photometric distortion). Drawn values differ: the heads' first
weights, order, views and dropout come from other generators. Take several seeds of both to tell a difference from chance.

--steps N with --time prints the time of a step and ends. Needs torch, numpy, pillow, safetensors.
"""

import argparse
import json
import math
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

IGNORED = 255
CROP_TRIES = 10


def refuse(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


# The network.


def conv3(inputs, outputs, stride=1, dilation=1):
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


class Block(nn.Module):
    """Two 3x3 convolutions, the first with stride and dilation, or a bottleneck with both in its 3x3 convolution."""

    def __init__(self, inputs, inner, outputs, stride, dilation, bottleneck):
        super().__init__()
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
            self.conv2 = conv3(inner, inner, stride, dilation)
            self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = conv3(inputs, inner, stride, dilation)
            self.conv2 = conv3(inner, outputs)
        self.bn1, self.bn2 = nn.BatchNorm2d(inner), nn.BatchNorm2d(inner)
        self.bottleneck = bottleneck
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + shortcut)


class ResNet(nn.Module):
    """Torchvision's names. Below `stride_px` strides become dilations; the first block of a stage has those of the stage before."""

    def __init__(self, blocks, bottleneck, channels, stem, stride_px):
        super().__init__()
        small = stem == "cifar"
        self.conv1 = conv3(3, channels) if small else nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        at, most = 4, stride_px * (4 if small else 1)
        inputs, dilation = channels, 1
        for stage, count in enumerate(blocks):
            inner = channels * 2**stage
            outputs = inner * (4 if bottleneck else 1)
            before, stride = dilation, 1 if stage == 0 else 2
            if at * stride > most:
                dilation, stride = dilation * stride, 1
            at *= stride
            layers = []
            for i in range(count):
                first = i == 0
                layers.append(
                    Block(inputs, inner, outputs, stride if first else 1, before if first else dilation, bottleneck)
                )
                inputs = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
            if stage == 2:
                self.middle = outputs
        self.last = inputs

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        middle = self.layer3(self.layer2(self.layer1(x)))
        return middle, self.layer4(middle)


class ConvModule(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv, self.bn = conv3(inputs, outputs), nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Head(nn.Module):
    """3x3 convolutions, perhaps one more over input and output, dropout of channels, a classifier."""

    def __init__(self, inputs, channels, convs, concat, classes, dropout):
        super().__init__()
        self.convs = nn.Sequential(*[ConvModule(inputs if i == 0 else channels, channels) for i in range(convs)])
        before = channels if convs else inputs
        self.conv_cat = ConvModule(inputs + before, channels) if concat else None
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels if convs or concat else inputs, classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        nn.init.zeros_(self.conv_seg.bias)

    def forward(self, x):
        y = self.convs(x)
        if self.conv_cat is not None:
            y = self.conv_cat(torch.cat([x, y], 1))
        return self.conv_seg(self.dropout(y))


class Fcn(nn.Module):
    def __init__(self, config, shape, classes):
        super().__init__()
        self.backbone = ResNet(*shape, config["stride_px"])
        self.decode_head = Head(
            self.backbone.last, config["channels"], config["convs"], config["concat_input"], classes, config["dropout"]
        )
        self.auxiliary_head = None
        if config["auxiliary_channels"] > 0:
            self.auxiliary_head = Head(
                self.backbone.middle, config["auxiliary_channels"], 1, False, classes, config["dropout"]
            )

    def forward(self, x):
        middle, last = self.backbone(x)
        return self.decode_head(last), self.auxiliary_head(middle) if self.training and self.auxiliary_head else None


def shape_of(weights):
    """Blocks of the stages, whether they are bottlenecks, channels, stem."""
    def count(stage):
        return len({name.split(".")[1] for name in weights if name.startswith(f"layer{stage}.")})

    channels, _, side, _ = weights["conv1.weight"].shape
    bottleneck = "layer1.0.conv3.weight" in weights
    return [count(stage) for stage in (1, 2, 3, 4)], bottleneck, channels, "cifar" if side == 3 else "imagenet"


def network(config, path, classes):
    weights = {name.removeprefix("backbone."): tensor.float() for name, tensor in load_file(path).items()}
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
    if "conv1.weight" not in weights:
        refuse(f"{path}: expected a ResNet in torchvision's names (`ocelli export … --format safetensors`), found no conv1.weight")
    net = Fcn(config, shape_of(weights), classes)
    missing, unexpected = net.backbone.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        refuse(f"{path}: expected the tensors of a ResNet; missing {missing[:5]}, unexpected {list(unexpected)[:5]}")
    return net


def loss_of(logits, labels):
    """Cross-entropy summed over labelled pixels and divided by all."""
    logits = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / labels.numel()


# Pictures.


class CamVid:
    """Pictures of a part and their labels; classes called void or unlabelled are none."""

    def __init__(self, root, part):
        for needed in (root / "classes.txt", root / part, root / f"{part}annot"):
            if not needed.exists():
                refuse(f"--data {root}: expected the folder camvid-240x180, found no {needed.name} in it")
        names = [line.split(maxsplit=1) for line in (root / "classes.txt").read_text().splitlines() if line.strip()]
        names = sorted((int(number), name) for number, name in names)
        none = [number for number, name in names if name.lower() in ("void", "unlabelled", "unlabeled", "ignore")]
        self.classes = [name for number, name in names if number not in none]
        self.value = np.full(256, IGNORED, np.uint8)
        for place, number in enumerate(number for number, _ in names if number not in none):
            self.value[number] = place
        self.pictures = sorted(path for path in (root / part).iterdir() if path.suffix in (".jpg", ".png"))
        self.maps = [root / f"{part}annot" / f"{path.stem}.png" for path in self.pictures]
        if not self.pictures:
            refuse(f"{root / part}: expected pictures, found none")

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        picture = Image.open(self.pictures[index]).convert("RGB")
        return picture, self.value[np.asarray(Image.open(self.maps[index]))]


def fitted(height, width, scale):
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return [max(int(side * factor + 0.5), 1) for side in (height, width)]


def nearest(labels, height, width):
    rows, cols = (np.arange(n) * m // n for n, m in zip((height, width), labels.shape))
    return labels[rows][:, cols]


def largest_share(labels):
    counts = np.bincount(labels.ravel(), minlength=256)
    counts[IGNORED] = 0
    return counts.max() / counts.sum() if counts.sum() else 1.0


def hue_saturation(pixels, saturation, turns):
    """Multiplies S and moves H of HSV; colours from 0 to 1, [height, width, 3]."""
    top, low = pixels.max(2), pixels.min(2)
    chroma = top - low
    safe = np.where(chroma > 0, chroma, 1)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    hue = np.where(top == red, ((green - blue) / safe) % 6, np.where(top == green, (blue - red) / safe + 2, (red - green) / safe + 4))
    hue = (hue / 6 + turns) % 1.0
    share = np.clip(np.where(top > 0, chroma / np.where(top > 0, top, 1), 0) * saturation, 0, 1)

    def channel(n):
        k = (n + hue * 6) % 6
        return top - top * share * np.clip(np.minimum(k, 4 - k), 0, 1)

    return np.stack([channel(5), channel(3), channel(1)], 2)


def distorted(pixels, rng):
    """Brightness, contrast before or after saturation and hue, each with probability a half."""
    happens = rng.random(4) < 0.5
    brightness, contrast = rng.uniform(-32 / 255, 32 / 255), rng.uniform(0.5, 1.5)
    saturation, turns = rng.uniform(0.5, 1.5), rng.uniform(-0.1, 0.1)
    first = rng.random() < 0.5
    if happens[0]:
        pixels = np.clip(pixels + brightness, 0, 1)
    if happens[1] and first:
        pixels = np.clip(pixels * contrast, 0, 1)
    if happens[2]:
        pixels = hue_saturation(pixels, saturation, 0.0)
    if happens[3]:
        pixels = hue_saturation(pixels, 1.0, turns)
    if happens[1] and not first:
        pixels = np.clip(pixels * contrast, 0, 1)
    return pixels


def view(picture, labels, views, rng):
    """A training view: [3, height, width] normalised, and [height, width] labels."""
    ratio = rng.uniform(*views["ratio"])
    height, width = fitted(picture.height, picture.width, [max(int(px * ratio), 1) for px in views["scale_px"]])
    resized = nearest(labels, height, width)
    side = [min(px, of) for px, of in zip(views["crop_px"], (height, width))]

    def draw():
        top, left = rng.integers(0, height - side[0] + 1), rng.integers(0, width - side[1] + 1)
        return top, left, resized[top : top + side[0], left : left + side[1]]

    top, left, found = draw()
    if views["max_class_share"] < 1.0:
        for _ in range(CROP_TRIES):
            if largest_share(found) < views["max_class_share"]:
                break
            top, left, found = draw()
    pixels = np.asarray(picture.resize((width, height), Image.BILINEAR))[top : top + side[0], left : left + side[1]] / 255.0
    if rng.random() < views["flip"]:
        pixels, found = pixels[:, ::-1], found[:, ::-1]
    if views["photometric"]:
        pixels = distorted(pixels, rng)
    pixels = (pixels - np.array(views["mean"])) / np.array(views["std"])
    out = np.zeros((3, *views["crop_px"]), np.float32)
    out[:, : side[0], : side[1]] = pixels.transpose(2, 0, 1)
    masked = np.full(views["crop_px"], IGNORED, np.int64)
    masked[: side[0], : side[1]] = found
    return out, masked


def batches(data, config, seed):
    """Passes over the pictures in new orders, without end; what is left of a pass is left out."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(data))
        for start in range(0, len(data) - config["batch_size"] + 1, config["batch_size"]):
            views = [view(*data[i], config["views"], rng) for i in order[start : start + config["batch_size"]]]
            yield (torch.from_numpy(np.stack(part)) for part in zip(*views))


@torch.no_grad()
def evaluate(net, data, config):
    """mIoU over one confusion matrix, and each class's IoU, in per cent."""
    net.eval()
    classes = len(data.classes)
    confusion = np.zeros((classes, classes), np.int64)
    mean, std = (torch.tensor(config["views"][key]).view(3, 1, 1) for key in ("mean", "std"))
    scale = config["eval"]["scale_px"]
    for index in range(len(data)):
        picture, labels = data[index]
        height, width = (picture.height, picture.width) if scale == [0, 0] else fitted(picture.height, picture.width, scale)
        resized = picture if (width, height) == picture.size else picture.resize((width, height), Image.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255.0
        logits = net(((pixels - mean) / std)[None])[0]
        for size in ((height, width), labels.shape):
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        found = logits.argmax(1)[0].numpy()
        counted = labels != IGNORED
        pairs = labels[counted].astype(np.int64) * classes + found[counted]
        confusion += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    net.train()
    both = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    iou = np.where(both > 0, 100.0 * np.diag(confusion) / np.maximum(both, 1), np.nan)
    return float(np.nanmean(iou)), {name: round(float(value), 2) for name, value in zip(data.classes, iou)}


# The run.


def recipe(run):
    path = run / "config.toml"
    if not path.exists():
        refuse(f"{path}: expected the folder of a run of `ocelli finetune segmentation`, found no configuration")
    config = tomllib.loads(path.read_text())
    wanted = [
        ("task", "segmentation"), ("head", "fcn"), ("frozen", False), ("align_corners", False), ("accumulate", 1),
        ("optim.optimizer", "sgd"), ("optim.warmup_iterations", 0), ("optim.decay_all", True), ("optim.backbone_lr", 1.0),
        ("eval.window_px", 0), ("eval.max_pictures", 0),
    ]
    for key, value in wanted:
        found = config
        for part in key.split("."):
            found = found[part]
        if found != value:
            refuse(f"{path}: expected {key} = {value}, which this script mirrors, found {found}")
    return config


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the Ocelli run")
    parser.add_argument("--weights", type=Path, help="backbone in safetensors (default: as the run names it)")
    parser.add_argument("--data", type=Path, required=True, help="camvid-240x180")
    parser.add_argument("--part", default="test", help="the part that is evaluated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="fewer steps than the run has; the rate falls as in the whole run")
    parser.add_argument("--time", action="store_true", help="print the time of a step and end")
    parser.add_argument("--out", type=Path, help="write what was found as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = recipe(args.run)
    train, test = CamVid(args.data, "train"), CamVid(args.data, args.part)
    net = network(config, args.weights or Path(config["weights"]), len(train.classes)).train()
    optim = config["optim"]
    optimizer = torch.optim.SGD(net.parameters(), optim["lr"], optim["momentum"], weight_decay=optim["weight_decay"])
    total, steps = config["iterations"], args.steps or config["iterations"]
    times, started, told = [], time.time(), time.time()
    for step, (pixels, labels) in zip(range(steps), batches(train, config, args.seed)):
        begun = time.perf_counter()
        rate = (optim["lr"] - optim["min_lr"]) * (1 - step / total) ** optim["power"] + optim["min_lr"]
        for group in optimizer.param_groups:
            group["lr"] = rate
        decode, auxiliary = net(pixels)
        loss = loss_of(decode, labels)
        if auxiliary is not None:
            loss = loss + config["auxiliary_weight"] * loss_of(auxiliary, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = loss.item()
        if not math.isfinite(value):
            refuse(f"step {step + 1}: the loss is {value}")
        times.append(time.perf_counter() - begun)
        if time.time() - told > 10 or step + 1 == steps:
            told = time.time()
            print(f"step {step + 1} of {steps}: loss {value:.3f}, {told - started:.0f} s", file=sys.stderr, flush=True)
    step_s = float(np.median(times[1:] or times))
    if args.time:
        print(f"{step_s:.3f} s a step (median of {len(times[1:] or times)}, views not counted), {args.threads} threads")
        return
    miou, iou = evaluate(net, test, config)
    found = {
        "miou": round(miou, 2), "classes": iou, "pictures": len(test), "steps": steps, "seed": args.seed,
        "step_s": round(step_s, 4), "wall_s": round(time.time() - started, 1), "torch": torch.__version__,
    }
    stored = args.run / "segmentation.json"
    if stored.exists():
        ours = json.loads(stored.read_text())
        found["ocelli_miou"] = ours["miou"]
        found["ocelli_classes"] = {entry["name"]: entry["iou"] for entry in ours["classes"]}
        if ours["pictures"] != len(test):
            refuse(f"{stored}: expected {len(test)} pictures, found {ours['pictures']}: name the run's data with :{args.part}")
        difference = ours["miou"] - miou
        print(f"mIoU of {len(iou)} classes on {len(test)} pictures: PyTorch {miou:.2f} %, Ocelli {ours['miou']:.2f} %: {difference:+.2f}")
    else:
        print(f"mIoU of {len(iou)} classes on {len(test)} pictures: PyTorch {miou:.2f} %; the run has no segmentation.json yet")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
