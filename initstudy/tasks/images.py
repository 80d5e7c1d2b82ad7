"""Sets of images: scikit-learn's digits, torchvision's, and folders of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from initstudy.tasks.batches import generator
from initstudy.tasks.data import Data

DIGITS_TEST_FRACTION = 0.2
DIGITS_SPLIT_SEED = 0


def digits() -> Data:
    """The 1,797 handwritten digits that come with scikit-learn, 8×8 pixels in grey.

    A fifth of every class is for testing. The split is fixed.

    Example:
        >>> data = digits()
        >>> data.shape, data.classes, len(data.train), len(data.test)
        ((1, 8, 8), 10, 1438, 359)
    """
    rows = torch.from_numpy(
        np.loadtxt(bundled("data", "digits.csv.gz"), delimiter=",", dtype=np.uint8)
    )
    x, y = rows[:, :-1].reshape(-1, 1, 8, 8), rows[:, -1].long()
    train, test = stratified_split(y, DIGITS_TEST_FRACTION, generator(DIGITS_SPLIT_SEED, 0))
    return Data((x[train], y[train]), (x[test], y[test]), classes=10, name="digits")


def mnist(root: str | Path = "data", download: bool = True) -> Data:
    """MNIST (LeCun et al. 1998): 60,000 and 10,000 handwritten digits, 28×28 pixels in grey.

    Args:
        root: torchvision's folder of datasets.
        download: Whether to fetch what is not there.

    Raises:
        ValueError: In one line, if it is missing or damaged.
    """
    return _torchvision("mnist", "MNIST", Path(root), download)


def fashion_mnist(root: str | Path = "data", download: bool = True) -> Data:
    """Fashion-MNIST (Xiao et al. 2017): pictures of clothes in the format of MNIST.

    Args:
        root: torchvision's folder of datasets.
        download: Whether to fetch what is not there.

    Raises:
        ValueError: In one line, if it is missing or damaged.
    """
    return _torchvision("fashion_mnist", "FashionMNIST", Path(root), download)


def cifar10(root: str | Path = "data", download: bool = True) -> Data:
    """CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 pictures in colour, 32×32 pixels.

    Args:
        root: torchvision's folder of datasets.
        download: Whether to fetch what is not there.

    Raises:
        ValueError: In one line, if it is missing or damaged.
    """
    return _torchvision("cifar10", "CIFAR10", Path(root), download)


IMAGES: dict[str, Callable[..., Data]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
}


def load(
    name: str, root: str | Path = "data", download: bool = True, subset: int | None = None
) -> Data:
    """One of these sets of images by its name, on the CPU.

    Args:
        name: "digits", "mnist", "fashion_mnist" or "cifar10".
        root: torchvision's folder of datasets.
        download: Whether to fetch what is not there.
        subset: How many training examples to keep; None for all.

    Raises:
        ValueError: In one line, for an unknown name, a missing or damaged dataset, or a subset
            that the dataset cannot give.
    """
    if name not in IMAGES:
        raise ValueError(f"data={name}: unknown; choose one of {', '.join(IMAGES)}")
    data = digits() if name == "digits" else IMAGES[name](root, download)
    return data if subset is None else data.first(subset)


def bundled(*path: str) -> Path:
    """A file that comes with scikit-learn.

    Importing scikit-learn takes longer than training a run; its files are all that is needed.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent.joinpath("datasets", *path)


