"""Sequence tasks that are made from a seed: adding, copying and parity."""

from __future__ import annotations

import torch
from torch import Tensor

from initstudy.tasks.arrays import Part
from initstudy.tasks.batches import generator
from initstudy.tasks.data import Data

# The alphabet of the copying task, as in the papers.
SYMBOLS = 8


def adding(length: int = 50, train: int = 10_000, test: int = 1_000, seed: int = 0) -> Data:
    """The adding problem (Hochreiter & Schmidhuber 1997, in the form of Le et al. 2015).

    A sequence has two numbers per step: a value, uniform between 0 and 1, and a mark, which is 1 at
    one step of the first half and one of the second half, and 0 elsewhere. The target is the sum of
    the two marked values. Who always answers 1 has a squared error of 1/6, about 0.167.

    Args:
        length: Steps per sequence, at least 2.
        train: The number of sequences for training.
        test: The number of sequences for testing.
        seed: Which sequences.

    Raises:
        ValueError: For a size below its least.

    Example:
        >>> data = adding(length=5, train=2, test=1)
        >>> x, y = data.train.inputs, data.train.targets
        >>> torch.equal(y, (x[..., 0] * x[..., 1]).sum(1))
        True
    """
    _at_least(length=(length, 2), train=(train, 1), test=(test, 1))

    def part(count: int, name: str) -> Part:
        random = generator(seed, 0, f"adding/{name}")
        values = torch.rand(count, length, generator=random)
        half = length // 2
        first = torch.randint(half, (count, 1), generator=random)
        second = half + torch.randint(length - half, (count, 1), generator=random)
        marks = torch.zeros(count, length).scatter_(1, torch.cat([first, second], 1), 1.0)
        return Part(torch.stack([values, marks], 2), (values * marks).sum(1))

    return Data(part(train, "train"), part(test, "test"), name="the adding problem")


def copy(
    blank: int = 50, symbols: int = 10, train: int = 10_000, test: int = 1_000, seed: int = 0
) -> Data:
    """The copying task (Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016).

    A sequence begins with symbols out of eight (tokens 0 to 7), then come blanks (8), then a mark
    (9) with blanks behind it. The target is blank until the mark has come, and then the symbols in
    their order. Who has no memory has a loss of `symbols * ln(8) / (blank + 2 * symbols)` nats per
    token.

    Args:
        blank: Steps between the symbols and their copy.
        symbols: How many symbols are to be copied.
        train: The number of sequences for training.
        test: The number of sequences for testing.
        seed: Which sequences.

    Raises:
        ValueError: For a size below its least.

    Example:
        >>> data = copy(blank=3, symbols=2, train=1, test=1)
        >>> x, y = data.train.inputs[0], data.train.targets[0]
        >>> x[2:].tolist(), y[:5].tolist(), torch.equal(x[:2], y[5:])
        ([8, 8, 9, 8, 8], [8, 8, 8, 8, 8], True)
    """
    _at_least(blank=(blank, 1), symbols=(symbols, 1), train=(train, 1), test=(test, 1))

    def part(count: int, name: str) -> Part:
        random = generator(seed, 0, f"copy/{name}")
        drawn = torch.randint(SYMBOLS, (count, symbols), generator=random)
        blanks = torch.full((count, blank + symbols), SYMBOLS)
        asked = blanks.clone()
        asked[:, blank - 1] = SYMBOLS + 1
        return Part(torch.cat([drawn, asked], 1), torch.cat([blanks, drawn], 1))

    return Data(
        part(train, "train"), part(test, "test"), classes=SYMBOLS + 2, name="the copying task"
    )


def parity(
    bits: int = 20, relevant: int = 3, train: int = 10_000, test: int = 1_000, seed: int = 0
) -> Data:
    """The parity of a few out of many bits (as in Barak et al. 2022).

    Inputs are -1 or 1 with equal probability; the class is whether an odd number of the first
    `relevant` ones is -1. No single bit says anything of the class.

    Args:
        bits: Inputs per example.
        relevant: How many of them the class depends on.
        train: The number of examples for training.
        test: The number of examples for testing.
        seed: Which examples.

    Raises:
        ValueError: For a size below its least, or more relevant bits than there are.

    Example:
        >>> data = parity(bits=4, relevant=2, train=50, test=1)
        >>> odd = data.train.inputs[:, :2].prod(1) < 0
        >>> torch.equal(data.train.targets, odd.long())
        True
    """
    _at_least(bits=(bits, 1), relevant=(relevant, 1), train=(train, 1), test=(test, 1))
    if relevant > bits:
        raise ValueError(f"data.relevant={relevant}: must be at most data.bits={bits}")

    def part(count: int, name: str) -> tuple[Tensor, Tensor]:
        drawn = torch.randint(2, (count, bits), generator=generator(seed, 0, f"parity/{name}"))
        return 1.0 - 2.0 * drawn, drawn[:, :relevant].sum(1) % 2

    return Data(part(train, "train"), part(test, "test"), classes=2, name="parity")


def _at_least(**sizes: tuple[int, int]) -> None:
    for key, (value, low) in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"data.{key}={value}: must be a whole number of at least {low}")
