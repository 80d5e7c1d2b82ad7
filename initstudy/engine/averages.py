"""The mean losses of the minibatches since the last row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from initstudy.columns import TRAIN
from initstudy.engine.losses import Losses
from initstudy.engine.stack import Tensors


class Averages:
    """Collects the losses of every step, on the device, and averages them for a row."""

    def __init__(self) -> None:
        self._columns: dict[str, list[torch.Tensor]] = {}

    def add(self, losses: Losses) -> None:
        """Takes over the losses of a step."""
        for name, values in losses.columns(TRAIN).items():
            self._columns.setdefault(name, []).append(values)

    def take(self) -> Tensors:
        """The means by column since the last call."""
        means = {name: torch.stack(values).mean(0) for name, values in self._columns.items()}
        self._columns = {}
        return means

    def keep(self, members: Sequence[int]) -> None:
        """Goes on with these members alone."""
        for name, values in self._columns.items():
            self._columns[name] = [each[members] for each in values]

    def state(self) -> Tensors:
        """What was collected, `[steps, members]` by name."""
        return {f"average/{name}": torch.stack(v) for name, v in self._columns.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes over what an earlier training had collected."""
        prefix = "average/"
        self._columns = {
            name.removeprefix(prefix): list(values.unbind())
            for name, values in tensors.items()
            if name.startswith(prefix)
        }
