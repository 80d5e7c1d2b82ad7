"""A task: data, the loss that training minimizes, and the metrics that are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from initstudy.columns import LOSS, TEST
from initstudy.tasks.data import Data
from initstudy.tasks.losses import Loss, binary, cross_entropy, mse
from initstudy.tasks.metrics import Metric, default_metrics
from initstudy.trees import count

# Passes a model's whole output on, to a loss of one's own that takes several of its parts.
ALL = "all"
Key = str | int | None


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be learned.

    Attributes:
        data: The examples.
        loss: One number per example, of which training minimizes the mean.
        metrics: What is reported beside the loss.
        objective: The name of what studies are about: that of a metric, or "loss".
        split: The part of the data on which it is compared: "test", "validation" or "train".
        output: Which part of a model's output the loss takes: a key or an index, "all" for all of
            it, or None for the only tensor, the first one, or the one called "logits".
    """

    data: Data
    loss: Loss
    metrics: tuple[Metric, ...]
    objective: str
    output: Key = None
    split: str = TEST

    @property
    def column(self) -> str:
        """The column that studies are about, such as "test/accuracy"."""
        return f"{self.split}/{self.objective}"

    @property
    def outputs(self) -> int:
        """How many numbers a model has to give per example, or per token."""
        return self.data.values if self.loss in (binary, mse) else self.data.outputs

    @property
    def classifies(self) -> bool:
        """Whether there is one class per example, of which the loss is the cross-entropy."""
        return self.loss is cross_entropy and not self.data.has_tokens

    @property
    def better(self) -> str:
        """Which direction of the objective is an improvement, "higher" or "lower"."""
        found = [metric.better for metric in self.metrics if metric.name == self.objective]
        return found[0] if found else "lower"

    def losses(self, output: Any, target: Any) -> Tensor:
        """The loss of each example `[batch]`, given what a model returned.

        Raises:
            ValueError: The output has no such part, or does not fit the targets.
        """
        losses = self.loss(pick(output, self.output), target)
        if not isinstance(losses, Tensor) or losses.dim() == 0:
            found = "a single number" if isinstance(losses, Tensor) else type(losses).__name__
            raise ValueError(
                f"the loss gives {found}; it must give one number per example, as torch's losses "
                "do with reduction=none"
            )
        return losses.flatten(1).mean(1) if losses.dim() > 1 else losses

    def statistics(self, output: Any, target: Any) -> dict[str, Tensor]:
        """What each metric is made from: means `[k]` over a batch, by the metric's name."""
        part = pick(output, self.output)
        return {metric.name: metric.means(part, target) for metric in self.metrics}

    def values(self, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The metrics `[...]`, from means `[..., k]` over as many examples as one likes."""
        return {metric.name: metric.value(statistics[metric.name]) for metric in self.metrics}

    def check(self, output: Any, target: Any) -> None:
        """Makes sure that loss and metrics take what a model returns.

        Args:
            output: The model's output for a few examples.
            target: Their targets.

        Raises:
            ValueError: In one line, what does not fit.
        """
        size = count(target)
        with torch.no_grad():
            losses = self.losses(output, target)
            if len(losses) != size:
                raise ValueError(
                    f"the loss gives {len(losses)} numbers for {size} examples; it must give one "
                    "per example"
                )
            for metric in self.metrics:
                metric.of(pick(output, self.output), target)


def make_task(
    data: Data,
    loss: Loss | None = None,
    metrics: Sequence[Metric] = (),
    objective: str | None = None,
    output: Key = None,
) -> Task:
    """A task, with what is not given as it goes with the data.

    Args:
        data: The examples.
        loss: The loss; None for the cross-entropy of classes and the squared error of numbers.
        metrics: Metrics of one's own, beside those of the data and of the loss.
        objective: The name of a metric, or "loss", on the test data, or with another part in front
            as in "train/loss"; None for the first metric, or the loss if there is none.
        output: Which part of a model's output the loss takes.

    Raises:
        ValueError: In one line, for an objective that is no metric, or classes that the loss does
            not take.

    Example:
        >>> from initstudy.tasks.images import digits
        >>> task = make_task(digits())
        >>> task.objective, task.better
        ('accuracy', 'higher')
    """
    chosen = (cross_entropy if data.has_classes else mse) if loss is None else loss
    if chosen is cross_entropy and not data.has_classes:
        raise ValueError(
            f"loss=cross_entropy: {data.name} has numbers as targets and no classes; use loss=mse, "
            "or give classes as whole numbers"
        )
    if chosen is cross_entropy:
        _check_classes(data)
    own = {metric.name: metric for metric in metrics}
    usual = (*data.metrics, *default_metrics(chosen, data.has_tokens, data.has_classes))
    if output == ALL:
        # The usual metrics compare one tensor with the targets.
        usual = data.metrics
    named = {metric.name: metric for metric in usual} | own
    names = [*named, LOSS.name]
    split, name = _split_and_name(objective or names[0])
    parts = [*data.parts]
    if name not in names or split not in parts:
        choices = f"{', '.join(names)}" if name not in names else f"{', '.join(parts)}"
        raise ValueError(f"objective={objective}: choose one of {choices}")
    return Task(data, chosen, tuple(named.values()), name, output, split)


def _split_and_name(objective: str) -> tuple[str, str]:
    """The part of the data and the metric of an objective, "accuracy" or "train/accuracy"."""
    split, _, name = objective.rpartition("/")
    return split or TEST, name


def pick(output: Any, key: Key) -> Any:
    """The part of a model's output that the loss takes.

    Args:
        output: A tensor, a tuple or list, a mapping, or an object with attributes, such as the
            outputs of `transformers`.
        key: A key, an index or an attribute's name; "all" for all of it; None for a tensor itself,
            the first tensor of a tuple, a mapping's "logits" or its only tensor.

    Raises:
        ValueError: There is no such part.

    Example:
        >>> pick({"hidden": torch.zeros(2, 8), "logits": torch.ones(2, 3)}, None).shape
        torch.Size([2, 3])
    """
    if key == ALL:
        return output
    if key is None:
        return _only(output)
    found = None
    if isinstance(output, Mapping):
        found = output.get(key)
    elif isinstance(output, tuple | list):
        if isinstance(key, int) and -len(output) <= key < len(output):
            found = output[key]
        elif isinstance(key, str):
            found = getattr(output, key, None)
    elif isinstance(key, str):
        found = getattr(output, key, None)
    if not isinstance(found, Tensor):
        raise ValueError(f"output={key}: the model returns {describe(output)}")
    return found


def _only(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        if isinstance(output.get("logits"), Tensor):
            return output["logits"]
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        if len(tensors) == 1:
            return tensors[0]
    elif isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    elif isinstance(getattr(output, "logits", None), Tensor):
        return output.logits
    raise ValueError(
        f"the model returns {describe(output)}; say which of it the loss takes, by output=KEY"
    )


def describe(output: Any) -> str:
    """What a model returned, in a few words."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a mapping with the keys {', '.join(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return f"an object of class {type(output).__name__}"


def _check_classes(data: Data) -> None:
    lowest = -100 if data.has_tokens else 0
    for name, part in data.parts.items():
        targets = part.targets
        assert isinstance(targets, Tensor)
        wrong = (targets < 0) & (targets != lowest) if lowest else targets < 0
        if bool(wrong.any()):
            raise ValueError(
                f"data: the {name} targets hold {int(targets[wrong][0])}; classes are whole "
                "numbers from 0 on"
            )
        if data.classes is not None and int(targets.max()) >= data.classes:
            raise ValueError(
                f"data: the {name} targets hold the class {int(targets.max())}, and there are "
                f"{data.classes} classes"
            )
