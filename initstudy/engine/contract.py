"""What an engine is: the way in which the members of a pack take a step together.

Every engine computes the same step, that of a plain PyTorch loop with `torch.optim` for each
member. Engines differ only in how fast they are and in what they take, which stands in their
`capabilities`; `choose` picks the fastest one that takes a pack, and says why no faster one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from initstudy.engine.health import Health
from initstudy.engine.losses import Loss, Losses
from initstudy.engine.optimizers import Optimizer
from initstudy.engine.stack import Stack, Tensors
from initstudy.engine.workload import Workload
from initstudy.probes.layers import Layer
from initstudy.trees import TensorTree


class Batch(NamedTuple):
    """Examples and their targets.

    In a step there is one batch for each member, or one for each of as many groups of neighbouring
    members as divide the members evenly. In an evaluation all members share one batch, and the axis
    of groups is left out.

    Attributes:
        inputs: What the model takes: tensors `[*groups, batch, ...]` of any dtype.
        targets: What the loss takes, in the same form.
    """

    inputs: TensorTree
    targets: TensorTree

    def single(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of which each is one tensor, as batched kernels take them."""
        assert isinstance(self.inputs, Tensor)
        assert isinstance(self.targets, Tensor)
        return self.inputs, self.targets


@dataclass(frozen=True)
class Capabilities:
    """What an engine takes. docs/engines.md is written from this.

    Attributes:
        name: The engine's name in messages and tables.
        purpose: How it takes a step, in one sentence.
        modules: The layers and activation functions of which it takes chains; None if it takes any
            module in any arrangement.
        any_forward: Whether it takes a `forward` that draws random numbers, or whose control flow
            depends on values.
        optimizers: The optimizers that it takes, by name; None for all.
        losses: The losses that it takes, by name; None for all. Engines with batched kernels take
            those that are a `KernelLoss`.
        precisions: The precisions in which it computes: "highest", "tf32", "bf16".
        probes: The presets that it measures in the same pass as the step. It measures every other
            preset through the next engine's pass.
        devices: The types of device on which it runs.
        together: Whether the members of a pack take a step in one program.
        machine_code: Whether its first step in a process loads machine code, or compiles it.
        folded: The layers that it computes for all members in one kernel of torch, which may round
            in another way when their number changes. The losses of models without such layers are
            the same on a CPU, to the last bit, alone and in a pack of any size.
    """

    name: str
    purpose: str
    modules: frozenset[type[nn.Module]] | None
    any_forward: bool
    optimizers: tuple[str, ...] | None
    losses: tuple[str, ...] | None
    precisions: tuple[str, ...]
    probes: tuple[str, ...]
    devices: tuple[str, ...]
    together: bool
    machine_code: bool = False
    folded: tuple[type[nn.Module], ...] = ()


@runtime_checkable
class EngineKind(Protocol):
    """An engine before it has members: a class of engines.

    Attributes:
        capabilities: What it takes.
    """

    capabilities: Capabilities

    def refusal(self, workload: Workload) -> str | None:
        """Why it does not take a workload, or None if it does.

        Trains nothing, and reads no parameter's value.
        """

    def build(
        self, workload: Workload, stack: Stack, optimizer: Optimizer, layers: Sequence[Layer]
    ) -> Engine:
        """The engine over members of a workload that it does not refuse.

        Args:
            workload: What they have in common.
            stack: The members.
            optimizer: It holds `stack.params`, in their order.
            layers: Where `Engine.probe_step` measures.
        """


@runtime_checkable
class Engine(Protocol):
    """The members of one pack, and how they take a step.

    An engine changes the tensors of its members in place. A member whose loss is not finite is
    frozen before that step's update, and stays in the pack without touching the others until
    `keep` leaves it out.

    Attributes:
        capabilities: What the engine takes.
        stack: The members' parameters and buffers.
        optimizer: It holds the same parameters.
        layers: Where probes measure.
        health: Which members are alive.
    """

    capabilities: ClassVar[Capabilities]
    stack: Stack
    optimizer: Optimizer
    layers: Sequence[Layer]
    health: Health

    @property
    def loss(self) -> Loss:
        """What the members minimize."""

    def step(self, batch: Batch) -> Losses:
        """Updates every living member once; returns the losses before the update."""

    def probe_step(self, batch: Batch, preset: str, *, updating: bool) -> tuple[Losses, Tensors]:
        """As `step`, and measures the layers.

        Args:
            batch: The batch.
            preset: Which statistics to measure, "basic" or "full".
            updating: Whether to update the members. Otherwise nothing of them changes, running
                statistics included.

        Returns:
            The losses, and the statistics `[members]` or `[members, bins]` by column, those of
            weights before the update.
        """

    def scores(self, chunk: Batch) -> Losses:
        """The losses of all members in evaluation mode, on examples that they share."""

    def keep(self, members: Sequence[int]) -> None:
        """Goes on with these members alone."""

    def alone(self, member: int) -> Engine:
        """An engine over a copy of one member, for evaluations."""

    def state(self) -> Tensors:
        """Copies of all tensors on which further steps depend, by name."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over a state.

        Raises:
            ValueError: The state belongs to another model, optimizer or number of members. The
                engine is then unusable.
        """

    @property
    def size_invariant(self) -> bool:
        """Whether the other members stay the same to the last bit when `keep` leaves some out."""
