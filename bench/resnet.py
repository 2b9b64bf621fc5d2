"""ResNet-50 at 224 px: inference, and a training step of MoCo v2 and of DenseCL, by PyTorch and by Ocelli in turns on the same cores.

    python bench/resnet.py --ocelli target/release/ocelli
    python bench/resnet.py --ocelli target/release/ocelli --case inference --threads 2 --rounds 5

Both sides are a process of their own, bound to as many cores as it has threads. A step has 4 images in two views, a queue of 65,536
keys, the published heads, SGD, and the key encoder's average. PyTorch's views lie in memory. Ocelli's step is what `pretrain --dry-run`
measures: there the loader renders the views on the same cores, so its time holds more work. Inference takes 8 images at a time.
Printed: the median over rounds, and Ocelli's speed over PyTorch's. Needs torch and torchvision; nothing else should run.
"""

import argparse
import json
import statistics
import sys
import time

from detection_step import in_turns, step_s

CASES = ("inference", "moco", "densecl")
BATCH = 4
BATCH_INFERENCE = 8
QUEUE = 65536
DIM = 128
TEMPERATURE = 0.2
MOMENTUM = 0.999


# PyTorch's side.


def torch_step(case, threads, steps):
    """Seconds of one pass or step, the median of several."""
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torchvision.models import resnet50

    torch.manual_seed(0)
    torch.set_num_threads(threads)

    def median(work):
        work()
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    if case == "inference":
        net, images = resnet50().eval(), torch.randn(BATCH_INFERENCE, 3, 224, 224)
        with torch.no_grad():
            return median(lambda: net(images))

    class Encoder(nn.Module):
        """The maps of ResNet-50, an MLP on their mean, and for DenseCL another at every cell."""

        def __init__(self):
            super().__init__()
            net = resnet50()
            self.maps = nn.Sequential(*list(net.children())[:-2])
            self.head = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, DIM))
            if case == "densecl":
                self.dense = nn.Sequential(nn.Conv2d(2048, 2048, 1), nn.ReLU(), nn.Conv2d(2048, DIM, 1))

        def forward(self, x):
            maps = self.maps(x)
            out = [F.normalize(self.head(maps.mean((2, 3))), dim=1)]
            if case == "densecl":
                dense = self.dense(maps).flatten(2)
                out += [F.normalize(dense, dim=1), F.normalize(dense.mean(2), dim=1), F.normalize(maps.flatten(2), dim=1)]
            return out

    query, key = Encoder(), Encoder()
    key.load_state_dict(query.state_dict())
    for parameter in key.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(query.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    queues = [F.normalize(torch.randn(DIM, QUEUE), dim=0) for _ in range(2 if case == "densecl" else 1)]
    views = [torch.randn(BATCH, 3, 224, 224) for _ in range(2)]
    place = 0

    def contrast(positive, queries, queue):
        logits = torch.cat([positive, queries @ queue], 1) / TEMPERATURE
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))

    def step():
        nonlocal place
        q = query(views[0])
        with torch.no_grad():
            for mine, theirs in zip(key.parameters(), query.parameters()):
                mine.mul_(MOMENTUM).add_(theirs, alpha=1 - MOMENTUM)
            k = key(views[1])
        loss = contrast((q[0] * k[0]).sum(1, keepdim=True), q[0], queues[0])
        if case == "densecl":
            # Each cell's partner is the one whose backbone features are nearest.
            partner = torch.einsum("bcm,bcn->bmn", q[3], k[3]).argmax(2)
            keys = torch.gather(k[1], 2, partner.unsqueeze(1).expand(-1, DIM, -1))
            cells = q[1].transpose(1, 2).reshape(-1, DIM)
            positive = (q[1] * keys).sum(1).reshape(-1, 1)
            loss = 0.5 * loss + 0.5 * contrast(positive, cells, queues[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queues[0][:, place : place + BATCH] = k[0].T
        if case == "densecl":
            queues[1][:, place : place + BATCH] = k[2].T
        place = (place + BATCH) % QUEUE

    return median(step)


# Both, in turns.


def ocelli_command(program, case):
    if case == "inference":
        return [program, "bench", "--arch", "resnet50", "--batch", str(BATCH_INFERENCE), "--device", "cpu", "--json"]
    sets = {"batch_size": BATCH, "resnet.norm_groups": 1}
    command = [
        program, "pretrain", "--preset", f"{case}-r50-200", "--dry-run", "--json", "--device", "cpu",
        "--data", "scenes:70000:224", "--out", "runs/never",
    ]
    return command + [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]


def pass_s(told):
    """The time of a pass over a batch, of what `bench --json` prints."""
    row = next(row for row in told["rows"] if row["arch"] == "resnet-50")
    return BATCH_INFERENCE / row["images_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ocelli", default="target/release/ocelli", help="the program")
    parser.add_argument("--case", choices=CASES, nargs="+", default=CASES)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="steps of PyTorch's that are measured in a round")
    parser.add_argument("--only-torch", action="store_true", help="measure PyTorch in this process, and print JSON")
    args = parser.parse_args()
    if args.only_torch:
        print(json.dumps({"step_s": torch_step(args.case[0], args.threads[0], args.steps)}))
        return
    for case in args.case:
        for threads in args.threads:
            own = [sys.executable, __file__, "--only-torch", "--case", case, "--threads", str(threads), "--steps", str(args.steps)]
            read = pass_s if case == "inference" else step_s
            of, torch_s, ocelli_s = in_turns(own, ocelli_command(args.ocelli, case), threads, args.rounds, read)
            print(f"{case}, {of}: PyTorch {torch_s:.3f} s, Ocelli {ocelli_s:.3f} s, {torch_s / ocelli_s:.2f} times PyTorch's speed", flush=True)


if __name__ == "__main__":
    main()
