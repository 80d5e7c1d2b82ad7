"""Recurrent networks that read a sequence, or an image row by row or pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from initstudy.models.activations import require_choice, require_count

SEQUENCES = ("rows", "pixels")


class Recurrent(nn.Module):
    """A recurrent layer over a sequence or the parts of an image; a head takes its last output.

    The modules are `recurrent` and `head`.

    Args:
        input_shape: (steps, features) of one sequence, or (channels, height, width) of one image.
        classes: Number of outputs.
        width: Units of each layer.
        layers: Recurrent layers on top of one another.
        sequence: How to read an image: "rows" reads a row of all channels at a step, "pixels" a
            pixel of all channels, row by row from the top left.

    Raises:
        ValueError: For a size below its least, an unknown sequence, or inputs of another shape.
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
        if len(input_shape) not in (2, 3):
            raise ValueError(
                "model: recurrent networks take sequences (steps, features) and images (channels, "
                f"height, width); the data have inputs of shape {tuple(input_shape)}"
            )
        self.by_pixel = sequence == "pixels"
        first, last = input_shape[0], input_shape[-1]
        features = last if len(input_shape) == 2 else first if self.by_pixel else first * last
        self.recurrent = self.layer(features, width, layers, batch_first=True, **options)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        """What the head makes of the output of the last step.

        Args:
            x: Sequences `[batch, steps, features]` or images `[batch, channels, height, width]`.
        """
        outputs, _ = self.recurrent(x if x.dim() == 3 else self._steps(x))
        return self.head(outputs[:, -1])

    def _steps(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch steps features"]:
        if self.by_pixel:
            return images.flatten(2).transpose(1, 2)
        return images.transpose(1, 2).flatten(2)


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    Example:
        >>> import torch
        >>> from initstudy.models import LSTM
        >>> model = LSTM((1, 8, 8), classes=10, width=16)
        >>> model(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
    """

    layer = nn.LSTM


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014).

    Example:
        >>> import torch
        >>> from initstudy.models import GRU
        >>> model = GRU((1, 8, 8), classes=10, width=16)
        >>> model(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
    """

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

    Example:
        >>> import torch
        >>> from initstudy.models import RNN
        >>> model = RNN((1, 8, 8), classes=10, width=16)
        >>> model(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
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
