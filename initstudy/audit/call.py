"""How a model is called: its inputs in any of the forms in which they are kept."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

# What numpy calls its arrays, so that numpy need not be imported to know one.
ARRAY = "__array_interface__"


@dataclass(frozen=True)
class Call:
    """A call of a model.

    Attributes:
        positional: The positional arguments.
        keywords: The keyword arguments.
    """

    positional: tuple[Any, ...]
    keywords: dict[str, Any]

    def __bool__(self) -> bool:
        return bool(self.positional or self.keywords)

    def tensors(self) -> list[Tensor]:
        """Every tensor among the arguments."""
        return [leaf for leaf in tree_leaves([self.positional, self.keywords]) if is_tensor(leaf)]

    def run(self, model: nn.Module) -> Any:
        """What the model returns."""
        return model(*self.positional, **self.keywords)

    def __str__(self) -> str:
        shapes = ", ".join(str(tuple(t.shape)) for t in self.tensors())
        return f"inputs of shape {shapes}" if shapes else "inputs without a tensor"


def is_tensor(value: object) -> bool:
    """Whether a value is a tensor."""
    return isinstance(value, Tensor)


def as_call(model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Call:
    """The call that was meant.

    A tuple that stands alone holds the positional arguments. A mapping that stands alone holds the
    keyword arguments, if the model takes arguments of these names. Arrays become tensors of the
    model's own type and device.

    Args:
        model: The model.
        inputs: The inputs as they were given.
        keywords: Further keyword arguments.
    """
    if len(inputs) == 1 and isinstance(inputs[0], tuple) and not hasattr(inputs[0], "_fields"):
        inputs = inputs[0]
    alone = inputs[0] if len(inputs) == 1 else None
    if isinstance(alone, Mapping) and _takes(model, alone):
        inputs, keywords = (), {**alone, **keywords}
    parameter = next(model.parameters(), None)

    def convert(value: Any) -> Any:
        if isinstance(value, Tensor) or not hasattr(value, ARRAY):
            return value
        tensor = torch.as_tensor(value)
        real = parameter is not None and parameter.is_floating_point()
        if parameter is None:
            return tensor
        wanted = parameter.dtype if real and tensor.is_floating_point() else tensor.dtype
        return tensor.to(parameter.device, wanted)

    return Call(tuple(tree_map(convert, list(inputs))), tree_map(convert, dict(keywords)))


def _takes(model: nn.Module, batch: Mapping[str, Any]) -> bool:
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return False
    if not all(isinstance(key, str) for key in batch):
        return False
    known = {p.name for p in parameters}
    return set(batch) <= known or any(p.kind is p.VAR_KEYWORD for p in parameters)
