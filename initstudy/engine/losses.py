"""The loss of all members: the mean cross-entropy of a batch, its gradient, and the accuracy.

With the classes before the batch the sums over classes run along registers; over ten neighbouring
numbers they would take several times as long.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def cross_entropy(
    logits: Float[Tensor, "members classes batch"], y: Int[Tensor, "groups batch"]
) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"], Tensor]:
    """Each member's mean loss and accuracy on its batch, and the loss's gradient by the logits.

    Args:
        logits: Of each member.
        y: The labels of each, or of each of as many groups of neighbours as divide them evenly.
    """
    batch = logits.shape[2]
    found = _softmax(logits, y)
    # The softmax less one for the label, over the size of the batch.
    grad = found.exponentials.div_(found.totals * batch)
    grad.scatter_(2, found.labels, -1 / batch, reduce="add")
    return *_means(found, logits), grad.view_as(logits)


def score(
    logits: Float[Tensor, "members classes batch"], y: Int[Tensor, "groups batch"]
) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"]]:
    """Each member's mean loss and accuracy; see `cross_entropy`."""
    return _means(_softmax(logits, y), logits)


@dataclass(frozen=True)
class _Softmax:
    """What losses and gradients are made of, by group and neighbour.

    Attributes:
        labels: A view without copies.
        right: Whether the largest logit is the label's; of equal ones the first counts, and none
            where one is infinite or no number.
        chosen: The label's logit less the largest.
        exponentials: Of all logits less the largest.
        totals: Their sums over the classes.
    """

    labels: Int[Tensor, "groups neighbours 1 batch"]
    right: Bool[Tensor, "groups neighbours 1 batch"]
    chosen: Float[Tensor, "groups neighbours 1 batch"]
    exponentials: Float[Tensor, "groups neighbours classes batch"]
    totals: Float[Tensor, "groups neighbours 1 batch"]


def _softmax(logits: Tensor, y: Tensor) -> _Softmax:
    each = logits.unflatten(0, (len(y), -1))
    labels = y[:, None, None].expand(-1, each.shape[1], 1, -1)
    largest, predicted = each.max(2, keepdim=True)
    shifted = each - largest
    chosen = shifted.gather(2, labels)
    exponentials = shifted.exp_()
    totals = exponentials.sum(2, keepdim=True)
    # Infinity less itself is no number, and then the total is none either.
    right = (predicted == labels) & (totals < torch.inf)
    return _Softmax(labels, right, chosen, exponentials, totals)


def _means(found: _Softmax, logits: Tensor) -> tuple[Tensor, Tensor]:
    members, _, batch = logits.shape
    losses = found.totals.log() - found.chosen
    return losses.view(members, -1).mean(1), found.right.view(members, -1).sum(1) / batch
