"""Losses: what training minimizes, one number per example.

A loss is a function `(output, target) -> [batch]`, given the output of a model for one batch and
the batch's targets. A function of one's own is named by `loss._target_`; it must treat every
example by itself and be differentiable by autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

Loss = Callable[[Any, Any], Tensor]
# Targets with this value are not counted, as in torch's own losses and in `transformers`.
IGNORED = -100


def cross_entropy(
    output: Float[Tensor, "batch ..."], target: Shaped[Tensor, "batch ..."]
) -> Float[Tensor, " batch"]:
    """The cross-entropy of the outputs' softmax and a class per example or per token, in nats.

    Args:
        output: Logits `[batch, classes]`, `[batch, tokens, classes]` or, as torch has them,
            `[batch, classes, ...]`.
        target: The classes `[batch]`, `[batch, tokens]` or `[batch, ...]`. Tokens whose class is
            -100 are not counted.

    Returns:
        The loss of each example: the mean over its tokens.

    Raises:
        ValueError: The shapes do not fit.

    Example:
        >>> logits = torch.zeros(2, 5, 8)
        >>> cross_entropy(logits, torch.ones(2, 5, dtype=torch.long)).exp()
        tensor([8., 8.])
    """
    logits = _classes_second(output, target)
    losses = F.cross_entropy(logits, target.long(), reduction="none", ignore_index=IGNORED)
    if losses.dim() == 1:
        return losses
    counted = (target != IGNORED).flatten(1).sum(1)
    return losses.flatten(1).sum(1) / counted.clamp_min(1)


def mse(
    output: Float[Tensor, "batch ..."], target: Float[Tensor, "batch ..."]
) -> Float[Tensor, " batch"]:
    """The squared error, its mean over an example's numbers.

    Args:
        output: The values `[batch, ...]`.
        target: What they should be, of the same shape; a last axis of one value may be absent.

    Raises:
        ValueError: The shapes do not fit.

    Example:
        >>> mse(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]))
        tensor([0., 4.])
    """
    output, target = alike(output, target)
    return (output - target).square().flatten(1).mean(1)


def binary(
    output: Float[Tensor, "batch ..."], target: Shaped[Tensor, "batch ..."]
) -> Float[Tensor, " batch"]:
    """The cross-entropy of the sigmoid of the outputs and targets between 0 and 1, in nats.

    Args:
        output: Logits `[batch]`, or `[batch, labels]` for several independent labels.
        target: 0 or 1, or a probability, for each; a last axis of one value may be absent.

    Returns:
        The loss of each example: the mean over its labels.

    Raises:
        ValueError: The shapes do not fit.

    Example:
        >>> binary(torch.zeros(3), torch.tensor([0, 1, 1])).exp()
        tensor([2., 2., 2.])
    """
    output, target = alike(output, target)
    losses = F.binary_cross_entropy_with_logits(output, target.to(output.dtype), reduction="none")
    return losses.flatten(1).mean(1)


def by_targets(output: Any, target: Any) -> Tensor:
    """The cross-entropy if targets are whole numbers, and the squared error otherwise.

    Args:
        output: See `cross_entropy` and `mse`.
        target: See `cross_entropy` and `mse`.
    """
    whole = isinstance(target, Tensor) and not target.is_floating_point()
    return cross_entropy(output, target) if whole else mse(output, target)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse, "binary": binary}


def alike(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and targets of one shape, at least `[batch, 1]`.

    A missing last axis of one value is added, and nothing else is broadcast: the difference of
    `[batch, 1]` and `[batch]` would be a table of all pairs.

    Raises:
        ValueError: They differ otherwise.
    """
    shapes = [tuple(output.shape), tuple(target.shape)]
    if output.dim() == target.dim() + 1 and output.shape[-1] == 1:
        target = target[..., None]
    elif target.dim() == output.dim() + 1 and target.shape[-1] == 1:
        output = output[..., None]
    if output.shape != target.shape:
        raise ValueError(f"outputs of shape {shapes[0]} do not fit targets of shape {shapes[1]}")
    return (output[:, None], target[:, None]) if output.dim() == 1 else (output, target)


def _classes_second(output: Tensor, target: Tensor) -> Tensor:
    """Logits with their classes along the second axis, as torch's cross-entropy takes them."""
    if output.dim() == target.dim() + 1:
        if output.shape[:-1] == target.shape:
            return output.movedim(-1, 1)
        if (output.shape[0], *output.shape[2:]) == tuple(target.shape):
            return output
    raise ValueError(
        f"outputs of shape {tuple(output.shape)} do not fit classes of shape "
        f"{tuple(target.shape)}; cross-entropy needs one output per class"
    )


def predictions(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The largest logit of each example or token, and its class; of equal ones the first.

    Raises:
        ValueError: The shapes do not fit.
    """
    largest, predicted = torch.max(_classes_second(output, target), dim=1)
    return largest, predicted
