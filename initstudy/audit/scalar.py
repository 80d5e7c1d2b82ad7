"""What is differentiated: a loss of the user's own, or the one that a model's output calls for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

LossFunction = Callable[..., Tensor]
# Under these names libraries return what a loss compares with its targets.
NAMES = ("logits", "out", "output", "prediction_logits", "last_hidden_state")


@dataclass(frozen=True)
class Scalar:
    """A scalar to differentiate.

    Attributes:
        value: The scalar.
        loss: Whether it is a loss; if not, it is a random direction of the output.
        classes: The number of classes, or 0 if the loss is no cross-entropy.
        guessing: The loss of a model that ignores its inputs, or None where that is not known.
        drawn: Whether random labels took the place of targets.
        output: The tensor that the loss is about.
    """

    value: Tensor
    loss: bool
    classes: int
    guessing: float | None
    drawn: bool
    output: Tensor


def scalar_of(
    returned: Any, inputs: list[Tensor], targets: Any, loss: LossFunction | None
) -> Scalar:
    """The scalar to differentiate for what a model returned.

    Args:
        returned: What the model returned.
        inputs: The tensors that it was given, which tell a language model from others.
        targets: Targets, or None.
        loss: A function of the output, or of the output and the targets, to a scalar.

    Raises:
        ValueError: The output holds no tensor, or loss and targets do not fit it.
    """
    output = main_output(returned)
    if loss is not None:
        return _own(returned, output, targets, loss)
    own = _loss_of_the_model(returned)
    if targets is None and own is not None:
        classes = output.shape[-1] if output.dim() > 1 and output is not own else 0
        known = _are_tokens(output, inputs)
        guessing = math.log(classes) if classes > 1 and known else None
        return Scalar(own, True, classes if known else 0, guessing, False, output)
    if targets is None:
        return _without_targets(returned, output, inputs)
    return _with_targets(output, targets)


def main_output(returned: Any) -> Tensor:
    """The tensor that a loss would be about.

    Args:
        returned: What a model returned: a tensor, a tuple, a dict or a library's own class.

    Raises:
        ValueError: There is no tensor of real numbers in it.
    """
    for name in NAMES:
        value = returned.get(name) if isinstance(returned, Mapping) else None
        if value is None and not isinstance(returned, Tensor):
            value = getattr(returned, name, None)
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    for leaf in _real_leaves(returned):
        return leaf
    raise ValueError(f"the model returns no tensor of real numbers but a {type(returned).__name__}")


def _real_leaves(returned: Any) -> list[Tensor]:
    values = dict(returned) if isinstance(returned, Mapping) else returned
    if not isinstance(values, dict | tuple | list | Tensor) and hasattr(values, "__dict__"):
        values = vars(values)
    return [t for t in tree_leaves(values) if isinstance(t, Tensor) and t.is_floating_point()]


def _own(returned: Any, output: Tensor, targets: Any, loss: LossFunction) -> Scalar:
    try:
        value = loss(returned, targets) if targets is not None and _takes_two(loss) else None
        value = loss(returned) if value is None else value
    except Exception as error:
        # A user's loss may raise anything.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"loss: fails on the model's output: {reason}") from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss: returns {got}; it must return a scalar tensor")
    return Scalar(value.reshape(()), True, 0, None, False, output)


def _takes_two(loss: LossFunction) -> bool:
    try:
        inspect.signature(loss).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _loss_of_the_model(returned: Any) -> Tensor | None:
    """The loss that a model computes itself, as those of transformers and torchvision's do."""
    if isinstance(returned, Mapping):
        own = returned.get("loss")
        if isinstance(own, Tensor) and own.numel() == 1:
            return own.reshape(())
        values = list(returned.values())
        if values and all(isinstance(v, Tensor) and v.dim() == 0 for v in values):
            return torch.stack([v.float() for v in values]).sum()
    return None


def _are_tokens(output: Tensor, inputs: list[Tensor]) -> bool:
    """Whether an output scores a vocabulary at every position of a sequence of tokens."""
    return output.dim() == 3 and any(
        not t.is_floating_point() and t.shape == output.shape[:-1] for t in inputs
    )


