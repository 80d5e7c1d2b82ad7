"""The complete state of a training between two steps, and going on from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from initstudy.engine.stack import Tensors

if TYPE_CHECKING:
    from initstudy.engine.train import Training


@dataclass(frozen=True)
class State:
    """All that the steps to come depend on, besides what the training was begun with.

    Attributes:
        step: The next step.
        tensors: By name.
        facts: What is no tensor, as JSON can hold it.
    """

    step: int
    tensors: Tensors
    facts: dict[str, Any]


def capture(training: Training, step: int) -> State:
    """The state before a step."""
    # Copies, since what lies side by side in memory would be stored whole for each.
    tensors = {name: tensor.detach().clone() for name, tensor in _live(training).items()}
    tensors["rng"] = torch.get_rng_state()
    if training.stack.device.type == "cuda":
        tensors["rng/cuda"] = torch.cuda.get_rng_state(training.stack.device)
    for name, values in (("losses", training.losses), ("hits", training.hits)):
        if values:
            tensors[name] = torch.stack(values)
    for member, weights in training.weights.items():
        tensors |= {f"kept/{member}/{name}": value for name, value in weights.items()}
    facts = {
        "members": training.members,
        "ended": sorted(training.ended),
        "summaries": training.summaries,
    }
    return State(step, tensors, facts)


@torch.no_grad()
def restore(training: Training, state: State) -> None:
    """Puts a training that was begun alike into a state.

    Raises:
        ValueError: The state is another model's or another optimizer's; the training is spoiled.
    """
    stack = training.stack
    training.keep(state.facts["members"])
    training.ended = set(state.facts["ended"])
    training.summaries = state.facts["summaries"]
    for name, tensor in _live(training).items():
        saved = state.tensors.get(name)
        if saved is None or saved.shape != tensor.shape or saved.dtype != tensor.dtype:
            raise ValueError(f"{name} is not as it was")
        tensor.copy_(saved)
    for name, values in (("losses", training.losses), ("hits", training.hits)):
        if name in state.tensors:
            values[:] = state.tensors[name].to(stack.device).unbind()
    for name, value in state.tensors.items():
        if name.startswith("kept/"):
            _, member, parameter = name.split("/", 2)
            kept = training.weights.setdefault(int(member), {})
            kept[parameter] = value.to(stack.device)
    if not stack.vectorized:
        # Models that draw random numbers as they train are never vectorized.
        torch.set_rng_state(state.tensors["rng"])
        if "rng/cuda" in state.tensors:
            torch.cuda.set_rng_state(state.tensors["rng/cuda"], stack.device)


def _live(training: Training) -> Tensors:
    """The tensors that training updates, by name."""
    stack = training.stack
    tensors = {f"param/{name}": value for name, value in stack.params.items()}
    tensors |= {f"buffer/{name}": value for name, value in stack.buffers.items()}
    for name, values in training.stepper.optimizer.state.items():
        tensors |= {f"optimizer/{name}/{i}": value for i, value in enumerate(values)}
    for name in ("alive", "diverged_at", "last_loss"):
        tensors[name] = getattr(training.stepper, name)
    return tensors
