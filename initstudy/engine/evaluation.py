"""The losses of all members over a data set."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from initstudy.engine.contract import Batch, Engine
from initstudy.engine.stack import Tensors


@torch.no_grad()
def evaluate(engine: Engine, chunks: Iterable[tuple[Tensor, Tensor]], split: str) -> Tensors:
    """Each member's mean loss and metrics over a whole data set, in evaluation mode.

    Args:
        engine: The members.
        chunks: The data in chunks: inputs `[n, ...]` and targets `[n, ...]`.
        split: The columns' first part, such as "test".

    Returns:
        Float64 `[members]` by column.
    """
    sums: Tensors = {}
    count = 0
    for inputs, targets in chunks:
        losses = engine.scores(Batch(inputs, targets))
        for name, values in losses.columns(split).items():
            weighted = values.double() * len(targets)
            sums[name] = sums[name] + weighted if name in sums else weighted
        count += len(targets)
    return {name: total / count for name, total in sums.items()}