def _without_targets(returned: Any, output: Tensor, inputs: list[Tensor]) -> Scalar:
    classifier = output.dim() == 2 and output.shape[1] > 1
    if classifier or (_are_tokens(output, inputs) and output.shape[-1] > 1):
        classes = output.shape[-1]
        flat = output.reshape(-1, classes)
        labels = torch.randint(classes, (len(flat),), device=output.device)
        value = F.cross_entropy(flat, labels)
        # The outputs of auxiliary classifiers, which only training has.
        for other in _real_leaves(returned):
            if other is not output and other.shape == output.shape:
                value = value + _direction(other)
        own = F.cross_entropy(flat.detach(), labels)
        return Scalar(_valued(value, own), True, classes, math.log(classes), True, output)
    value = sum((_direction(t) for t in _real_leaves(returned)), torch.zeros(()))
    return Scalar(value, False, 0, None, False, output)


def _valued(value: Tensor, number: Tensor) -> Tensor:
    """A scalar with the gradient of one tensor and the value of another."""
    return value - (value.detach() - number)


def _direction(output: Tensor) -> Tensor:
    direction = torch.randn(output.shape, device=output.device, dtype=output.dtype)
    examples = output.shape[0] if output.dim() else 1
    return (output * direction).sum() / max(examples, 1)


def _with_targets(output: Tensor, targets: Any) -> Scalar:
    targets = torch.as_tensor(targets) if not isinstance(targets, Tensor) else targets
    targets = targets.to(output.device)
    if targets.is_floating_point():
        return _regression(output, targets)
    if _fits_logit(output, targets) and not _is_class_axis(output, targets):
        return _binary(output, targets)
    if output.dim() > 1 and targets.shape == output.shape[:-1] and output.shape[-1] > 1:
        scores = output.reshape(-1, output.shape[-1])
    elif output.dim() > 2 and targets.shape == (output.shape[0], *output.shape[2:]):
        scores = output.movedim(1, -1).reshape(-1, output.shape[1])
    else:
        raise ValueError(
            f"targets={tuple(targets.shape)}: the model returns {tuple(output.shape)}; give labels "
            "(batch,) for outputs (batch, classes), tokens (batch, length) for outputs (batch, "
            "length, vocabulary), or a loss of your own"
        )
    labels, classes = targets.reshape(-1).long(), scores.shape[1]
    known = labels[labels != -100]
    if len(known) and not 0 <= int(known.min()) <= int(known.max()) < classes:
        raise ValueError(
            f"targets: labels lie between {int(known.min())} and {int(known.max())}, but the "
            f"model has {classes} outputs"
        )
    value = F.cross_entropy(scores, labels)
    return Scalar(value, True, classes, math.log(classes), False, output)


def _fits_logit(output: Tensor, targets: Tensor) -> bool:
    return targets.numel() == output.numel() and targets.shape[:1] == output.shape[:1]


def _is_class_axis(output: Tensor, targets: Tensor) -> bool:
    return output.dim() > targets.dim() and output.shape[-1] > 1


def _binary(output: Tensor, targets: Tensor) -> Scalar:
    if not bool(((targets == 0) | (targets == 1)).all()):
        raise ValueError(
            f"targets: labels lie between {int(targets.min())} and {int(targets.max())}; one logit "
            "per example needs labels 0 and 1, or real numbers for a regression"
        )
    value = F.binary_cross_entropy_with_logits(output, targets.reshape(output.shape).to(output))
    return Scalar(value, True, 2, math.log(2), False, output)


def _regression(output: Tensor, targets: Tensor) -> Scalar:
    if targets.numel() != output.numel() or targets.shape[:1] != output.shape[:1]:
        raise ValueError(
            f"targets={tuple(targets.shape)}: the model returns {tuple(output.shape)}; give real "
            "targets of that shape, whole numbers as labels, or a loss of your own"
        )
    if not bool(torch.isfinite(targets).all()):
        raise ValueError("targets: hold NaN or infinities")
    wanted = targets.reshape(output.shape).to(output.dtype)
    guessing = float(wanted.var(0, correction=0).mean()) if len(wanted) > 1 else None
    return Scalar(F.mse_loss(output, wanted), True, 0, guessing, False, output)
