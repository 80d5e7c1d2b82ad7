"""Tensors that are computed from other parameters, such as those of a weight norm."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

ORIGINAL = re.compile(r"original\d*$")
Named = tuple[str, nn.Module, str, Tensor]


def is_parametrization(module: nn.Module) -> bool:
    """Whether a module holds what a parametrized tensor is made of."""
    return isinstance(module, ParametrizationList)


def parametrized(model: nn.Module) -> Iterator[Named]:
    """Every parametrized tensor: its name, the module that has it, its name there, and itself."""
    for owner, module in model.named_modules():
        for key in getattr(module, "parametrizations", {}):
            with torch.no_grad():
                yield f"{owner}.{key}".removeprefix("."), module, key, getattr(module, key)


@torch.no_grad()
def originals(module: nn.Module, key: str, name: str, value: Tensor) -> dict[str, Tensor]:
    """The parameters that make a parametrized tensor take a value, by their names in the model.

    Args:
        module: That has the tensor.
        key: Its name there.
        name: Its name in the model.
        value: That it is to take.

    Raises:
        ValueError: A parametrization has no right inverse, refuses the value, or does not give it
            back.
    """
    kept: Any = module.parametrizations[key]  # type: ignore[index]
    kinds = ", ".join(type(part).__name__ for part in kept)
    trial, check = copy.deepcopy(kept), copy.deepcopy(kept)
    try:
        trial.right_inverse(value.to(next(trial.parameters()).device))
    except (NotImplementedError, RuntimeError, ValueError) as error:
        reason = f"parametrized by {kinds}: {error}".splitlines()[0]
        raise ValueError(f"init cannot fill {name}, which is {reason}") from error
    found = {part: p.detach() for part, p in trial.named_parameters() if ORIGINAL.match(part)}
    for part, original in found.items():
        check.get_parameter(part).copy_(original)
    # Some keep a part of the value in a buffer, some change it: a spectral norm divides by it.
    if not torch.allclose(check().to(value.device), value, rtol=1e-4, atol=1e-6):
        raise ValueError(
            f"init cannot fill {name}, which is parametrized by {kinds}: it does not give back the "
            "value that it is set to"
        )
    prefix = f"{name[: len(name) - len(key)]}parametrizations.{key}."
    return {prefix + part: original for part, original in found.items()}
