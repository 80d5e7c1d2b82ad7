"""One pack: models built, initialized, stacked and trained, as rows."""

from __future__ import annotations

import itertools
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from initstudy.config import Plain
from initstudy.engine.batched import stages
from initstudy.engine.batched.stage import Stage
from initstudy.engine.compiled import Program
from initstudy.engine.optimizers import OPTIMIZERS, Optimizer
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack, Tensors, not_vectorizable
from initstudy.engine.state import State
from initstudy.engine.train import Row, Summary, Training, Value, train
from initstudy.probes.layers import find_layers
from initstudy.probes.statistics import Probes
from initstudy.tasks.data import Batches, Dataset
from initstudy.theory.predict import NotCoveredError, predict, second_moment
from initstudy.training import factory as build
from initstudy.training.group import Pack

log = logging.getLogger(__name__)
Foreseen = tuple[dict[str, Value], dict[str, Value]]

UNTIMED_STEPS, TIMED_STEPS = 2, 5
SECONDS_OF_A_TRIAL = 0.06

# Floats of activations that an evaluation may hold at once, over all members.
EVALUATION_BUDGET = {"cpu": 2**20, "cuda": 2**28}


def schedule(config: Plain, batches_per_epoch: int) -> Schedule:
    """How long the runs of a configuration train, and how often they are looked at."""
    steps = config["epochs"] * batches_per_epoch
    if config["max_steps"] is not None:
        steps = min(steps, config["max_steps"])
    probes = Probes(config["probes"]["preset"], config["probes"]["every"])
    keep = config["save_weights"] in ("final", "both")
    return Schedule(steps, config["log_every"], config["eval_every"], probes, keep)


def steps(config: Plain) -> int:
    """Updates of each run of a configuration."""
    data = build.dataset(config)
    return schedule(config, len(data.train_y) // config["batch_size"]).steps


@dataclass(frozen=True)
class Start:
    """One member's initial parameters and buffers, by name."""

    member: int
    weights: Tensors


@dataclass(frozen=True)
class Resumption:
    """Where a pack goes on, and when it says where it is.

    Attributes:
        state: Of an earlier training of the same pack; None for its start.
        due: Asked after every step whether to yield the state as well.
    """

    state: State | None = None
    due: Callable[[], bool] = lambda: False


def train_pack(
    pack: Pack, device: torch.device, resumption: Resumption | None = None
) -> Iterator[Start | Row | Summary | State]:
    """Trains a pack; yields rows and summaries by the member's place in `pack.runs`.

    Where the runs keep their initial parameters, those come first.

    A model with a layer that `vmap` cannot take, or that draws random numbers, trains one member
    after another; the log says why.

    Raises:
        ValueError: The state to go on from does not fit, at the first row.
    """
    resumption = resumption or Resumption()
    data = build.dataset(pack.runs[0].config)
    architecture = build.model(pack.runs[0].config, data)
    way = _way(architecture, data, len(pack.runs))
    if way.together:
        yield from _train(pack, data, architecture, device, resumption, way)
        return
    if way.reason:
        log.warning("training one by one, since the model cannot be stacked: %s", way.reason)
    state = resumption.state
    place = state.facts["place"] if state else 0
    for index, run in list(enumerate(pack.runs))[place:]:
        begin = replace(resumption, state=state if index == place else None)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(run.config["seed"])
            alone = Pack(run.id, (run,))
            for row in _train(alone, data, architecture, device, begin, way):
                if isinstance(row, State):
                    yield replace(row, facts={**row.facts, "place": index})
                else:
                    yield replace(row, member=index)


def warm_up(run: Run) -> bool:
    """Loads the compiled step, where such runs have it, so that forks find it there.

    Of other runs no step is taken: a user's code may raise, or end the process.
    """
    training = _trial(Pack("", (run,)), torch.device("cpu"))
    if not isinstance(training.advance, Program):
        return False
    x, y = training.batches(0, training.members)
    # Labels that every model has: that one has too few classes is for its training to tell.
    training.advance(x, torch.zeros_like(y))
    return True


def speed(pack: Pack, device: torch.device) -> float:
    """Member-steps a second, from a few steps of the model's default initialization."""
    training = _trial(pack, device)
    spent: list[float] = []
    for step in itertools.count():
        begun = time.perf_counter()
        training.advance(*training.batches(step, training.members))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - begun)
        timed = spent[UNTIMED_STEPS:]
        enough = len(timed) >= TIMED_STEPS and sum(timed) > SECONDS_OF_A_TRIAL
        if enough or sum(spent) > 8 * SECONDS_OF_A_TRIAL:
            break
    # The median, since what disturbs a step only ever makes it longer.
    return len(pack.runs) / statistics.median(timed or spent)


