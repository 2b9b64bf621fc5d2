"""The module beside the command line: the same pictures through the same weights, the same figures.

`cargo xtask test` runs this with the wheel installed; OCELLI_BIN is the program.
"""

import json
import os
import pathlib
import signal
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import zlib

import numpy as np

import ocelli

PROGRAM = os.environ.get("OCELLI_BIN", "ocelli")
# The demo's network, for as many steps as make a run: two epochs of four.
TRAINING = """pretrain --preset demo --data scenes:64 --device cpu --epochs 2 --quiet --set batch_size=16
    --set optim.warmup_epochs=1 --set eval.every_epochs=1 --set log.every_steps=1 --out run""".split()
RESNET = "random:resnet-18"


def png(path, picture):
    """Writes uint8 [height, width, 3]."""
    height, width, _ = picture.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows.tobytes())), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def read_png(path):
    """Reads 8-bit RGB or RGBA without interlacing, as Ocelli writes it: uint8 [height, width, 3]."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) in [(8, 2), (8, 6)], (depth, colour)
            channels = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    rows = np.zeros((height + 1, width * channels), np.int64)
    for y, line in enumerate(lines):
        method, values = line[0], line[1:].astype(np.int64)
        above, row = rows[y], rows[y + 1]
        for x in range(width * channels):
            a = row[x - channels] if x >= channels else 0
            b = above[x]
            c = above[x - channels] if x >= channels else 0
            nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            row[x] = (values[x] + [0, a, b, (a + b) // 2, nearest][method]) % 256
    return rows[1:].astype(np.uint8).reshape(height, width, channels)[:, :, :3]


def picture(height, width, seed):
    """Smooth colours with some noise, no level below 60."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / (5 + 3 * c) + seed) * np.cos(x / (9 - 2 * c)) for c in range(3)]
    levels = 150 + 80 * np.stack(waves, axis=-1) + rng.normal(0, 4, (height, width, 3))
    return np.clip(levels, 60, 255).astype(np.uint8)


def mass_mask(values, mass):
    """The cells that hold the top share of the attention, as the command line draws them."""
    order = np.argsort(values, kind="stable")
    running = np.cumsum(values[order].astype(np.float64) / values.astype(np.float64).sum())
    keep = np.zeros(len(values), bool)
    keep[order] = running > 1 - mass
    return keep


class BesideTheCommandLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = pathlib.Path(cls.folder.name)
        cls.command(*TRAINING)
        cls.pictures = [picture(64, 96, 1), picture(80, 48, 2), picture(50, 70, 3)]
        cls.names = ["a.png", "b.png", "c.png"]
        for name, pixels in zip(cls.names, cls.pictures):
            png(cls.root / name, pixels)
        cls.model = ocelli.load(cls.root / "run", device="cpu")

    @classmethod
    def command(cls, *args, fails=False):
        done = subprocess.run([PROGRAM, *args], cwd=cls.root, capture_output=True, text=True)
        assert (done.returncode == 2) == fails and done.returncode in (0, 2), (args, done.stdout, done.stderr)
        return done.stderr if fails else done.stdout

    def embedded(self, weights, *more):
        out = f"{self.id()}-{len(os.listdir(self.root))}.npy"
        self.command("embed", *more, "--weights", weights, "--out", out, "--device", "cpu")
        return np.load(self.root / out)

    def test_features_are_those_of_embed(self):
        expected = self.embedded("run", *self.names)
        found = self.model.embed(self.pictures)
        self.assertEqual((found.dtype, found.shape), (np.float32, (3, self.model.dim)))
        np.testing.assert_array_equal(found, expected)
        self.assertGreater(np.abs(found[0] - found[1]).max(), 1e-3)
        mean = self.model.embed(self.pictures, features="mean-patch")
        np.testing.assert_array_equal(mean, self.embedded("run", *self.names, "--features", "mean-patch"))
        self.assertTrue(found.flags.writeable)

    def test_features_of_a_resnet(self):
        model = ocelli.load(RESNET, device="cpu", resize=64, crop=64)
        expected = self.embedded(RESNET, *self.names, "--size", "64")
        np.testing.assert_array_equal(model.embed(self.pictures), expected)
        self.assertEqual(model.tokens(picture(64, 96, 1)).shape, (2, 3, 512))
        with self.assertRaisesRegex(ValueError, "expected a Vision Transformer, found a ResNet"):
            model.attention(self.pictures[0])

    def test_an_array_is_a_list_of_pictures(self):
        pictures = np.stack([picture(40, 40, seed) for seed in range(5)])
        together = self.model.embed(pictures)
        np.testing.assert_array_equal(together, self.model.embed(list(pictures)))
        np.testing.assert_allclose(together, self.model.embed(pictures, batch=2), rtol=1e-4, atol=1e-5)
        mirrored = pictures[:, :, ::-1]
        self.assertFalse(mirrored.flags.c_contiguous)
        np.testing.assert_array_equal(self.model.embed(mirrored), self.model.embed(mirrored.copy()))
        self.assertEqual(self.model.embed([]).shape, (0, self.model.dim))

    def test_without_a_crop_sizes_are_mixed(self):
        whole = ocelli.load(self.root / "run", device="cpu", resize=0, crop=0)
        found = whole.embed([self.pictures[0], self.pictures[1], self.pictures[0]])
        alone = [whole.embed([pixels])[0] for pixels in self.pictures[:2]]
        np.testing.assert_allclose(found, [alone[0], alone[1], alone[0]], rtol=1e-4, atol=1e-5)

    def test_tokens_are_the_patches_of_embed(self):
        # Whole patches, so that both take the picture as it is.
        expected = self.embedded("run", "a.png", "--features", "patches", "--size", "0")
        found = self.model.tokens(self.pictures[0])
        patch = self.model.patch_px
        self.assertEqual(found.shape, (64 // patch, 96 // patch, self.model.dim))
        np.testing.assert_array_equal(found.reshape(1, -1, self.model.dim), expected)
        self.assertEqual(self.model.tokens(self.pictures[0], size=48).shape[:2], (32 // patch, 48 // patch))

    def test_attention_is_what_the_command_line_draws(self):
        patch = self.model.patch_px
        rows, columns = 50 // patch, 70 // patch
        pixels = self.pictures[2][: rows * patch, : columns * patch]
        found = self.model.attention(self.pictures[2])
        self.assertEqual((found.dtype, found.shape[1:]), (np.float32, (rows, columns)))
        sums = found.reshape(len(found), -1).sum(axis=1)
        self.assertTrue((sums > 0).all() and (sums < 1).all(), "the rest is on the class token itself")
        for mass in [0.3, 0.6, 0.9]:
            self.command("attention", "c.png", "--weights", "run", "--device", "cpu", "--out", f"maps-{mass}",
                         "--threshold", str(mass))
            for head, values in enumerate(found, 1):
                drawn = read_png(self.root / f"maps-{mass}" / f"c-head{head}-mask.png")
                kept = (drawn == pixels).all(axis=-1)[::patch, ::patch]
                np.testing.assert_array_equal(kept.ravel(), mass_mask(values.ravel(), mass), f"head {head}, {mass}")

    def test_what_a_model_says(self):
        model = self.model
        config = ocelli.Run(self.root / "run").config
        self.assertEqual(model.arch, config["arch"])
        self.assertEqual((model.resize_px, model.crop_px), (config["eval"]["resize_px"], config["eval"]["crop_px"]))
        np.testing.assert_allclose(model.mean, config["views"]["mean"], rtol=1e-6)
        self.assertEqual(model.notes, [], "the run says everything")
        self.assertIn(model.description, repr(model))
        self.command("export", "run", "--format", "pth", "--out", "bare.pth")
        bare = ocelli.load(self.root / "bare.pth", arch=config["arch"], device="cpu")
        self.assertEqual([note.split(":")[0] for note in bare.notes], ["normalisation", "size"])
        self.assertIn(bare.notes[0], repr(bare))
        half = ocelli.load(self.root / "bare.pth", config["arch"], "cpu", mean=[0.5] * 3, std=[0.5] * 3, crop=32)
        self.assertEqual((half.mean, half.std, half.crop_px), ((0.5,) * 3, (0.5,) * 3, 32))
        self.assertNotEqual(half.embed(self.pictures).tolist(), bare.embed(self.pictures).tolist())

    def test_a_run_tells_its_figures(self):
        run = ocelli.Run(self.root / "run")
        rows = [json.loads(line) for line in (self.root / "run" / "metrics.jsonl").read_text().splitlines()]
        steps = [row for row in rows if row["event"] == "step"]
        epochs = [row for row in rows if row["event"] == "epoch"]
        self.assertEqual((len(steps), len(epochs)), (8, 2))
        np.testing.assert_array_equal(run.metrics["step"], [row["step"] for row in steps])
        np.testing.assert_array_equal(run.metrics["loss"], [row["loss"] for row in steps])
        np.testing.assert_array_equal(run.epochs["epoch"], [0, 1])
        np.testing.assert_array_equal(run.epochs["loss"], [row["loss"] for row in epochs])
        np.testing.assert_array_equal(run.epochs["knn_20"], [row["knn"]["20"] for row in epochs])
        self.assertEqual({len(column) for column in run.metrics.values()}, {8})
        self.assertEqual((run.config["method"], run.config["batch_size"], run.path), ("dino", 16, self.root / "run"))
        np.testing.assert_array_equal(run.model("cpu").embed(self.pictures), self.model.embed(self.pictures))

    def test_errors_have_the_words_of_the_command_line(self):
        said = self.command("embed", "a.png", "--weights", "nowhere", "--out", "x.npy", "--device", "cpu", fails=True)
        with self.assertRaises(FileNotFoundError) as caught:
            ocelli.load("nowhere", device="cpu")
        self.assertEqual(said.strip(), f"error: {caught.exception}")
        (self.root / "text.safetensors").write_text("no weights")
        said = self.command("embed", "a.png", "--weights", str(self.root / "text.safetensors"), "--out", "x.npy",
                            "--device", "cpu", fails=True)
        with self.assertRaises(ValueError) as caught:
            ocelli.load(self.root / "text.safetensors", device="cpu")
        self.assertEqual(said.strip(), f"error: {caught.exception}")
        with self.assertRaises(FileNotFoundError):
            ocelli.Run(self.root / "nowhere")
        with self.assertRaisesRegex(ValueError, "no run here"):
            ocelli.Run(self.root)
        with self.assertRaisesRegex(ValueError, "expected auto, gpu, gpu:N or cpu"):
            ocelli.load(self.root / "run", device="cuda")
        with self.assertRaisesRegex(ocelli.OcelliError, "gpu:99"):
            ocelli.load(self.root / "run", device="gpu:99")
        with self.assertRaisesRegex(ValueError, "expected vit-s/16, found vit-"):
            ocelli.load(self.root / "run", arch="vit-s/16", device="cpu")
        with self.assertRaisesRegex(ValueError, "expected both or neither"):
            ocelli.load(self.root / "run", device="cpu", mean=[0.5] * 3)

    def test_pictures_of_another_kind_are_refused(self):
        for wrong, message in [
            (np.zeros((2, 8, 8, 3), np.float32), r"images\[0\]: expected uint8 \[height, width, 3\], found float32 \[8, 8, 3\]"),
            (np.zeros((8, 8, 3), np.uint8), r"found uint8 \[8, 8, 3\]"),
            ([self.pictures[0], np.zeros((8, 8), np.uint8)], r"images\[1\]: .* found uint8 \[8, 8\]"),
            ([np.zeros((0, 8, 3), np.uint8)], r"images\[0\]: .*at least 1 pixel"),
            (7, "found int"),
        ]:
            with self.assertRaisesRegex(ValueError, message):
                self.model.embed(wrong)
        tiny = ocelli.load(self.root / "run", device="cpu", resize=0, crop=0)
        with self.assertRaisesRegex(ValueError, "images: expected at least [0-9]+ px each way, found 3×40"):
            tiny.embed([picture(40, 3, 1)])
        with self.assertRaisesRegex(ValueError, "expected cls or mean-patch"):
            self.model.embed(self.pictures, features="patches")
        with self.assertRaisesRegex(ValueError, "batch: expected at least 1"):
            self.model.embed(self.pictures, batch=0)

    def test_others_run_meanwhile_and_control_c_ends_it(self):
        # One picture, very often: minutes of work.
        pictures = np.broadcast_to(picture(64, 64, 1), (100_000, 64, 64, 3))
        # A shell starts what runs in the background with Ctrl-C ignored, and Python then leaves it so.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT)).start()
        began = time.monotonic()
        with self.assertRaises(KeyboardInterrupt):
            self.model.embed(pictures)
        self.assertLess(time.monotonic() - began, 15)


if __name__ == "__main__":
    unittest.main(verbosity=2)
