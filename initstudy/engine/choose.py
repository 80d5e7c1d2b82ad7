"""Which engine trains a pack, and why no faster one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from initstudy.engine.autograd import OneByOne, Vmap
from initstudy.engine.batched.engine import Batched
from initstudy.engine.compiled.engine import Compiled
from initstudy.engine.contract import Engine, EngineKind
from initstudy.engine.graph import Graph
from initstudy.engine.optimizers import Optimizer
from initstudy.engine.stack import Stack
from initstudy.engine.workload import Workload
from initstudy.probes.layers import Layer

# The fastest first. The last one takes everything.
ENGINES: tuple[EngineKind, ...] = (Compiled, Graph, Batched, Vmap, OneByOne)


@dataclass(frozen=True)
class Choice:
    """The engine for a workload.

    Attributes:
        workload: The workload.
        engine: The fastest engine that takes it.
        reasons: For every faster engine of its device, the fastest first, why it does not: by its
            name, as in "batched" → "nn.LSTM (recurrent) has no batched kernel".
    """

    workload: Workload
    engine: EngineKind
    reasons: Mapping[str, str]

    @property
    def name(self) -> str:
        """The engine's name."""
        return self.engine.capabilities.name

    def of(self, members: int) -> Choice:
        """The choice for a pack of so many members of the workload."""
        if members == self.workload.members:
            return self
        # A faster engine that refuses the model refuses it for any number of members.
        slower = ENGINES[ENGINES.index(self.engine) :]
        choice = choose_engine(self.workload.of(members), slower)
        return replace(choice, reasons={**self.reasons, **choice.reasons})

    def build(self, stack: Stack, optimizer: Optimizer, layers: Sequence[Layer] = ()) -> Engine:
        """The engine over members of the workload.

        Args:
            stack: The members.
            optimizer: It holds `stack.params`, in their order.
            layers: Where probes measure.
        """
        return self.engine.build(self.workload, stack, optimizer, layers)


def choose_engine(workload: Workload, engines: Sequence[EngineKind] = ENGINES) -> Choice:
    """The fastest engine that takes a workload.

    It traces the model and at most runs two copies of it on the example, so that it can be asked
    before any parameter is drawn.

    Args:
        workload: What is to be trained.
        engines: The engines to choose from, the fastest first.

    Raises:
        ValueError: None of the engines takes it.
    """
    reasons: dict[str, str] = {}
    for engine in engines:
        capabilities = engine.capabilities
        if workload.device.type not in capabilities.devices:
            continue
        why = _refusal(engine, workload)
        if why is None:
            return Choice(workload, engine, reasons)
        reasons[capabilities.name] = why
    why_none = "; ".join(f"{name}: {why}" for name, why in reasons.items())
    raise ValueError(f"no engine takes the model: {why_none}")


def _refusal(engine: EngineKind, workload: Workload) -> str | None:
    capabilities = engine.capabilities
    if capabilities.losses is not None and workload.loss.name not in capabilities.losses:
        return f"it has no kernel for the loss {workload.loss.name}"
    if workload.precision not in capabilities.precisions:
        return f"it does not compute with precision={workload.precision}"
    if capabilities.together and workload.optimizer_draws:
        return "the optimizer draws random numbers"
    return engine.refusal(workload)