def _trial(pack: Pack, device: torch.device) -> Training:
    """The training of a pack, at a rate at which nothing can diverge."""
    data = build.dataset(pack.runs[0].config)
    architecture = build.model(pack.runs[0].config, data).train()
    way = _way(architecture, data, len(pack.runs))
    configs = [
        {**run.config, "optimizer": {**run.config["optimizer"], "lr": 1e-6}} for run in pack.runs
    ]
    values = {name: p.detach().clone() for name, p in architecture.named_parameters()}
    stack = way.stack(architecture, [values] * len(pack.runs), device)
    return Training(
        stack,
        _optimizer(configs, stack, architecture),
        Batches(data.to(device), [c["seed"] for c in configs], configs[0]["batch_size"]),
        lambda: iter(()),
        [],
        Schedule(sys.maxsize, sys.maxsize, sys.maxsize, Probes("off")),
    )


@dataclass(frozen=True)
class _Way:
    """How the runs of a pack train.

    Attributes:
        together: As one program, or else one by one.
        chain: The model's batched kernels, where it has them.
        reason: Why they cannot train together, if that is why they do not.
    """

    together: bool
    chain: Sequence[Stage] | None = None
    reason: str | None = None

    def stack(
        self, architecture: nn.Module, members: Sequence[Tensors], device: torch.device
    ) -> Stack:
        """The members, to be trained this way."""
        return Stack(
            architecture, members, device=device, vectorized=self.together, stages=self.chain
        )


def _way(architecture: nn.Module, data: Dataset, runs: int) -> _Way:
    """How so many runs of a model train."""
    example = data.normalize(data.train_x[:2])
    chain = stages(architecture, example)
    if chain is not None:
        return _Way(together=True, chain=chain)
    reason = not_vectorizable(architecture, example) if runs > 1 else None
    return _Way(together=runs > 1 and reason is None, reason=reason)


def _train(
    pack: Pack,
    data: Dataset,
    architecture: nn.Module,
    device: torch.device,
    resumption: Resumption,
    way: _Way,
) -> Iterator[Start | Row | Summary | State]:
    configs = [run.config for run in pack.runs]
    config = configs[0]
    architecture.train()
    layers = find_layers(architecture, data.normalize(data.train_x[:2]))
    drawn = [build.draw(run, architecture, data) for run in pack.runs]
    members = [values for values, _ in drawn]
    stack = way.stack(architecture, members, device)
    on_device = data.to(device)
    batches = Batches(on_device, [c["seed"] for c in configs], config["batch_size"])
    plan = schedule(config, batches.per_epoch)
    widest = sum(torch.Size(layer.shape).numel() for layer in layers) or 1
    chunk = max(1, EVALUATION_BUDGET[device.type] // (widest * stack.size))
    rows = train(
        stack,
        _optimizer(configs, stack, architecture),
        batches,
        lambda: on_device.test_chunks(chunk),
        layers,
        plan,
        start=resumption.state,
        due=resumption.due,
    )
    costs = [cost for _, cost in drawn]
    foreseen = [
        _foresee(architecture, values, batches(0, [member])[0][0])
        for member, values in enumerate(members)
    ]
    if plan.probes.preset == "off":
        foreseen = [({}, at_last) for _, at_last in foreseen]
    if config["save_weights"] in ("init", "both") and resumption.state is None:
        for member, values in enumerate(members):
            yield Start(member, {**values, **dict(architecture.named_buffers())})
    yield from _annotated(rows, costs, foreseen)


def _annotated(
    rows: Iterable[Row | Summary | State], costs: Sequence[Plain], foreseen: Sequence[Foreseen]
) -> Iterator[Row | Summary | State]:
    """Rows with what theory foresees in the first, and summaries with what the start has cost."""
    for row in rows:
        if isinstance(row, State):
            yield row
            continue
        at_first, at_last = foreseen[row.member]
        if isinstance(row, Summary):
            yield replace(row, values={**row.values, **costs[row.member], **at_last})
        elif row.step == 0:
            yield Row(row.member, 0, {**row.values, **at_first})
        else:
            yield row


def _foresee(architecture: nn.Module, values: Tensors, x: Tensor) -> Foreseen:
    """What theory foresees of a run: columns of its first row, and of its summary."""
    try:
        found = predict(architecture, values, second_moment(x), len(x))
    except NotCoveredError:
        return {}, {}
    first: dict[str, Value] = {}
    for name in found.activations:
        first[f"activation/{name}/theory"] = found.activations[name]
        first[f"gradient/{name}/theory"] = found.gradients[name]
    last: dict[str, Value] = {
        "theory/activation": found.activation,
        "theory/critical_std": found.critical_std,
        "theory/sigma_w2": found.sigma_w2,
        "theory/sigma_b2": found.sigma_b2,
    }
    return first, {key: value for key, value in last.items() if value is not None}


def _optimizer(configs: list[Plain], stack: Stack, architecture: nn.Module) -> Optimizer:
    """The pack's optimizer; what may differ between members becomes one value a member."""
    shared = dict(configs[0]["optimizer"])
    name = shared.pop("name")
    shared.pop("base_width", None)
    rates = build.learning_rates(configs[0], architecture)
    shared["scales"] = [rates.get(parameter, 1.0) for parameter in stack.params]
    for key in {"lr", "weight_decay", "momentum"} & set(shared):
        shared[key] = [float(config["optimizer"][key]) for config in configs]
    return OPTIMIZERS[name](list(stack.params.values()), **shared)
