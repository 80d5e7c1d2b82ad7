"""Metrics: what is reported beside the loss, each with a direction and a meaning.

Data are evaluated in chunks, and many metrics are no means over examples: R² is not, nor is the
perplexity. A metric is therefore a function of means: `statistics` gives some numbers per example,
and `value` makes the metric from their means over all examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from initstudy import columns
from initstudy.tasks.losses import IGNORED, Loss, alike, binary, cross_entropy, mse, predictions

BETTER: tuple[columns.Better, ...] = ("higher", "lower")


def _itself(means: Float[Tensor, "*shape 1"]) -> Float[Tensor, "*shape"]:
    return means[..., 0]


@dataclass(frozen=True)
class Metric:
    """A number that says how well a model does.

    Attributes:
        about: Its name, meaning, unit and direction; the columns are `train/NAME`, `test/NAME` and
            so on.
        statistics: A function `(output, target)` that gives one number per example, `[batch]`, or
            several, `[batch, k]`. A single number is taken as the batch's mean.
        value: Makes the metric `[...]` from the means `[..., k]` of those numbers over all
            examples.
    """

    about: columns.Metric
    statistics: Callable[[Any, Any], Tensor]
    value: Callable[[Float[Tensor, "*shape k"]], Float[Tensor, "*shape"]] = _itself

    @property
    def name(self) -> str:
        """Its name."""
        return self.about.name

    @property
    def better(self) -> columns.Better:
        """Which direction is an improvement."""
        return self.about.better

    def means(self, output: Any, target: Any) -> Float[Tensor, " k"]:
        """The means over one batch of what the metric is made from, in float64.

        Raises:
            ValueError: The outputs and the targets do not fit.
        """
        values = self.statistics(output, target)
        if values.dim() == 0:
            values = values[None]
        return (
            values.double().flatten(1).mean(0) if values.dim() > 1 else values.double().mean()[None]
        )

    def of(self, output: Any, target: Any) -> Tensor:
        """The metric over one batch.

        Example:
            >>> ACCURACY.of(torch.eye(4), torch.tensor([0, 1, 2, 2]))
            tensor(0.7500, dtype=torch.float64)
        """
        return self.value(self.means(output, target))


def correct(output: Tensor, target: Tensor) -> Tensor:
    """The fraction of each example's tokens whose class has the largest logit.

    A token whose largest logit is NaN or infinite counts as wrong.
    """
    largest, predicted = predictions(output, target)
    right = (predicted == target) & (largest < torch.inf)
    counted = target != IGNORED
    if target.dim() == 1:
        return right.double()
    return (right & counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1).double()


def _binary_correct(output: Tensor, target: Tensor) -> Tensor:
    output, target = alike(output, target)
    right = (output > 0) == (target > 0.5)
    return (right & torch.isfinite(output)).double().flatten(1).mean(1)


def _moments_of_error(output: Tensor, target: Tensor) -> Tensor:
    """Per target value: the squared error, the value, and its square."""
    output, target = alike(output, target)
    output, target = output.double().flatten(1), target.double().flatten(1)
    return torch.stack([(output - target).square(), target, target.square()], dim=1).flatten(1)


def _determination(means: Tensor) -> Tensor:
    """1 - (mean squared error) / variance, its mean over the target values."""
    error, mean, square = means.unflatten(-1, (3, -1)).unbind(-2)
    variance = square - mean.square()
    # Of constant targets nothing can be explained: scikit-learn has 1 for no error, else 0.
    constant = variance <= 1e-12 * square.clamp_min(1e-300)
    explained = torch.where(constant, (error == 0).double(), 1 - error / variance.clamp_min(1e-300))
    return explained.mean(-1)


ACCURACY = Metric(columns.ACCURACY, correct)
TOKEN_ACCURACY = Metric(
    replace(columns.ACCURACY, meaning="fraction of tokens that are predicted correctly"), correct
)
BINARY_ACCURACY = Metric(
    replace(columns.ACCURACY, meaning="fraction of labels that are predicted correctly"),
    _binary_correct,
)
R2 = Metric(
    columns.Metric(
        "r2",
        "coefficient of determination: the fraction of the targets' variance that is explained",
        "1",
        "higher",
    ),
    _moments_of_error,
    _determination,
)
BITS_PER_TOKEN = Metric(
    columns.Metric("bits_per_token", "mean cross-entropy per token", "bits", "lower"),
    cross_entropy,
    lambda means: means[..., 0] / math.log(2),
)
PERPLEXITY = Metric(
    columns.Metric("perplexity", "exponential of the mean cross-entropy per token", "1", "lower"),
    cross_entropy,
    lambda means: means[..., 0].exp(),
)


def psnr(peak: float = 1.0) -> Metric:
    """The peak signal-to-noise ratio of images, 10 log10(peak² / mean squared error).

    Args:
        peak: The distance between the darkest and the brightest value.

    Example:
        >>> round(psnr(peak=2.0).of(torch.tensor([[0.2]]), torch.tensor([[0.0]])).item(), 3)
        20.0
    """
    return Metric(
        columns.Metric("psnr", "peak signal-to-noise ratio of the image", "dB", "higher"),
        mse,
        lambda means: 10 * (peak**2 / means[..., 0]).log10(),
    )


def default_metrics(loss: Loss, tokens: bool, classes: bool) -> tuple[Metric, ...]:
    """The metrics that go with a loss.

    Args:
        loss: The loss.
        tokens: Whether the targets are a class per token.
        classes: Whether the targets are classes.

    Returns:
        The metrics, the one that is the objective first. A loss of one's own has the accuracy if
        there is a class per example, and otherwise none.
    """
    if loss is cross_entropy:
        return (BITS_PER_TOKEN, PERPLEXITY, TOKEN_ACCURACY) if tokens else (ACCURACY,)
    if loss is binary:
        return (BINARY_ACCURACY,)
    if loss is mse:
        return (R2,)
    return (ACCURACY,) if classes and not tokens else ()


def own_metric(name: str, function: Any, options: Mapping[str, Any]) -> Metric:
    """A metric from a function of one's own.

    Args:
        name: The name that the configuration gives it.
        function: A `Metric`, or a function `(output, target)` that gives a number per example.
        options: What the configuration says besides: `better`, and perhaps `meaning` and `unit`.

    Raises:
        ValueError: In one line, for something else, or if no direction is given.
    """
    if isinstance(function, Metric):
        return function
    if not callable(function):
        raise ValueError(
            f"metrics.{name}: is {type(function).__name__}; give a function (output, target) that "
            "returns a number per example"
        )
    better = options.get("better")
    if better not in BETTER:
        said = "missing" if better is None else f"is {better}"
        raise ValueError(f"metrics.{name}.better: {said}; choose one of higher, lower")
    meaning, unit = (
        str(options.get(key) or usual) for key, usual in (("meaning", name), ("unit", "1"))
    )
    return Metric(columns.Metric(name, meaning, unit, better), function)
