"""A dataset as tensors on the device: uint8 in memory, normalized a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import groupby
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
# Values of batches that are gathered together: small images cost less than the calls to fetch them.
GATHERED = 2**18


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
        return raw.float().sub_(self.mean.view(-1, 1, 1)).div_(self.std.view(-1, 1, 1))

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

    Where members share batches, and neighbours in groups of equal size do, each batch comes once.

    Args:
        dataset: Where the examples come from.
        seeds: One a member; members with the same seed see the same batches.
        size: Examples a batch. The rest of an epoch that fills no batch is left out.
    """

    def __init__(self, dataset: Dataset, seeds: Sequence[int], size: int) -> None:
        self.dataset = dataset
        self.size = size
        self.per_epoch = len(dataset.train_y) // size
        self._seeds = list(seeds)
        self._members: list[int] = []
        self._epoch = -1
        self._shuffled: dict[int, Tensor] = {}
        self._gathered: range = range(0)

    def __call__(
        self, step: int, members: Sequence[int] | None = None
    ) -> tuple[Float[Tensor, "groups batch c h w"], Int[Tensor, "groups batch"]]:
        """The inputs and labels of one step, for all members or those with these numbers.

        One for each group of neighbours with the same seed, where all groups are of one size; or
        else one for each member.
        """
        epoch, index = divmod(step, self.per_epoch)
        chosen = list(range(len(self._seeds)) if members is None else members)
        if epoch != self._epoch:
            self._shuffled.clear()
        if epoch != self._epoch or chosen != self._members:
            self._members, self._epoch, self._gathered = chosen, epoch, range(0)
            self._order = self._orders(_groups([self._seeds[member] for member in chosen]))
        if index not in self._gathered:
            self._gather(index)
        place = index - self._gathered.start
        return self._x[place], self._y[place]

    def _gather(self, index: int) -> None:
        """Fetches this batch of the epoch, and the next ones where they are small."""
        data = self.dataset
        values = len(self._order) * self.size * data.train_x[0].numel()
        end = min(index + max(1, GATHERED // values), self.per_epoch)
        rows = self._order[:, index * self.size : end * self.size]
        rows = rows.unflatten(1, (-1, self.size)).transpose(0, 1)
        self._x, self._y = data.normalize(_take(data.train_x, rows)), _take(data.train_y, rows)
        self._gathered = range(index, end)

    def _orders(self, seeds: Sequence[int]) -> Int[Tensor, "groups n"]:
        count = len(self.dataset.train_y)
        for seed in set(seeds) - self._shuffled.keys():
            order = torch.randperm(count, generator=_generator(seed, self._epoch))
            self._shuffled[seed] = order.to(self.dataset.train_x.device)
        return torch.stack([self._shuffled[seed] for seed in seeds])


def batches_apart(seeds: Sequence[int]) -> int:
    """How many batches a step fetches for members of these seeds; fewer, where they share them."""
    return len(_groups(seeds))


def _take(values: Tensor, rows: Int[Tensor, "batches groups batch"]) -> Tensor:
    """`values[rows]`, several times as fast."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def _groups(seeds: Sequence[int]) -> list[int]:
    """One seed for each run of equal ones, where all such runs have one length."""
    runs = [(seed, len(list(same))) for seed, same in groupby(seeds)]
    return [seed for seed, _ in runs] if len({n for _, n in runs}) == 1 else list(seeds)


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
