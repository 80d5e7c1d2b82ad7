"""Recurrent networks that read an image row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from initstudy.models.activations import require_count


class Recurrent(nn.Module):
    """A recurrent layer over the rows of an image; its last output goes to a linear head.

    The modules are `recurrent` and `head`.

    Args:
        input_shape: (channels, height, width) of one image; a row of all channels is one step.
        classes: Number of outputs.
        width: Units of each layer.
        layers: Recurrent layers on top of one another.

    Raises:
        ValueError: For a size below its least.
    """

    layer: ClassVar[type[nn.LSTM | nn.GRU | nn.RNN]]

    def __init__(
        self, input_shape: Sequence[int], classes: int, width: int = 64, layers: int = 1
    ) -> None:
        super().__init__()
        require_count("width", width)
        require_count("layers", layers)
        channels, _, columns = input_shape
        self.recurrent = self.layer(channels * columns, width, layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits after the last row."""
        outputs, _ = self.recurrent(x.transpose(1, 2).flatten(2))
        return self.head(outputs[:, -1])


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000), row by row."""

    layer = nn.LSTM


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014), row by row."""

    layer = nn.GRU


class RNN(Recurrent):
    """A plain recurrent network with tanh (Elman 1990), row by row."""

    layer = nn.RNN
