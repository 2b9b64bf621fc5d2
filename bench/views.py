"""Reading an image and making DINO's ten views of it, on one core: torchvision on PIL, and Ocelli, in turns.

    cargo build --release --example views
    python bench/views.py --ocelli target/release/examples/views --data imagenette-128
    python bench/views.py --ocelli target/release/examples/views --data photos --images 200 --rounds 5

Two crops of 224 px and eight of 96, bicubic, flipped, jittered, grey, blurred and solarised as published, then normalised: what
the preset vit-s16-300 has. Both sides read JPEGs from `--data` in a shuffled order, keep nothing between images, and are a
process of their own, bound to one core. Printed: the median over rounds of milliseconds an image, and PyTorch's over Ocelli's.
Needs torch and torchvision; nothing else should run.
"""

import argparse
import json
import pathlib
import random
import sys
import time

from detection_step import in_turns, refuse

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def views():
    """The published augmentation, from torchvision's own parts."""
    from PIL import Image, ImageFilter, ImageOps
    from torchvision import transforms as T

    def blurred(p):
        def blur(image):
            return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0))) if random.random() < p else image

        return T.Lambda(blur)

    solarised = T.Lambda(lambda image: ImageOps.solarize(image) if random.random() < 0.2 else image)

    def view(size, scale, blur, more=()):
        return T.Compose(
            [
                T.RandomResizedCrop(size, scale=scale, interpolation=Image.BICUBIC),
                T.RandomHorizontalFlip(),
                T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
                T.RandomGrayscale(0.2),
                blurred(blur),
                *more,
                T.ToTensor(),
                T.Normalize(MEAN, STD),
            ]
        )

    local = view(96, (0.05, 0.4), 0.5)
    return [view(224, (0.4, 1.0), 1.0), view(224, (0.4, 1.0), 0.1, [solarised]), *[local] * 8]


def torchvision(args):
    """Seconds an image."""
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    random.seed(0)
    files = sorted(p for p in pathlib.Path(args.data).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        refuse(f"--data: expected a folder of JPEGs, found none in {args.data}")
    random.shuffle(files)
    makes = views()

    def make(path):
        with Image.open(path) as image:
            image = image.convert("RGB")
        return [view(image) for view in makes]

    make(files[0])
    start = time.perf_counter()
    for i in range(args.images):
        make(files[i % len(files)])
    return (time.perf_counter() - start) / args.images


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ocelli", default="target/release/examples/views", help="the example `views`")
    parser.add_argument("--data", required=True, help="a folder of JPEGs")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-torch", action="store_true", help="measure torchvision in this process, and print JSON")
    args = parser.parse_args()
    if args.only_torch:
        print(json.dumps({"step_s": torchvision(args)}))
        return
    own = [sys.executable, __file__, "--only-torch", "--data", args.data, "--images", str(args.images)]
    ocelli = [args.ocelli, args.data, "vit-s16-300", str(args.images)]
    _, theirs, ours = in_turns(own, ocelli, 1, args.rounds, lambda told: told["ms"] / 1000)
    print(f"torchvision {1000 * theirs:.2f} ms an image, Ocelli {1000 * ours:.2f} ms: {theirs / ours:.2f} times as many images a second")


if __name__ == "__main__":
    main()
