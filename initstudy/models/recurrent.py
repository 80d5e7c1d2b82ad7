"""Recurrent networks that read an image row by row, or pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from initstudy.models.activations import require_choice, require_count

SEQUENCES = ("rows", "pixels")


class Recurrent(nn.Module):
    """A recurrent layer over the parts of an image; its last output goes to a linear head.

    The modules are `recurrent` and `head`.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: Number of outputs.
        width: Units of each layer.
        layers: Recurrent layers on top of one another.
        sequence: "rows" reads a row of all channels at a step, "pixels" a pixel of all channels,
            row by row from the top left.

    Raises:
        ValueError: For a size below its least, or an unknown sequence.
    """

    layer: ClassVar[type[nn.LSTM | nn.GRU | nn.RNN]]

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        width: int = 64,
        layers: int = 1,
        sequence: str = "rows",
        **options: str,
    ) -> None:
        super().__init__()
        require_count("width", width)
        require_count("layers", layers)
        require_choice("sequence", sequence, SEQUENCES)
        channels, _, columns = input_shape
        self.by_pixel = sequence == "pixels"
        features = channels if self.by_pixel else channels * columns
        self.recurrent = self.layer(features, width, layers, batch_first=True, **options)
        self.head = nn.Linear(width, classes)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits after the last step."""
        steps = x.flatten(2).transpose(1, 2) if self.by_pixel else x.transpose(1, 2).flatten(2)
        outputs, _ = self.recurrent(steps)
        return self.head(outputs[:, -1])


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000)."""

    layer = nn.LSTM


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014)."""

    layer = nn.GRU


class RNN(Recurrent):
    """A plain recurrent network (Elman 1990).

    Args:
        input_shape: (channels, height, width) of one image.
        classes: Number of outputs.
        width: Units of each layer.
        layers: Recurrent layers on top of one another.
        sequence: "rows" or "pixels"; see `Recurrent`.
        nonlinearity: "tanh" or "relu".

    Raises:
        ValueError: For a size below its least, an unknown sequence or nonlinearity.
    """

    layer = nn.RNN

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        width: int = 64,
        layers: int = 1,
        sequence: str = "rows",
        nonlinearity: str = "tanh",
    ) -> None:
        require_choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(input_shape, classes, width, layers, sequence, nonlinearity=nonlinearity)
