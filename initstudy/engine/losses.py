"""Losses: what the members minimize, and the metrics that are reported beside it.

A loss gives one number per example; a member's loss is their mean over its batch. Engines need it
in two forms. Autograd differentiates `per_example`. Batched kernels pass `differentiate` what their
last layer has made, with the classes before the batch: sums over classes then run along a CPU's
registers, where sums over ten neighbouring numbers would take several times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from initstudy.columns import ACCURACY, LOSS, Metric


@dataclass(frozen=True)
class Losses:
    """The loss and the metrics of every member, on the device.

    Attributes:
        loss: Each member's mean loss over its batch.
        metrics: Each member's metrics over the same batch, by name.
    """

    loss: Float[Tensor, " members"]
    metrics: Mapping[str, Float[Tensor, " members"]]

    def columns(self, split: str) -> dict[str, Tensor]:
        """The values by column: `train/loss`, `train/accuracy` and so on.

        Args:
            split: The part of the data on which they were computed, "train" or "test".
        """
        values = {LOSS.name: self.loss, **self.metrics}
        return {f"{split}/{name}": value for name, value in values.items()}


@runtime_checkable
class Loss(Protocol):
    """A loss and its metrics.

    Targets are those of each member, or of each of as many groups of neighbouring members as divide
    the members evenly.
    """

    @property
    def name(self) -> str:
        """Its name in the configuration and in docs/engines.md."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that `Losses` hold beside it."""

    def per_example(
        self,
        outputs: Float[Tensor, "members batch *output"],
        targets: Shaped[Tensor, "groups batch *target"],
    ) -> Float[Tensor, "members batch"]:
        """The loss of each example, through which autograd differentiates; a target per member."""

    def measure(
        self,
        outputs: Float[Tensor, "members *output batch"],
        targets: Shaped[Tensor, "groups batch *target"],
    ) -> Losses:
        """The loss and the metrics of each member."""

    def differentiate(
        self,
        outputs: Float[Tensor, "members *output batch"],
        targets: Shaped[Tensor, "groups batch *target"],
    ) -> tuple[Losses, Float[Tensor, "members *output batch"]]:
        """As `measure`, and the gradient of each member's loss with respect to its outputs."""


@dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy between the softmax of the outputs and one class per example.

    The metric is the accuracy. The largest output is the prediction; of several equal ones the
    first, as `argmax` has it. An example with an output that is NaN or plus infinity counts as
    wrong.

    Targets are classes from 0 on, `[groups, batch]`: those of each member, or of each of as many
    groups of neighbouring members as divide the members evenly.
    """

    name: str = "cross_entropy"
    metrics: tuple[Metric, ...] = (ACCURACY,)

    def per_example(
        self, outputs: Float[Tensor, "members batch classes"], targets: Int[Tensor, "members batch"]
    ) -> Float[Tensor, "members batch"]:
        """See `Loss.per_example`."""
        losses = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
        return losses.view(targets.shape)

    def measure(
        self, outputs: Float[Tensor, "members classes batch"], targets: Int[Tensor, "groups batch"]
    ) -> Losses:
        """See `Loss.measure`."""
        return _means(_softmax(outputs, targets), outputs)

    def differentiate(
        self, outputs: Float[Tensor, "members classes batch"], targets: Int[Tensor, "groups batch"]
    ) -> tuple[Losses, Float[Tensor, "members classes batch"]]:
        """See `Loss.differentiate`."""
        batch = outputs.shape[2]
        softmax = _softmax(outputs, targets)
        # (softmax - one-hot target) / batch
        gradient = softmax.exponentials.div_(softmax.totals * batch)
        gradient.scatter_(2, softmax.targets, -1 / batch, reduce="add")
        return _means(softmax, outputs), gradient.view_as(outputs)


CROSS_ENTROPY = CrossEntropy()


@dataclass(frozen=True)
class _Softmax:
    """The terms of losses and gradients, by group and by member within its group.

    Attributes:
        targets: A view without copies.
        correct: Whether the target has the largest output.
        chosen: The target's output minus the largest output.
        exponentials: The exponentials of all outputs minus the largest output.
        totals: The sums of the exponentials over the classes.
    """

    targets: Int[Tensor, "groups neighbours 1 batch"]
    correct: Bool[Tensor, "groups neighbours 1 batch"]
    chosen: Float[Tensor, "groups neighbours 1 batch"]
    exponentials: Float[Tensor, "groups neighbours classes batch"]
    totals: Float[Tensor, "groups neighbours 1 batch"]


def _softmax(
    outputs: Float[Tensor, "members classes batch"], targets: Int[Tensor, "groups batch"]
) -> _Softmax:
    grouped = outputs.unflatten(0, (len(targets), -1))
    expanded = targets[:, None, None].expand(-1, grouped.shape[1], 1, -1)
    largest, predicted = grouped.max(2, keepdim=True)
    shifted = grouped - largest
    chosen = shifted.gather(2, expanded)
    exponentials = shifted.exp_()
    totals = exponentials.sum(2, keepdim=True)
    # Infinity minus infinity is NaN, and so is then the total, which compares as False.
    correct = (predicted == expanded) & (totals < torch.inf)
    return _Softmax(expanded, correct, chosen, exponentials, totals)


def _means(softmax: _Softmax, outputs: Float[Tensor, "members classes batch"]) -> Losses:
    members, _, batch = outputs.shape
    losses = softmax.totals.log() - softmax.chosen
    accuracy = softmax.correct.view(members, -1).sum(1) / batch
    return Losses(losses.view(members, -1).mean(1), {ACCURACY.name: accuracy})
