"""A training step of Faster R-CNN R50-C4: PyTorch with torchvision's ROIAlign and NMS, and Ocelli, in turns on the same cores.

    python bench/detection_step.py --ocelli target/release/ocelli
    python bench/detection_step.py --ocelli target/release/ocelli --threads 2 --regions 64 --cells 7 --rounds 3

Both sides are a process of their own, bound to as many cores as it has threads: ResNet-50, 2 images of 320 px, 256 anchors of an
image in the loss, the given number of regions, normalisation in training mode with one more norm behind the fourth stage, SGD.
PyTorch's step is forward, losses, backward and update on images in memory; the median of 5 after a warm-up. Ocelli's is what
`finetune detection --dry-run` measures, with its loader running. Printed: the median over rounds, and Ocelli's time over
PyTorch's. Needs torch and torchvision; nothing else should run.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
GROWTH = math.log(1000 / 16)
RATIOS = (0.5, 1.0, 2.0)


def refuse(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def anchor_sizes(size_px):
    """The published 32 to 512 of 800 px, as small as the image."""
    return [round(px * size_px / 800, 1) for px in (32, 64, 128, 256, 512)]


# PyTorch's side.


def build():
    """What needs torch, as a module of functions: the parent process does not load it."""
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torchvision.ops import box_iou, nms, roi_align

    def grid(rows, cols, stride, sizes, ratios=RATIOS):
        """Anchors of a map, cell by cell, each size with each ratio, centred on the cell's upper left corner."""
        cell = []
        for size in sizes:
            for ratio in ratios:
                width = math.sqrt(size * size / ratio)
                height = ratio * width
                cell.append((-width / 2, -height / 2, width / 2, height / 2))
        y, x = torch.meshgrid(torch.arange(rows) * float(stride), torch.arange(cols) * float(stride), indexing="ij")
        corner = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        return (corner + torch.tensor(cell)).reshape(-1, 4)

    def middle(boxes):
        size = boxes[:, 2:] - boxes[:, :2]
        return size, boxes[:, :2] + 0.5 * size

    def encode(source, target, weights):
        (size, centre), (target_size, target_centre) = middle(source), middle(target)
        deltas = torch.cat([(target_centre - centre) / size, torch.log(target_size / size)], 1)
        return deltas * torch.tensor(weights)

    def decode(source, deltas, weights):
        size, centre = middle(source)
        deltas = deltas / torch.tensor(weights)
        half = torch.exp(deltas[:, 2:].clamp(max=GROWTH)) * size / 2
        at = deltas[:, :2] * size + centre
        return torch.cat([at - half, at + half], 1)

    def clip(boxes, height, width):
        x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
        return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)

    def draw(positive, negative, count, share):
        """A random `count` of the numbers, at most a share of them positive."""
        some = positive[torch.randperm(len(positive))[: int(count * share)]]
        rest = negative[torch.randperm(len(negative))[: count - len(some)]]
        return some, rest

    class Detector(nn.Module):
        """Trunk, region proposals, fourth stage with a norm, and the predictor; the losses of a batch."""

        def __init__(self, trunk, stage4, trunk_dim, dim, classes, settings):
            super().__init__()
            self.trunk, self.stage4, self.norm = trunk, stage4, nn.BatchNorm2d(dim)
            anchors = len(settings["anchors_px"]) * len(RATIOS)
            self.conv = nn.Conv2d(trunk_dim, trunk_dim, 3, padding=1)
            self.objectness, self.moves = nn.Conv2d(trunk_dim, anchors, 1), nn.Conv2d(trunk_dim, 4 * anchors, 1)
            self.classify, self.boxes = nn.Linear(dim, classes + 1), nn.Linear(dim, 4 * classes)
            self.classes, self.settings = classes, settings
            for layer in (self.conv, self.objectness, self.moves, self.classify, self.boxes):
                nn.init.normal_(layer.weight, std=0.001 if layer is self.boxes else 0.01)
                nn.init.zeros_(layer.bias)

        def forward(self, images, objects, of_classes, choose=draw):
            maps = self.trunk(images)
            hidden = F.relu(self.conv(maps))
            batch, _, rows, cols = maps.shape
            anchors = grid(rows, cols, self.settings["stride_px"], self.settings["anchors_px"])
            logits = self.objectness(hidden).permute(0, 2, 3, 1).reshape(batch, -1)
            moves = self.moves(hidden).reshape(batch, -1, 4, rows, cols).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
            first = self.first_stage(logits, moves, anchors, objects, choose)
            regions = [
                self.regions(logits[i].detach(), moves[i].detach(), anchors, objects[i], of_classes[i], images, choose)
                for i in range(batch)
            ]
            return torch.stack([*first, *self.second_stage(maps, regions)])

        def first_stage(self, logits, moves, anchors, objects, choose):
            s = self.settings
            surprise, off = 0.0, 0.0
            for image, boxes in enumerate(objects):
                overlap = box_iou(boxes, anchors)
                best, matched = overlap.max(0)
                most = overlap.max(1, keepdim=True).values
                is_object = (best >= 0.7) | ((overlap == most) & (most > 0)).any(0)
                positive, negative = torch.where(is_object)[0], torch.where((best < 0.3) & ~is_object)[0]
                positive, negative = choose(positive, negative, s["anchors"], 0.5)
                looked = torch.cat([positive, negative])
                wanted = torch.zeros(len(looked))
                wanted[: len(positive)] = 1.0
                surprise = surprise + F.binary_cross_entropy_with_logits(logits[image, looked], wanted, reduction="sum")
                target = encode(anchors[positive], boxes[matched[positive]], (1.0,) * 4)
                off = off + (moves[image, positive] - target).abs().sum()
            count = s["anchors"] * len(objects)
            return surprise / count, off / count

        def regions(self, logits, moves, anchors, boxes, of_classes, images, choose):
            s = self.settings
            scores, order = logits.sort(descending=True, stable=True)
            scores, order = scores[: s["before_nms"]], order[: s["before_nms"]]
            found = clip(decode(anchors[order], moves[order], (1.0,) * 4), *images.shape[2:])
            is_there = (found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])
            found, scores = found[is_there], scores[is_there]
            found = torch.cat([found[nms(found, scores, 0.7)[: s["after_nms"]]], boxes])
            best, matched = box_iou(boxes, found).max(0)
            positive, negative = torch.where(best >= 0.5)[0], torch.where(best < 0.5)[0]
            positive, negative = choose(positive, negative, s["regions"], 0.25)
            classes = torch.full((len(positive) + len(negative),), self.classes)
            classes[: len(positive)] = of_classes[matched[positive]]
            return found[torch.cat([positive, negative])], classes, boxes[matched[positive]]

        def second_stage(self, maps, regions):
            s = self.settings
            crops = roi_align(maps, [r[0] for r in regions], s["cells"], 1 / s["stride_px"], 0, aligned=True)
            pooled = self.norm(self.stage4(crops)).mean((2, 3))
            logits, deltas = self.classify(pooled), self.boxes(pooled).reshape(len(pooled), -1, 4)
            classes = torch.cat([r[1] for r in regions])
            is_object = torch.where(classes < self.classes)[0]
            boxes, objects = torch.cat([r[0] for r in regions]), torch.cat([r[2] for r in regions])
            target = encode(boxes[is_object], objects, BOX_WEIGHTS)
            off = (deltas[is_object, classes[is_object]] - target).abs().sum()
            return F.cross_entropy(logits, classes), off / len(classes)

    return torch, nn, Detector


