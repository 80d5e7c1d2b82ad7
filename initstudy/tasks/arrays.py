"""What users hand over as examples, turned into tensors: arrays, tensors and map-style datasets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from initstudy.runtime.memory import available
from initstudy.trees import TensorTree, count, leaves, map_tensors

log = logging.getLogger(__name__)

# The names under which rows that are mappings hold their target, as in `datasets` and elsewhere.
TARGET_NAMES = ("labels", "label", "targets", "target")
# Of the free memory, what examples may take: copies are made while they are collected.
SHARE_OF_MEMORY = 0.5
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True, eq=False)
class Part:
    """Examples of one part of the data.

    Attributes:
        inputs: What the model takes; every tensor has the examples along its first axis.
        targets: What the loss compares the outputs with, or None if that is the inputs themselves.
    """

    inputs: TensorTree
    targets: TensorTree | None

    def __len__(self) -> int:
        """The number of examples."""
        return count(self.inputs)

    @property
    def x(self) -> Tensor:
        """The inputs, if they are one tensor.

        Raises:
            ValueError: The model takes several.
        """
        return _single(self.inputs, "inputs")

    @property
    def y(self) -> Tensor:
        """The targets, if they are one tensor.

        Raises:
            ValueError: There are several, or none.
        """
        return _single(self.targets, "targets")

    def tensors(self) -> Iterator[Tensor]:
        """The tensors of inputs and targets, in their order."""
        yield from leaves(self.inputs)
        if self.targets is not None:
            yield from leaves(self.targets)

    def at(self, indices: Tensor | slice) -> Part:
        """The examples with these indices, in this order."""
        return self.map(lambda tensor: tensor[indices])

    def map(self, function: Callable[[Tensor], Tensor]) -> Part:
        """The part with a function applied to every tensor, in the order of `tensors`."""
        inputs = map_tensors(function, self.inputs)
        return Part(inputs, None if self.targets is None else map_tensors(function, self.targets))


def _single(tensors: TensorTree | None, what: str) -> Tensor:
    if not isinstance(tensors, Tensor):
        raise ValueError(f"data: the {what} are {type(tensors).__name__}, not one tensor")
    return tensors


def as_part(examples: Any, name: str) -> Part:
    """Examples in any of the accepted forms as tensors in memory.

    Args:
        examples: A pair `(inputs, targets)` of tensors, arrays, or tuples or dicts of them, where
            targets may be None; or inputs alone; or a map-style dataset, whose rows are a pair, a
            mapping with a key "labels", "label", "targets" or "target", or inputs alone.
        name: "train", "test" or "validation", for messages.

    Raises:
        ValueError: In one line, for examples of another form, of unequal length, or with values
            that are not finite.
    """
    if isinstance(examples, Part):
        part = examples
    elif isinstance(examples, tuple | list) and len(examples) == 2:
        inputs, targets = examples
        part = Part(_tensors(inputs, name), None if targets is None else _tensors(targets, name))
    elif isinstance(examples, Tensor | np.ndarray | Mapping):
        part = Part(_tensors(examples, name), None)
    elif hasattr(examples, "__getitem__") and hasattr(examples, "__len__"):
        part = materialize(examples, name)
    else:
        hint = "; a dataset needs __len__ and __getitem__" if _iterates(examples) else ""
        raise ValueError(
            f"data: the {name} part is {_article(examples)}; give (inputs, targets) as tensors or "
            f"arrays, or a map-style dataset{hint}"
        )
    return _checked(part, name)


def materialize(dataset: Any, name: str) -> Part:
    """Reads a map-style dataset into memory, once, and shows how far it has come.

    Args:
        dataset: Has `__len__` and `__getitem__`. The first row is read first, so that a dataset
            that does not fit the memory is refused before the others are.
        name: "train", "test" or "validation".

    Raises:
        ValueError: In one line, for a dataset that is empty or too large, or whose rows differ in
            their form or shape.
    """
    size = len(dataset)
    if size == 0:
        raise ValueError(f"data: the {name} part is empty")
    first = _row(dataset[0], name)
    _fits(first, size, name)
    tensors = [torch.empty((size, *value.shape), dtype=value.dtype) for value in first.tensors()]
    for index in _shown(range(size), f"reading the {name} data"):
        row = first if index == 0 else _row(dataset[index], name)
        values = list(row.tensors())
        shapes = [tuple(value.shape) for value in values]
        if shapes != [tuple(tensor.shape[1:]) for tensor in tensors]:
            raise ValueError(
                f"data: row {index} of the {name} part has the shapes {shapes} and row 0 "
                f"{[tuple(t.shape[1:]) for t in tensors]}; give all rows one shape, as by a "
                "transform that resizes or pads"
            )
        for tensor, value in zip(tensors, values, strict=True):
            tensor[index] = value
    following = iter(tensors)
    return first.map(lambda _: next(following))


def _row(row: Any, name: str) -> Part:
    if isinstance(row, Mapping):
        found = [key for key in TARGET_NAMES if key in row]
        target = row[found[0]] if found else None
        row = ({key: value for key, value in row.items() if key not in found[:1]}, target)
    if not (isinstance(row, tuple | list) and len(row) == 2):
        row = (row, None)
    inputs, target = row
    return Part(_tensors(inputs, name), None if target is None else _tensors(target, name))


def _tensors(values: Any, name: str) -> TensorTree:
    """Arrays, numbers and images as tensors, whatever stands around them."""
    if isinstance(values, Mapping):
        return {str(key): _tensor(value, name) for key, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_tensor(value, name) for value in values)
    return _tensor(values, name)


def _tensor(values: Any, name: str) -> Tensor:
    """One tensor. NumPy's float64 becomes torch's default type; a tensor stays as it is."""
    if isinstance(values, Tensor):
        return values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        what = f"{_article(values)} of type {array.dtype}" if array.ndim else _article(values)
        hint = ""
        if hasattr(values, "mode"):
            hint = "; give the dataset a transform, such as torchvision's PILToTensor"
        raise ValueError(f"data: the {name} part holds {what}; it must hold numbers{hint}")
    if hasattr(values, "mode") and hasattr(values, "size"):
        # A picture of PIL has its channels last; torch's layers expect them first.
        array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    if array.dtype == np.float64:
        return torch.from_numpy(np.array(array)).to(torch.get_default_dtype())
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array))


def _checked(part: Part, name: str) -> Part:
    for tensor in part.tensors():
        if tensor.dim() == 0:
            raise ValueError(
                f"data: the {name} part holds a single number; examples stand along the first axis"
            )
    lengths = [len(tensor) for tensor in part.tensors()]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"data: the {name} part has tensors of {', '.join(map(str, lengths))} examples; "
            "inputs and targets must have equally many"
        )
    if lengths[0] == 0:
        raise ValueError(f"data: the {name} part is empty")
    for what, tensors in (("inputs", part.inputs), ("targets", part.targets)):
        for tensor in leaves(tensors) if tensors is not None else ():
            if tensor.is_floating_point() and (bad := int((~torch.isfinite(tensor)).sum())):
                raise ValueError(
                    f"data: the {name} {what} hold {bad} values that are NaN or infinite; "
                    "replace them or leave those examples out"
                )
    return part


def _fits(first: Part, size: int, name: str) -> None:
    needed = size * sum(value.numel() * value.element_size() for value in first.tensors())
    free = available()
    if needed > SHARE_OF_MEMORY * free:
        raise ValueError(
            f"data: the {size:,} examples of the {name} part take {_bytes(needed)} and "
            f"{_bytes(free)} of memory are free; give fewer (torch.utils.data.Subset) or smaller "
            "ones"
        )


def _shown(indices: Sequence[int], what: str) -> Iterable[int]:
    """The indices, with a bar in a terminal or a notebook and a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if len(indices) > 1 and (console.is_terminal or console.is_jupyter):
        yield from track(indices, what, console=console, transient=True)
        return
    told = time.monotonic()
    for index in indices:
        yield index
        if time.monotonic() - told > SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            log.info("%s: %s of %s", what, f"{index + 1:,}", f"{len(indices):,}")


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def _iterates(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, str | bytes)


def _article(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
