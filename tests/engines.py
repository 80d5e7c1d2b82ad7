"""What each engine takes, as a page: `python -m tests.engines` writes docs/engines.md.

The cells are the engines' own `Capabilities`. `tests/engine/test_contract.py` tries every one of
them, and holds the page against them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from initstudy.columns import PRESETS
from initstudy.engine.batched.elementwise import BY_AUTOGRAD, FROM_OUTPUT
from initstudy.engine.choose import ENGINES
from initstudy.engine.contract import Capabilities
from initstudy.engine.optimizers import OPTIMIZERS

DOCUMENT = Path(__file__).parent.parent / "docs" / "engines.md"
# What stands for any optimizer that a `_target_` names.
TARGET = "target"
PRECISIONS = ("highest", "tf32", "bf16")
CLASSES, TOKENS = 4, 11
IMAGE, SEQUENCE = (2, 6, 6), (5, 6)


@dataclass(frozen=True)
class Subject:
    """A kind of model, as a row of the table.

    Attributes:
        title: What stands in the row.
        make: Makes a small model that has it.
        modules: The modules in it that the row is about.
        shape: The shape of one example; None for a sequence of tokens.
        chain: Whether its layers are called one after another.
        plain: Whether its `forward` draws no random numbers and depends on no values.
    """

    title: str
    make: Callable[[], nn.Module]
    modules: tuple[type[nn.Module], ...]
    shape: tuple[int, ...] | None = IMAGE
    chain: bool = True
    plain: bool = True

    def taken_by(self, engine: Capabilities) -> bool:
        """Whether an engine says that it takes such models."""
        if not self.plain:
            return engine.any_forward
        if engine.modules is None:
            return True
        return self.chain and set(self.modules) <= engine.modules

    def size_invariant(self, engine: Capabilities) -> bool:
        """Whether an engine says that its losses are the same in packs of any size, on a CPU."""
        return not any(issubclass(module, engine.folded) for module in self.modules)


def dense(*modules: nn.Module) -> nn.Module:
    """A network of features with some modules after its first layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 8), *modules, nn.Linear(8, CLASSES))


def convolutional(*modules: nn.Module, features: int = 3 * 36) -> nn.Module:
    """A network of images with some modules after its first layer."""
    head = nn.Flatten(), nn.Linear(features, CLASSES)
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), *modules, *head)


class Last(nn.Module):
    """The outputs of a recurrent layer at the last time step."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.recurrent, self.head = layer, nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


class Attention(nn.Module):
    """Self-attention, and the mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Embedded(nn.Module):
    """The mean of the embeddings of some tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(TOKENS, 8), nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(x).mean(1))


class Residual(nn.Module):
    """A layer with a branch around it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch = nn.Linear(72, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.flatten(1))
        return self.head(x + torch.relu(self.branch(x)))


