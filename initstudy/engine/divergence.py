"""What is recorded of a member whose loss is not finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from initstudy.columns import DIVERGED_LAYER
from initstudy.engine.contract import Batch, Engine
from initstudy.engine.evaluation import evaluate
from initstudy.engine.stack import Tensors
from initstudy.probes.layers import first_nonfinite
from initstudy.trees import TensorTree, at

Chunks = Iterable[tuple[TensorTree, TensorTree]]


def examine(
    engine: Engine, member: int, batch: Batch, parts: Mapping[str, Chunks]
) -> dict[str, float | str]:
    """The summary of a member that is frozen as it was before its loss was not finite.

    Args:
        engine: The pack.
        member: The member's index in it.
        batch: The batch of the step at which it diverged, for this member alone.
        parts: The data to evaluate on, in chunks, by the names of the parts.

    Returns:
        The layer where the first value was not finite, and the frozen parameters' scores.
    """
    alone = engine.alone(member)
    model, tensors = alone.stack.model, alone.stack.member(0)
    layer = first_nonfinite(model, tensors, at(batch.inputs, 0), list(engine.layers))
    scores: Tensors = {}
    for name, chunks in parts.items():
        scores |= evaluate(alone, chunks, name)
    return {**{name: value.item() for name, value in scores.items()}, DIVERGED_LAYER.name: layer}
