"""A multilayer perceptron with skip connections."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.models.activations import activation as make_activation
from initstudy.models.activations import require_choice, require_count, require_flag


class Block(nn.Module):
    """A two-layer perceptron that is added to its input, normalized first if asked for.

    Args:
        width: Features of the input and the output.
        hidden: Units between the layers.
        activation: The activation function between them.
        layer_norm: Whether the input of the branch is normalized.
        multiplier: What the branch is multiplied by: "none", "scalar" or "channels" for a
            parameter of one entry or of one per feature, which is one at first.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: str,
        layer_norm: bool,
        multiplier: str = "none",
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if layer_norm else None
        self.mlp1 = nn.Linear(width, hidden)
        self.act = make_activation(activation)
        self.mlp2 = nn.Linear(hidden, width)
        size = {"none": None, "scalar": 1, "channels": width}[multiplier]
        self.alpha = None if size is None else nn.Parameter(torch.ones(size))

    def forward(self, x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """The input, with what the branch adds."""
        branch = x if self.norm is None else self.norm(x)
        branch = self.mlp2(self.act(self.mlp1(branch)))
        return x + (branch if self.alpha is None else self.alpha * branch)


class ResidualMLP(nn.Sequential):
    """A first layer, residual blocks, and a linear head: `flatten, stem, block1, …, norm, head`.

    Args:
        input_shape: The shape of one example; it is flattened.
        classes: The number of outputs.
        depth: The number of blocks.
        width: Features of the residual stream.
        hidden_ratio: Units within a block divided by the width.
        activation: The activation function within the blocks.
        layer_norm: Whether branches and head have a LayerNorm in front; without it `norm` is
            absent.
        multiplier: What every branch is multiplied by: "none", "scalar" or "channels" for a
            parameter of one entry or of one per feature, which is one at first.

    Raises:
        ValueError: For a size below its least, an unknown activation or multiplier.

    Example:
        >>> import torch
        >>> from initstudy.models import ResidualMLP
        >>> model = ResidualMLP((1, 8, 8), classes=10, depth=2, width=16)
        >>> model(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        depth: int = 4,
        width: int = 64,
        hidden_ratio: int = 2,
        activation: str = "relu",
        layer_norm: bool = False,
        multiplier: str = "none",
    ) -> None:
        require_choice("multiplier", multiplier, ("none", "scalar", "channels"))
        require_count("depth", depth, low=0)
        require_count("width", width)
        require_count("hidden_ratio", hidden_ratio)
        require_flag("layer_norm", layer_norm)
        modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        modules["stem"] = nn.Linear(math.prod(input_shape), width)
        for number in range(1, depth + 1):
            modules[f"block{number}"] = Block(
                width, hidden_ratio * width, activation, layer_norm, multiplier
            )
        if layer_norm:
            modules["norm"] = nn.LayerNorm(width)
        modules["head"] = nn.Linear(width, classes)
        super().__init__(modules)
