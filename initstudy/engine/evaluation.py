"""The losses of all members over a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from initstudy.engine.contract import Batch, Engine
from initstudy.engine.losses import Loss
from initstudy.engine.stack import Tensors
from initstudy.trees import TensorTree, count


@torch.no_grad()
def evaluate(
    engine: Engine, chunks: Iterable[tuple[TensorTree, TensorTree]], split: str
) -> Tensors:
    """Each member's mean loss and metrics over a whole data set, in evaluation mode.

    Args:
        engine: The members.
        chunks: The data in chunks: inputs `[n, ...]` and targets `[n, ...]`.
        split: The columns' first part, such as "test".

    Returns:
        Float64 `[members]` by column.
    """
    sums: Tensors = {}
    examples = 0
    for inputs, targets in chunks:
        size = count(targets)
        for name, values in engine.scores(Batch(inputs, targets)).means().items():
            weighted = values.double() * size
            sums[name] = sums[name] + weighted if name in sums else weighted
        examples += size
    means = {name: total / examples for name, total in sums.items()}
    return columns(engine.loss, means, split)


def columns(loss: Loss, means: Mapping[str, Tensor], split: str) -> Tensors:
    """The loss and the metrics by column: `train/loss`, `train/accuracy` and so on.

    Args:
        loss: The loss, which makes the metrics.
        means: Means over examples, as `Losses.means` gives them.
        split: The part of the data on which they were computed, such as "train".
    """
    return {f"{split}/{name}": value for name, value in loss.values(means).items()}
