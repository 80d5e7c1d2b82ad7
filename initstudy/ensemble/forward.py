"""Losses and accuracies of a stack: on a batch, and over a whole test set."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from initstudy.ensemble.stack import Stack, Tensors


def forward(
    stack: Stack,
    x: Float[Tensor, "members batch ..."],
    y: Int[Tensor, "members batch"],
    taps: Tensors | None = None,
) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"], Tensors]:
    """Each member's mean cross-entropy and accuracy on its batch, and the tapped outputs."""
    logits, outputs = stack(x, taps)
    losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
    return losses.mean(1), _hits(logits.detach(), y).float().mean(1), outputs


@torch.no_grad()
def evaluate(stack: Stack, test: Iterator[tuple[Tensor, Tensor]]) -> Tensors:
    """Each member's mean loss and accuracy over a whole test set, in evaluation mode."""
    loss = torch.zeros(stack.size, device=stack.device, dtype=torch.float64)
    hits = torch.zeros_like(loss)
    count = 0
    stack.model.eval()
    for x, y in test:
        shared_x, shared_y = x.expand(stack.size, *x.shape), y.expand(stack.size, *y.shape)
        chunk_loss, chunk_hits, _ = forward(stack, shared_x, shared_y)
        loss += chunk_loss.double() * len(y)
        hits += chunk_hits.double() * len(y)
        count += len(y)
    stack.model.train()
    return {"test/loss": loss / count, "test/accuracy": hits / count}


def _hits(
    logits: Float[Tensor, "members batch classes"], y: Int[Tensor, "members batch"]
) -> Bool[Tensor, "members batch"]:
    """Correct predictions; logits that are not finite predict nothing (argmax would pick NaN)."""
    return (logits.argmax(-1) == y) & torch.isfinite(logits).all(-1)
