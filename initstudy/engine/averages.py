"""The mean losses of the minibatches since the last row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from initstudy.columns import TRAIN
from initstudy.engine.evaluation import columns
from initstudy.engine.losses import Loss, Losses
from initstudy.engine.stack import Tensors


class Averages:
    """Collects the losses of every step, on the device, and averages them for a row.

    Args:
        loss: What the losses are of.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self._means: dict[str, list[torch.Tensor]] = {}

    def add(self, losses: Losses) -> None:
        """Takes over the losses of a step."""
        for name, values in losses.means().items():
            self._means.setdefault(name, []).append(values)

    def take(self) -> Tensors:
        """The loss and the metrics since the last call, by column; empty if there was no step."""
        means = {name: torch.stack(values).mean(0) for name, values in self._means.items()}
        self._means = {}
        return columns(self.loss, means, TRAIN) if means else {}

    def keep(self, members: Sequence[int]) -> None:
        """Goes on with these members alone."""
        for name, values in self._means.items():
            self._means[name] = [each[members] for each in values]

    def state(self) -> Tensors:
        """What was collected, `[steps, members]` by name."""
        return {f"average/{name}": torch.stack(v) for name, v in self._means.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes over what an earlier training had collected."""
        prefix = "average/"
        self._means = {
            name.removeprefix(prefix): list(values.unbind())
            for name, values in tensors.items()
            if name.startswith(prefix)
        }
