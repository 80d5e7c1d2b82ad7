"""A network of sines, for images and other signals as functions of coordinates."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.models.activations import require_count


class Sine(nn.Module):
    """The activation function sin(w0 · x).

    Args:
        w0: The factor of the argument, an angular frequency.
    """

    def __init__(self, w0: float = 30.0) -> None:
        super().__init__()
        self.w0 = w0

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The sine of each value times `w0`."""
        return torch.sin(self.w0 * x)

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"w0={self.w0:g}"


class Siren(nn.Sequential):
    """Hidden layers with sines, and a linear head: `flatten, fc1, act1, …, head`.

    The constructor initializes the weights as Sitzmann et al. 2020 (Implicit neural representations
    with periodic activation functions, section 3.2 and supplement 1.5) do: U(±1/fan_in) in the
    first layer, U(±√(6/fan_in)/w0) in the others. Biases stay as torch has them. So `init=own`
    starts from the paper's initialization.

    Args:
        input_shape: The shape of one example, such as (2,) for coordinates of an image.
        classes: The number of outputs, such as 3 for colours.
        depth: The number of hidden layers.
        width: Units of each.
        w0: The factor in the sines' argument.

    Raises:
        ValueError: For a size below its least, or a factor that is not above 0.

    Example:
        >>> model = Siren((2,), classes=3, depth=2, width=8)
        >>> bool(model.fc2.weight.abs().max() <= math.sqrt(6 / 8) / 30)
        True
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        depth: int = 3,
        width: int = 64,
        w0: float = 30.0,
    ) -> None:
        require_count("depth", depth)
        require_count("width", width)
        number = isinstance(w0, int | float) and not isinstance(w0, bool)
        if not number or not math.isfinite(w0) or w0 <= 0:
            raise ValueError(f"model.w0={w0}: must be a finite number above 0")
        modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        features = math.prod(input_shape)
        for layer in range(1, depth + 1):
            modules[f"fc{layer}"] = nn.Linear(features, width)
            modules[f"act{layer}"] = Sine(w0)
            features = width
        modules["head"] = nn.Linear(features, classes)
        super().__init__(modules)
        self._initialize(w0)

    def _initialize(self, w0: float) -> None:
        """Draws the weights as in the paper."""
        layers = [module for module in self if isinstance(module, nn.Linear)]
        for index, layer in enumerate(layers):
            fan_in = layer.in_features
            bound = 1 / fan_in if index == 0 else math.sqrt(6 / fan_in) / w0
            nn.init.uniform_(layer.weight, -bound, bound)
