"""A multilayer perceptron."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from initstudy.models.activations import activation as make_activation
from initstudy.models.activations import require_count, require_flag


class MLP(nn.Sequential):
    """Hidden layers of one width and a linear head: `fc1, act1, fc2, act2, …, head`.

    Args:
        input_shape: Shape of one example; it is flattened.
        classes: Number of outputs.
        depth: Number of hidden layers.
        width: Units of each.
        activation: relu, tanh, sigmoid, gelu, selu or linear.
        layer_norm: Whether a LayerNorm stands before each activation.

    Raises:
        ValueError: For a size below its least, or an unknown activation.

    Example:
        >>> import torch
        >>> from initstudy.models import MLP
        >>> model = MLP((1, 8, 8), classes=10, depth=3, width=32, activation="tanh")
        >>> model(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        depth: int = 3,
        width: int = 128,
        activation: str = "relu",
        layer_norm: bool = False,
    ) -> None:
        require_count("depth", depth, low=0)
        require_count("width", width)
        require_flag("layer_norm", layer_norm)
        modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        features = math.prod(input_shape)
        for number in range(1, depth + 1):
            modules[f"fc{number}"] = nn.Linear(features, width)
            if layer_norm:
                modules[f"norm{number}"] = nn.LayerNorm(width)
            modules[f"act{number}"] = make_activation(activation)
            features = width
        modules["head"] = nn.Linear(features, classes)
        super().__init__(modules)