def torch_step(args):
    """Median seconds of a step."""
    torch, nn, Detector = build()
    from torchvision.models import resnet50

    torch.set_num_threads(args.threads[0])
    torch.manual_seed(0)
    net = resnet50(weights=None)
    trunk = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3)
    detector = Detector(trunk, net.layer4, 1024, 2048, args.classes, settings(args)).train()
    # Norms are not decayed.
    norms = {id(p) for module in detector.modules() if isinstance(module, nn.BatchNorm2d) for p in module.parameters()}
    groups = [[p for p in detector.parameters() if (id(p) in norms) == is_norm] for is_norm in (False, True)]
    groups = [{"params": group, "weight_decay": decay} for group, decay in zip(groups, (1e-4, 0.0))]
    optimizer = torch.optim.SGD(groups, lr=0.0025, momentum=0.9)
    images = torch.randn(args.batch, 3, args.size, args.size)
    objects, of_classes = [], []
    for _ in range(args.batch):
        # As many and as large as in the built-in scenes.
        side = args.size * (0.14 + 0.17 * torch.rand(3, 1)).repeat(1, 2)
        corner = torch.rand(3, 2) * (args.size - side)
        objects.append(torch.cat([corner, corner + side], 1))
        of_classes.append(torch.randint(0, args.classes, (3,)))
    times = []
    for step in range(args.steps + 1):
        begun = time.perf_counter()
        losses = detector(images, objects, of_classes)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        value = losses.sum().item()
        # The first has everything that is done once.
        if step > 0:
            times.append(time.perf_counter() - begun)
        if not math.isfinite(value):
            refuse(f"step {step + 1}: the loss is {value}")
    print(json.dumps({"step_s": statistics.median(times), "torch": torch.__version__}))


