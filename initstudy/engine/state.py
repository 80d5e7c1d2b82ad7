"""The complete state of a training between two steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class State:
    """Everything on which the remaining steps depend, apart from the arguments of the training.

    Attributes:
        step: The step to go on with.
        tensors: The tensors by name, on the training's device.
        facts: Everything that is not a tensor, as JSON can hold it.
    """

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