class Scaled(nn.Linear):
    """A layer of the user's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Deciding(nn.Module):
    """Control flow that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(72, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = self.head(x.flatten(1))
        return outputs if outputs.sum() > 0 else -outputs


def _subjects() -> Iterator[Subject]:
    yield Subject("`nn.Linear`", lambda: dense(nn.Linear(8, 8)), (nn.Linear,))
    yield Subject("`nn.Conv2d`", convolutional, (nn.Conv2d,))
    for pool in (nn.MaxPool2d, nn.AvgPool2d):
        yield Subject(
            f"`nn.{pool.__name__}`",
            lambda pool=pool: nn.Sequential(pool(2), nn.Flatten(), nn.Linear(18, CLASSES)),
            (pool,),
        )
    yield Subject("`nn.BatchNorm1d`", lambda: dense(nn.BatchNorm1d(8)), (nn.BatchNorm1d,))
    yield Subject("`nn.BatchNorm2d`", lambda: convolutional(nn.BatchNorm2d(3)), (nn.BatchNorm2d,))
    yield Subject("`nn.LayerNorm`", lambda: dense(nn.LayerNorm(8)), (nn.LayerNorm,))
    yield Subject("`nn.GroupNorm`", lambda: dense(nn.GroupNorm(2, 8)), (nn.GroupNorm,))
    for activation in (*FROM_OUTPUT, *BY_AUTOGRAD):
        yield Subject(
            f"`nn.{activation.__name__}`",
            lambda activation=activation: dense(activation()),
            (activation,),
        )
    yield Subject("`nn.PReLU`", lambda: dense(nn.PReLU()), (nn.PReLU,))
    for layer in (nn.RNN, nn.GRU, nn.LSTM):
        yield Subject(
            f"`nn.{layer.__name__}`",
            lambda layer=layer: Last(layer(6, 8, batch_first=True)),
            (layer,),
            SEQUENCE,
        )
    attention = (nn.MultiheadAttention,)
    yield Subject("`nn.MultiheadAttention`", Attention, attention, SEQUENCE)
    yield Subject("`nn.Embedding`, inputs of integers", Embedded, (nn.Embedding,), None)
    yield Subject("residual branches", Residual, (nn.Linear,), chain=False)
    own = nn.Sequential
    yield Subject(
        "a layer class of one's own", lambda: own(nn.Flatten(), Scaled(72, CLASSES)), (Scaled,)
    )
    yield Subject("`nn.Dropout`", lambda: dense(nn.Dropout(0.3)), (nn.Dropout,), plain=False)
    yield Subject("control flow that depends on values", Deciding, (nn.Linear,), plain=False)


SUBJECTS = tuple(_subjects())
CAPABILITIES = tuple(engine.capabilities for engine in ENGINES)


def document() -> str:
    """The page."""
    names = [capabilities.name for capabilities in CAPABILITIES]
    parts = [
        INTRODUCTION,
        _table(
            ["engine", "how it takes a step", "device", "runs of a pack"],
            (
                [c.name, c.purpose, ", ".join(c.devices), "together" if c.together else "in turn"]
                for c in CAPABILITIES
            ),
        ),
        "## Layers and activation functions",
        LAYERS,
        _table(["", *names], ([s.title, *(_cell(s, c) for c in CAPABILITIES)] for s in SUBJECTS)),
        "## Optimizers, precision and losses",
        _table(
            ["", *names],
            [
                *(
                    [f"`optimizer={o}`", *(_mark(taken(c.optimizers, o)) for c in CAPABILITIES)]
                    for o in OPTIMIZERS
                ),
                [
                    "`optimizer._target_` of torch's or of one's own",
                    *(_mark(taken(c.optimizers, TARGET)) for c in CAPABILITIES),
                ],
                ["`schedule`, `clip_norm`, `decay`", *("✓" for _ in CAPABILITIES)],
                *(
                    [f"`precision={p}`", *(_precision(p, c) for c in CAPABILITIES)]
                    for p in PRECISIONS
                ),
                [
                    "`loss=cross_entropy` of one class per example",
                    *(_mark(taken(c.losses, "cross_entropy")) for c in CAPABILITIES),
                ],
                ["any other loss", *(_mark(c.losses is None) for c in CAPABILITIES)],
            ],
        ),
        "## Probes",
        PROBES,
        _table(
            ["", *names],
            (
                [f"`probes={p}`", *("in the step" if p in c.probes else "–" for c in CAPABILITIES)]
                for p in PRESETS
                if p != "off"
            ),
        ),
        SAME_BITS,
    ]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """# Engines

An engine takes the training steps of a pack. All engines compute the same step, that of a plain
PyTorch loop with `torch.optim` for each run; they differ in speed and in what they take. The
fastest one that takes a study's model, optimizer and loss is chosen by itself;
`python -m initstudy.explain`, with the arguments of a study, says which one it is, and why no
faster one is. This page is written by `python -m tests.engines` from what the engines state of
themselves; a test tries every cell.

The fastest comes first:"""

LAYERS = """`compiled`, `graph` and `batched` take models whose `forward` calls such layers one
after another; functions count as the layers of the same name.

- **✓=** the engine takes it, and on a CPU a run's losses are the same to the last bit alone and in
  a pack of any size.
- **✓** the engine takes it.
- **–** it does not."""

PROBES = """Every engine measures every preset. "In the step" means that it measures in the pass
that also updates; otherwise a step that measures is a step of the next engine that can."""

SAME_BITS = """## The same bits

On a CPU two trainings of the same pack give the same bits, on the same machine and with the same
number of threads and the same versions. The first table says for which layers a run's bits also
stay the same when other runs share its pack (✓=). For the others one kernel of torch works on all
runs at once, and may add up in another order when their number changes; results then agree to
rounding, as they do between engines. On a GPU matrix products may round in another way whenever the
size of the pack changes, with every engine.

What a row records of the losses are means: `train/loss` over the steps since the row before, and
`test/loss` over chunks of the test data, which are smaller in larger packs. Both are added up in
single precision in an order that depends on the pack, so that they can differ in the last digit
between packs of other sizes even if every step is the same. `planner.pack_size` and
`planner.workers` fix the packs."""


def _cell(subject: Subject, engine: Capabilities) -> str:
    if not subject.taken_by(engine):
        return "–"
    return "✓=" if "cpu" in engine.devices and subject.size_invariant(engine) else "✓"


def taken(names: tuple[str, ...] | None, name: str) -> bool:
    """Whether an engine that names what it takes takes this."""
    return names is None or name in names


def _mark(takes: bool) -> str:
    return "✓" if takes else "–"


def _precision(name: str, engine: Capabilities) -> str:
    if name not in engine.precisions:
        return "–"
    return "✓" if name != "tf32" or "cpu" not in engine.devices else "cuda"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    DOCUMENT.write_text(document())