def stratified_split(
    labels: Tensor, fraction: float, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The indices of training and test examples, with the same fraction of every class for testing.

    Args:
        labels: The class of each example.
        fraction: The fraction of each class for testing.
        random: What shuffles the examples of each class.
    """
    classes = [torch.nonzero(labels == label).squeeze(1) for label in labels.unique()]
    mixed = [rows[torch.randperm(len(rows), generator=random)] for rows in classes]
    counts = [round(fraction * len(rows)) for rows in mixed]
    test = torch.cat([rows[:count] for rows, count in zip(mixed, counts, strict=True)])
    train = torch.cat([rows[count:] for rows, count in zip(mixed, counts, strict=True)])
    return train, test


def image_folder(
    root: str | Path,
    size: int | Sequence[int] = 32,
    channels: int = 3,
    test: float = 0.2,
    seed: int = 0,
) -> Data:
    """Pictures in one folder per class, as `torchvision.datasets.ImageFolder` reads them.

    Either `root/train/CLASS/*.png` and `root/test/CLASS/*.png` (or `val` in place of `test`), or
    `root/CLASS/*.png`, of which a part is for testing. Classes are numbered in the order of their
    names.

    Args:
        root: The folder.
        size: Height and width in pixels to which every picture is resized, or one number for both.
        channels: 3 for colour, 1 for grey.
        test: The fraction of every class for testing, if there is no folder for it.
        seed: Which pictures are for testing.

    Raises:
        ValueError: In one line, for a folder that is missing or has no pictures, or a picture that
            cannot be read.
    """
    folder = Path(root)
    if channels not in (1, 3):
        raise ValueError(f"data.channels={channels}: choose one of 1, 3")
    height, width = (size, size) if isinstance(size, int) else tuple(size)

    def read(part: Path) -> tuple[tuple[Tensor, Tensor], list[str]]:
        return _folder(part, (width, height), "RGB" if channels == 3 else "L")

    named = [name for name in ("test", "val") if (folder / name).is_dir()]
    if (folder / "train").is_dir() and named:
        train, classes = read(folder / "train")
        tested, others = read(folder / named[0])
        if classes != others:
            raise ValueError(
                f"data.root={root}: train has the classes {', '.join(classes)} and {named[0]} has "
                f"{', '.join(others)}; both need the same folders"
            )
        return Data(train, tested, classes=len(classes), name=folder.name)
    if not 0 < test < 1:
        raise ValueError(f"data.test={test}: must be a number between 0 and 1")
    (images, labels), classes = read(folder)
    kept, held = stratified_split(labels, test, generator(seed, 0, "test"))
    if not len(held):
        raise ValueError(f"data.test={test}: leaves no picture of {root} for testing")
    return Data(
        (images[kept], labels[kept]),
        (images[held], labels[held]),
        classes=len(classes),
        name=folder.name,
    )


def _folder(
    folder: Path, size: tuple[int, int], mode: str
) -> tuple[tuple[Tensor, Tensor], list[str]]:
    """All pictures of a folder `[n, channels, height, width]`, their classes, and the names."""
    from torchvision.datasets import ImageFolder

    from initstudy.tasks.arrays import materialize

    def pixels(path: str) -> Tensor:
        return read_picture(Path(path), size, mode)

    try:
        pictures = ImageFolder(str(folder), loader=pixels)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"data.root={folder}: {reason}; give a folder per class") from error
    part = materialize(pictures, folder.name)
    return (part.inputs, part.targets), pictures.classes  # type: ignore[return-value]


def read_picture(path: Path, size: tuple[int, int], mode: str) -> UInt8[Tensor, "c h w"]:
    """One picture, resized by PIL's antialiased bilinear filter.

    Args:
        path: The picture's file.
        size: Width and height in pixels.
        mode: "RGB" for colour, "L" for grey.

    Raises:
        ValueError: It cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            resized = picture.convert(mode).resize(size, Image.Resampling.BILINEAR)
            values = np.array(resized)
    except Exception as error:
        # PIL's readers raise anything on a damaged file.
        raise ValueError(
            f"data: {path}: cannot be read as a picture ({type(error).__name__})"
        ) from error
    return torch.from_numpy(values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0).copy())


def _torchvision(name: str, class_name: str, root: Path, download: bool) -> Data:
    import torchvision.datasets

    dataset: Any = getattr(torchvision.datasets, class_name)
    parts = []
    for train in (True, False):
        try:
            part = dataset(root, train=train, download=download)
        except RuntimeError as error:
            if "not found" in str(error):
                hint = "set data.download=true to fetch it" if not download else str(error)
            else:
                hint = str(error).splitlines()[0]
            raise ValueError(_unusable(name, root, hint)) from error
        except Exception as error:
            # Readers of torchvision assert, unpickle and index: a damaged file fails in any way.
            hint = f"cannot be read or fetched ({type(error).__name__}: {error})".splitlines()[0]
            raise ValueError(_unusable(name, root, hint)) from error
        parts.append((_images(part.data), torch.as_tensor(part.targets, dtype=torch.long)))
    _check(name, root, parts)
    return Data(*parts, classes=len(part.classes), name=name)


def _check(name: str, root: Path, parts: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Finds damage that a reader does not notice: labels out of range, or too few of them."""
    for images, labels in parts:
        if len(images) != len(labels) or len(labels) == 0 or not 0 <= int(labels.max()) < 10:
            raise ValueError(_unusable(name, root, "images and labels do not fit together"))


def _unusable(name: str, root: Path, hint: str) -> str:
    return (
        f"data.root={root}: {name} is missing or damaged: {hint}; "
        "point data.root at a folder that holds it, or use data=digits"
    )


def _images(data: object) -> UInt8[Tensor, "n c h w"]:
    images = torch.as_tensor(data)
    return images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
