"""Inputs and targets: one tensor, or a tuple or dict of tensors for models that take several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# What a model takes or a loss compares. A tuple is passed on as positional arguments, a dict as
# keyword arguments.
TensorTree = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


def map_tensors(function: Callable[..., Any], tensors: Any, *others: Any) -> Any:
    """Applies a function to every tensor, and keeps the structure around them.

    Args:
        function: It is given one tensor, and what stands in the same position of each of `others`.
        tensors: A tensor, or a tuple or dict of tensors.
        others: Structures of the same form.

    Example:
        >>> import torch
        >>> from initstudy.trees import map_tensors
        >>> map_tensors(len, (torch.zeros(3), torch.zeros(5)))
        (3, 5)
    """
    if isinstance(tensors, Mapping):
        return {
            name: map_tensors(function, value, *(other[name] for other in others))
            for name, value in tensors.items()
        }
    if isinstance(tensors, tuple):
        return tuple(
            map_tensors(function, *values) for values in zip(tensors, *others, strict=True)
        )
    return function(tensors, *others)


def leaves(tensors: Any) -> Iterator[Any]:
    """The tensors themselves, in their order."""
    if isinstance(tensors, Mapping):
        for value in tensors.values():
            yield from leaves(value)
    elif isinstance(tensors, tuple):
        for value in tensors:
            yield from leaves(value)
    else:
        yield tensors


def at(tensors: TensorTree, index: int | slice) -> Any:
    """What stands at an index of every tensor's first axis."""
    return map_tensors(lambda tensor: tensor[index], tensors)


def stacked(trees: Sequence[Any]) -> Any:
    """Structures of one form as one whose tensors have them along a new first axis."""
    first, *others = trees
    return map_tensors(lambda *tensors: torch.stack(tensors), first, *others)


def count(tensors: TensorTree) -> int:
    """How many examples there are: the length of the first axis."""
    return len(next(leaves(tensors)))


def arguments(inputs: TensorTree) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """A model's inputs as positional and keyword arguments."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def call(model: nn.Module, inputs: TensorTree) -> Any:
    """The output of a model on inputs of any form."""
    positional, keywords = arguments(inputs)
    return model(*positional, **keywords)
