"""Recurrent networks that read an image row by row."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from initstudy.models.activations import require_count

CELLS: dict[str, type[nn.LSTM | nn.GRU | nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Recurrent(nn.Module):
    """A recurrent layer over the rows of an image; its last output goes to a linear head.

    The modules are `recurrent` and `head`.

    Args:
        input_shape: (channels, height, width) of one image; a row of all channels is one step.
        classes: Number of outputs.
        cell: lstm, gru, or rnn (tanh).
        width: Units of each layer.
        layers: Recurrent layers on top of one another.

    Raises:
        ValueError: For a size below its least, or an unknown cell.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        cell: str = "lstm",
        width: int = 64,
        layers: int = 1,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"model.cell={cell}: choose one of {', '.join(CELLS)}")
        require_count("width", width)
        require_count("layers", layers)
        channels, _, columns = input_shape
        self.recurrent = CELLS[cell](channels * columns, width, layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits."""
        outputs, _ = self.recurrent(x.transpose(1, 2).flatten(2))
        return self.head(outputs[:, -1])
