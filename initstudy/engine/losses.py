"""Losses: what the members minimize, and the metrics that are reported beside it.

A loss gives one number per example; a member's loss is their mean over its batch. Autograd
differentiates the `per_example` of any `Loss`. Batched kernels need a `KernelLoss`: they pass
`differentiate` what their last layer has made, with the classes before the batch. Sums over classes
then run along a CPU's registers, where sums over ten neighbouring numbers would take several times
as long.

Many metrics are no means over examples, such as R² and the perplexity. What engines return of a
metric are therefore means from which `Loss.values` makes it, once they are averaged over the
batches of a row or the chunks of an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from initstudy.columns import ACCURACY, LOSS, Metric
from initstudy.trees import TensorTree, count, map_tensors


@dataclass(frozen=True)
class Losses:
    """The loss of every member, and what its metrics are made of, on the device.

    Attributes:
        loss: Each member's mean loss over its batch.
        metrics: The means over the same batch of which `Loss.values` makes each metric, by the
            metric's name: one number per member, or several.
    """

    loss: Float[Tensor, " members"]
    metrics: Mapping[str, Float[Tensor, "members *values"]]

    def means(self) -> dict[str, Tensor]:
        """Everything that is averaged over batches and chunks, by name."""
        return {LOSS.name: self.loss, **self.metrics}


@runtime_checkable
class Loss(Protocol):
    """A loss and its metrics."""

    @property
    def name(self) -> str:
        """Its name in the configuration and in docs/engines.md."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that `Losses` hold beside it."""

    def pick(self, output: Any) -> Any:
        """The part of what one member's model returns that the loss takes as its outputs."""

    def per_example(self, outputs: Any, targets: Any) -> Float[Tensor, "members batch"]:
        """The loss of each example, through which autograd differentiates.

        Args:
            outputs: What was picked of the members' outputs, stacked: a tensor
                `[members, batch, ...]`, or a tuple or dict of such.
            targets: The targets of each member, in the same form.
        """

    def score(self, outputs: Any, targets: Any) -> Losses:
        """The loss and the metrics of each member, from the same arguments."""

    def values(self, means: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " members"]]:
        """The loss and the metrics by name, from means as `Losses.means` gives them."""


@runtime_checkable
class KernelLoss(Loss, Protocol):
    """A loss that batched kernels take, with a gradient written by hand.

    Targets are those of each member, or of each of as many groups of neighbouring members as divide
    the members evenly.
    """

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


def _itself(output: Any) -> Any:
    return output


@dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy between the softmax of the outputs and one class per example.

    The metric is the accuracy. The largest output is the prediction; of several equal ones the
    first, as `argmax` has it. An example with an output that is NaN or plus infinity counts as
    wrong.

    Targets are classes from 0 on, `[groups, batch]`: those of each member, or of each of as many
    groups of neighbouring members as divide the members evenly.

    Attributes:
        name: Its name in the configuration.
        metrics: The metrics that are computed beside it.
        part: Picks the logits from what a model returns.
    """

    name: str = "cross_entropy"
    metrics: tuple[Metric, ...] = (ACCURACY,)
    part: Callable[[Any], Tensor] = _itself

    def pick(self, output: Any) -> Tensor:
        """See `Loss.pick`."""
        return self.part(output)

    def per_example(
        self, outputs: Float[Tensor, "members batch classes"], targets: Int[Tensor, "members batch"]
    ) -> Float[Tensor, "members batch"]:
        """See `Loss.per_example`."""
        losses = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
        return losses.view(targets.shape)

    def score(
        self, outputs: Float[Tensor, "members batch classes"], targets: Int[Tensor, "members batch"]
    ) -> Losses:
        """See `Loss.score`."""
        return self.measure(outputs.movedim(1, -1), targets)

    def values(self, means: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " members"]]:
        """See `Loss.values`; both are means over examples."""
        return dict(means)

    def measure(
        self, outputs: Float[Tensor, "members classes batch"], targets: Int[Tensor, "groups batch"]
    ) -> Losses:
        """See `KernelLoss.measure`."""
        return _means(_softmax(outputs, targets), outputs)

    def differentiate(
        self, outputs: Float[Tensor, "members classes batch"], targets: Int[Tensor, "groups batch"]
    ) -> tuple[Losses, Float[Tensor, "members classes batch"]]:
        """See `KernelLoss.differentiate`."""
        batch = outputs.shape[2]
        softmax = _softmax(outputs, targets)
        # (softmax - one-hot target) / batch
        gradient = softmax.exponentials.div_(softmax.totals * batch)
        gradient.scatter_(2, softmax.targets, -1 / batch, reduce="add")
        return _means(softmax, outputs), gradient.view_as(outputs)


CROSS_ENTROPY = CrossEntropy()


@dataclass(frozen=True)
class Measured:
    """A metric, and how it is computed.

    Attributes:
        metric: The metric.
        means: A function of one member's outputs and targets `[batch, ...]` that gives the means
            `[several]` over the batch from which the metric is made.
        value: Makes the metric `[members]` from such means `[members, several]`.
    """

    metric: Metric
    means: Callable[[Any, Any], Tensor]
    value: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PerExample:
    """Any loss, as a function of one member's outputs and targets; see `Loss`.

    Attributes:
        name: Its name in messages.
        function: Gives one number per example `[batch]`.
        measured: The metrics beside it.
        part: Picks the outputs from what a model returns.
    """

    name: str
    function: Callable[[Any, Any], Float[Tensor, " batch"]]
    measured: tuple[Measured, ...] = ()
    part: Callable[[Any], Any] = _itself

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """See `Loss.metrics`."""
        return tuple(measured.metric for measured in self.measured)

    def pick(self, output: Any) -> Any:
        """See `Loss.pick`."""
        return self.part(output)

    def per_example(
        self, outputs: TensorTree, targets: TensorTree
    ) -> Float[Tensor, "members batch"]:
        """See `Loss.per_example`."""
        return _by_member(self.function, outputs, targets)

    def score(self, outputs: TensorTree, targets: TensorTree) -> Losses:
        """See `Loss.score`."""
        loss = self.per_example(outputs, targets).mean(1)
        means = {m.metric.name: _by_member(m.means, outputs, targets) for m in self.measured}
        return Losses(loss, means)

    def values(self, means: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " members"]]:
        """See `Loss.values`."""
        made = {m.metric.name: m.value(means[m.metric.name]) for m in self.measured}
        return {LOSS.name: means[LOSS.name], **made}


def _by_member(
    function: Callable[[Any, Any], Tensor], outputs: TensorTree, targets: TensorTree
) -> Tensor:
    """The function of each member's outputs and targets, stacked.

    Of a single member it is called as it is: a function that `vmap` does not take still serves
    where members train one by one.
    """
    if count(outputs) > 1:
        return torch.vmap(function)(outputs, targets)
    alone = [map_tensors(lambda tensor: tensor[0], tree) for tree in (outputs, targets)]
    return function(*alone)[None]


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
