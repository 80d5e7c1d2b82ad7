"""A dataset as tensors on the device: uint8 in memory, normalized a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
NAMES = ("digits", *TORCHVISION)
DIGITS_TEST_FRACTION = 0.2
DIGITS_SPLIT_SEED = 0


@dataclass(frozen=True)
class Dataset:
    """Images and labels, split for training and testing, on one device.

    Attributes:
        train_x, test_x: Raw images `[n, channels, height, width]`.
        train_y, test_y: Labels `[n]` from 0 to `classes - 1`.
        classes: Number of classes.
        mean, std: Per channel, over the training images, in raw units.
    """

    train_x: UInt8[Tensor, "n c h w"]
    train_y: Int[Tensor, " n"]
    test_x: UInt8[Tensor, "m c h w"]
    test_y: Int[Tensor, " m"]
    classes: int
    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image: (channels, height, width)."""
        return tuple(self.train_x.shape[1:])

    def normalize(self, raw: UInt8[Tensor, "... c h w"]) -> Float[Tensor, "... c h w"]:
        """Raw images as float32; over the training set a channel has mean 0 and variance 1."""
        return (raw.float() - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def to(self, device: torch.device | str) -> Dataset:
        """The same data on another device."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def test_chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The test set in chunks of at most `size`: normalized inputs and labels."""
        for x, y in zip(self.test_x.split(size), self.test_y.split(size), strict=True):
            yield self.normalize(x), y


class Batches:
    """The minibatches of each member, by step.

    They are shuffled anew each epoch, in an order that depends on the member's seed alone.

    Args:
        dataset: Where the examples come from.
        seeds: One a member; members with the same seed see the same batches.
        size: Examples a batch. The rest of an epoch that fills no batch is left out.
    """

    def __init__(self, dataset: Dataset, seeds: Sequence[int], size: int) -> None:
        self.dataset = dataset
        self.size = size
        self.per_epoch = len(dataset.train_y) // size
        self._distinct = sorted(set(seeds))
        self._members = torch.tensor(
            [self._distinct.index(seed) for seed in seeds], device=dataset.train_x.device
        )
        self._epoch = -1

    def __call__(
        self, step: int, members: Int[Tensor, " some"] | None = None
    ) -> tuple[Float[Tensor, "members batch c h w"], Int[Tensor, "members batch"]]:
        """The inputs and labels of one step, for all members or those with these numbers."""
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        rows = self._order[:, index * self.size : (index + 1) * self.size]
        x = self.dataset.normalize(self.dataset.train_x[rows])
        y = self.dataset.train_y[rows]
        chosen = self._members if members is None else self._members[members]
        return x[chosen], y[chosen]

    def _shuffle(self, epoch: int) -> None:
        count = len(self.dataset.train_y)
        orders = [
            torch.randperm(count, generator=_generator(seed, epoch)) for seed in self._distinct
        ]
        self._order = torch.stack(orders).to(self.dataset.train_x.device)
        self._epoch = epoch


def load(
    name: str, root: str | Path = "data", download: bool = True, subset: int | None = None
) -> Dataset:
    """A dataset by name, on the CPU.

    Args:
        name: "digits" (scikit-learn's bundled 1,797 images of 8×8, a fixed stratified split), or
            torchvision's "mnist", "fashion_mnist" or "cifar10".
        root: torchvision's folder of datasets.
        download: Whether to fetch what is not there.
        subset: Keep only so many training images, the first ones of a fixed shuffle.

    Raises:
        ValueError: In one line, for an unknown name, a missing or damaged dataset, or a subset
            that the dataset cannot give.
    """
    if name not in NAMES:
        raise ValueError(f"data.name={name}: unknown; choose one of {', '.join(NAMES)}")
    images = _digits() if name == "digits" else _torchvision(name, Path(root), download)
    train_x, train_y, test_x, test_y, classes = images
    if subset is not None:
        if not 0 < subset <= len(train_y):
            raise ValueError(f"data.subset={subset}: {name} has {len(train_y)} training images")
        keep = torch.randperm(len(train_y), generator=_generator(0, 0))[:subset]
        train_x, train_y = train_x[keep], train_y[keep]
    std, mean = torch.std_mean(train_x.float(), dim=(0, 2, 3), correction=0)
    return Dataset(train_x, train_y, test_x, test_y, classes, mean, std.clamp_min(1e-8))


def _digits() -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    # Importing scikit-learn takes longer than training a run; its file is all that is needed.
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.uint8))
    x, y = rows[:, :-1].reshape(-1, 1, 8, 8), rows[:, -1].long()
    generator = _generator(DIGITS_SPLIT_SEED, 0)
    classes = [torch.nonzero(y == label).squeeze(1) for label in range(10)]
    mixed = [rows[torch.randperm(len(rows), generator=generator)] for rows in classes]
    counts = [round(DIGITS_TEST_FRACTION * len(rows)) for rows in mixed]
    test = torch.cat([rows[:count] for rows, count in zip(mixed, counts, strict=True)])
    train = torch.cat([rows[count:] for rows, count in zip(mixed, counts, strict=True)])
    return x[train], y[train], x[test], y[test], 10


def _torchvision(
    name: str, root: Path, download: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, TORCHVISION[name])
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
    (train_x, train_y), (test_x, test_y) = parts
    _check(name, root, parts)
    return train_x, train_y, test_x, test_y, len(part.classes)


def _check(name: str, root: Path, parts: list[tuple[Tensor, Tensor]]) -> None:
    """Damage that a reader does not notice: labels out of range, or fewer labels than images."""
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


def _generator(seed: int, epoch: int) -> torch.Generator:
    """A generator for one epoch's order, independent of those that draw parameters."""
    digest = hashlib.blake2b(f"{seed}/data/{epoch}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
