"""Self-supervised vision models: features and attention maps of images, as numpy arrays."""

from os import PathLike
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple, Union, final

import numpy as np
import numpy.typing as npt

__all__ = ["Model", "OcelliError", "Run", "load"]

__version__: str

class OcelliError(Exception):
    """The device failed or has not enough memory, or there is a fault in Ocelli.

    Wrong arguments and files are a `ValueError`.
    """

def load(
    path: Union[str, PathLike[str]],
    arch: Optional[str] = None,
    device: str = "auto",
    *,
    mean: Optional[Sequence[float]] = None,
    std: Optional[Sequence[float]] = None,
    resize: Optional[int] = None,
    crop: Optional[int] = None,
) -> Model:
    """Opens weights.

    `path` is what the command line's `--weights` takes: a run folder, a checkpoint, a file of weights (`.safetensors`,
    PyTorch's `.pth`), a folder of Hugging Face, `hf:NAME` for what its library has cached, or `random:ARCH`.

    `arch` is the architecture they must have, such as `"vit-s/16"`. It also tells the number of heads where the file does
    not. `device` is `"auto"`, `"cpu"`, `"gpu"` or `"gpu:N"`, numbered as `ocelli devices` does.

    `mean` and `std` (of levels from 0 to 1, for red, green and blue), `resize` (short side) and `crop` (side of the centre
    crop, both in pixels, 0 for neither) are taken before what the file says: the command line's flags of these names.

    Raises `FileNotFoundError` where there is nothing, `ValueError` for a file that holds something else, `OcelliError` for a
    device that cannot be opened.
    """

@final
class Model:
    """A network on a device. `ocelli.load` and `Run.model` make one; threads may share it."""

    @property
    def arch(self) -> str:
        """The architecture, such as `"vit-s/16"` or `"resnet-50"`."""
    @property
    def dim(self) -> int:
        """Length of a feature."""
    @property
    def patch_px(self) -> int:
        """Pixels per patch, or per cell of a ResNet."""
    @property
    def image_size_px(self) -> int:
        """Side of the square images that the position embeddings belong to, pixels; of a ResNet 224."""
    @property
    def mean(self) -> Tuple[float, float, float]:
        """What is taken off the levels from 0 to 1: red, green, blue."""
    @property
    def std(self) -> Tuple[float, float, float]:
        """What the levels are then divided by: red, green, blue."""
    @property
    def resize_px(self) -> int:
        """Short side after resizing, pixels; 0 leaves images as they are."""
    @property
    def crop_px(self) -> int:
        """Side of the centre crop, pixels; 0 takes the whole image."""
    @property
    def device(self) -> str:
        """Where it computes."""
    @property
    def description(self) -> str:
        """What was loaded, in words."""
    @property
    def notes(self) -> List[str]:
        """What nobody said and Ocelli guessed, a line each; `repr` shows it too."""
    def embed(
        self,
        images: Union[npt.NDArray[np.uint8], Sequence[npt.ArrayLike]],
        *,
        features: Literal["cls", "mean-patch"] = "cls",
        batch: int = 32,
    ) -> npt.NDArray[np.float32]:
        """Features of images, prepared and computed as `ocelli embed` does: float32 `[n, dim]`.

        `images` is uint8 `[n, height, width, 3]`, or a list of `[height, width, 3]` of any sizes. `features` is `"cls"` (the
        class token; of a ResNet, the mean of its cells) or `"mean-patch"` (the mean of the patches). `batch` images go
        through the network at once; between batches Ctrl-C ends the work.
        """
    def attention(self, image: npt.ArrayLike, *, size: int = 0) -> npt.NDArray[np.float32]:
        """What the class token attends to in the last block, of each head: float32 `[heads, rows, columns]`.

        `image` is uint8 `[height, width, 3]`. Its long side is scaled to `size` pixels (0: as it is, at most 480) and it is cut
        to whole patches, as `ocelli attention` does. Raises `ValueError` for a ResNet.
        """
    def tokens(self, image: npt.ArrayLike, *, size: int = 0) -> npt.NDArray[np.float32]:
        """A feature for every patch (of a ResNet, every cell): float32 `[rows, columns, dim]`.

        The image is prepared as for `attention`.
        """

@final
class Run:
    """A run's folder, as it was when this was made: its configuration and its figures."""

    def __new__(cls, path: Union[str, PathLike[str]]) -> Run:
        """Reads the folder. Damaged files are read as far as they go.

        Raises `FileNotFoundError` where there is nothing, `ValueError` for a folder without a run.
        """
    @property
    def path(self) -> Path:
        """The folder."""
    @property
    def config(self) -> Dict[str, Any]:
        """The configuration, with a dict for each section; empty where it cannot be read."""
    @property
    def metrics(self) -> Dict[str, npt.NDArray[Any]]:
        """Figures over the steps, averaged over as many steps as the run logs at once.

        Arrays of one length by name: `"step"` and `"epoch"` (uint64, from 0), `"unix_s"`, and float64 for each figure of
        `metrics.jsonl`, such as `"loss"`; NaN where a row lacks it.
        """
    @property
    def epochs(self) -> Dict[str, npt.NDArray[Any]]:
        """The same over the epochs, among them `"knn_20"` where the run was evaluated so. `"step"` is the epoch's last."""
    def model(self, device: str = "auto") -> Model:
        """The network of its newest checkpoint."""
