"""What is recorded of a member whose loss is not finite."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from initstudy.columns import DIVERGED_LAYER, TEST
from initstudy.engine.contract import Batch, Engine
from initstudy.engine.evaluation import evaluate
from initstudy.probes.layers import first_nonfinite

Chunks = Iterable[tuple[Tensor, Tensor]]


def examine(engine: Engine, member: int, batch: Batch, test: Chunks) -> dict[str, float | str]:
    """The summary of a member that is frozen as it was before its loss was not finite.

    Args:
        engine: The pack.
        member: The member's index in it.
        batch: The batch of the step at which it diverged, for this member alone.
        test: The test data in chunks.

    Returns:
        The layer where the first value was not finite, and the frozen parameters' scores.
    """
    alone = engine.alone(member)
    model, tensors = alone.stack.model, alone.stack.member(0)
    layer = first_nonfinite(model, tensors, batch.inputs[0], list(engine.layers))
    scores = {name: value.item() for name, value in evaluate(alone, test, TEST).items()}
    return {**scores, DIVERGED_LAYER.name: layer}