def settings(args):
    return {
        "stride_px": 16, "anchors_px": anchor_sizes(args.size), "anchors": 256, "before_nms": 2000, "after_nms": 500,
        "regions": args.regions, "cells": args.cells,
    }


# Both, in turns.


def ocelli_command(args):
    s = settings(args)
    sets = {
        "views.short_px": [args.size], "views.max_px": args.size, "anchors.sizes_px": s["anchors_px"],
        "rpn.batch_size_per_image": s["anchors"], "rpn.train_before_nms": s["before_nms"], "rpn.train_after_nms": s["after_nms"],
        "roi.batch_size_per_image": args.regions, "roi.cells": args.cells, "eval.every_iterations": 0,
    }
    command = [
        args.ocelli, "finetune", "detection", "--dry-run", "--json", "--device", "cpu", "--preset", "small",
        "--weights", "random:resnet-50", "--data", f"scenes:40:{args.size}", "--out", "runs/never", "--batch-size", str(args.batch),
    ]
    return command + [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]


def bound(command, threads):
    """Runs a command on the first cores, and reads its JSON."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    if len(cores) < threads:
        refuse(f"--threads: expected at most {len(cores)}, the cores there are, found {threads}")
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    # The child inherits the cores of this process.
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        refuse(f"{command[0]}: {error}")
    finally:
        os.sched_setaffinity(0, before)
    if done.returncode != 0:
        refuse(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def in_turns(own, ocelli, threads, rounds, seconds):
    """Runs PyTorch's command and Ocelli's in turns. Returns the threads in words and the median times of both, seconds; `seconds`
    reads Ocelli's from what it prints."""
    theirs, ours = [], []
    for number in range(rounds):
        theirs.append(bound(own, threads)["step_s"])
        ours.append(seconds(bound(ocelli, threads)))
        print(f"  round {number + 1}: PyTorch {theirs[-1]:.3f} s, Ocelli {ours[-1]:.3f} s", file=sys.stderr, flush=True)
    of = "1 thread" if threads == 1 else f"{threads} threads"
    return of, statistics.median(theirs), statistics.median(ours)


def step_s(told):
    """The time of a step, of what `--dry-run --json` prints."""
    return told["numbers"]["step_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ocelli", default="target/release/ocelli", help="the program")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="steps of PyTorch's that are measured in a round")
    parser.add_argument("--size", type=int, default=320, help="side of the images, pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--regions", type=int, default=32, help="regions of an image")
    parser.add_argument("--cells", type=int, default=14, help="cells on a side of a region")
    parser.add_argument("--only-torch", action="store_true", help="measure PyTorch in this process, and print JSON")
    parser.set_defaults(classes=10)
    args = parser.parse_args()
    if args.only_torch:
        torch_step(args)
        return
    print(f"ResNet-50-C4, {args.batch} images of {args.size} px, {args.regions} regions of {args.cells} x {args.cells} cells each")
    for threads in args.threads:
        own = [sys.executable, __file__, "--only-torch", "--threads", str(threads)]
        for name in ("steps", "size", "batch", "regions", "cells"):
            own += [f"--{name}", str(getattr(args, name))]
        of, torch_s, ocelli_s = in_turns(own, ocelli_command(args), threads, args.rounds, step_s)
        print(f"{of}: PyTorch {torch_s:.3f} s a step, Ocelli {ocelli_s:.3f} s, {ocelli_s / torch_s:.2f} times PyTorch's", flush=True)


if __name__ == "__main__":
    main()
