"""One pack: models built, initialized, stacked and trained, as rows."""

from __future__ import annotations

import itertools
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from initstudy.config import Plain
from initstudy.engine.contract import Batch, Engine
from initstudy.engine.losses import CROSS_ENTROPY
from initstudy.engine.optimizers import Optimizer
from initstudy.engine.stack import Stack, Tensors
from initstudy.engine.state import State
from initstudy.engine.summaries import Value
from initstudy.engine.train import Row, Summary, train
from initstudy.tasks import Batches
from initstudy.theory.predict import NotCoveredError, predict, second_moment
from initstudy.training import factory, precision
from initstudy.training.config import order_seeds
from initstudy.training.group import Pack, RunGroup
from initstudy.training.optimizers import optimizer_of
from initstudy.training.rates import rates_of
from initstudy.trees import TensorTree, at, map_tensors

log = logging.getLogger(__name__)
Foreseen = tuple[dict[str, Value], dict[str, Value]]

UNTIMED_STEPS, TIMED_STEPS = 2, 5
TRIAL_RATE = 1e-6
SECONDS_OF_A_TRIAL = 0.06

# Floats of activations that an evaluation may hold at once, over all members.
EVALUATION_BUDGET = {"cpu": 2**20, "cuda": 2**28}


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
    """Trains a pack; yields rows and summaries by the member's index in `pack.runs`.

    If the runs keep their initial parameters, those come first.

    A model with a layer that `vmap` cannot take, or that draws random numbers, trains one member
    after another; the log says why.

    Args:
        pack: What to train.
        device: Where to train it.
        resumption: Where to go on, and when to yield the state; from the start by default.

    Raises:
        ValueError: The state to go on from does not fit, at the first row.
    """
    resumption = resumption or Resumption()
    choice = pack.group.engine.of(len(pack.runs))
    if choice.engine.capabilities.together:
        yield from _train(pack, device, resumption)
        return
    if len(pack.runs) > 1:
        why = choice.reasons["vmap"]
        log.warning("training one by one, since the model cannot be stacked: vmap: %s", why)
    yield from _one_by_one(pack, device, resumption)


def _one_by_one(
    pack: Pack, device: torch.device, resumption: Resumption
) -> Iterator[Start | Row | Summary | State]:
    """Trains one member after another, each as a pack of its own."""
    state = resumption.state
    first = state.facts["place"] if state else 0
    for index, run in list(enumerate(pack.runs))[first:]:
        begin = replace(resumption, state=state if index == first else None)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(order_seeds([run])[0])
            for row in _train(Pack(pack.group, (run,)), device, begin):
                if isinstance(row, State):
                    yield replace(row, facts={**row.facts, "place": index})
                else:
                    yield replace(row, member=index)


def warm_up(group: RunGroup) -> bool:
    """Loads the machine code of a group's engine, if it has some, so that forks find it there.

    Of other groups no step is taken: a user's code may raise, or end the process.

    Returns:
        Whether the engine has machine code.
    """
    if not group.engine.engine.capabilities.machine_code:
        return False
    engine, batches = _trial(Pack(group, group.runs[:1]), torch.device("cpu"))
    inputs, targets = batches(0)
    # Class 0, which every model has: that a model has too few classes is for its training to tell.
    engine.step(Batch(inputs, map_tensors(torch.zeros_like, targets)))
    return True


def speed(pack: Pack, device: torch.device) -> float:
    """Member-steps per second, from a few steps from the model's default initialization."""
    engine, batches = _trial(pack, device)
    spent: list[float] = []
    for step in itertools.count():
        begun = time.perf_counter()
        engine.step(Batch(*batches(step)))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - begun)
        timed = spent[UNTIMED_STEPS:]
        enough = len(timed) >= TIMED_STEPS and sum(timed) > SECONDS_OF_A_TRIAL
        if enough or sum(spent) > 8 * SECONDS_OF_A_TRIAL:
            break
    # The median, since what disturbs a step only ever makes it longer.
    return len(pack.runs) / statistics.median(timed or spent)


def _trial(pack: Pack, device: torch.device) -> tuple[Engine, Batches]:
    """The engine of a pack, at a learning rate so low that nothing can diverge, and its batches."""
    group = pack.group
    precision.apply(group.config.precision, device)
    model = group.new_model().train()
    values = {name: p.detach().clone() for name, p in model.named_parameters()}
    stack = Stack(model, [values] * len(pack.runs), device=device)
    choice = group.engine.of(len(pack.runs))
    batches = Batches(group.data.to(device), order_seeds(pack.runs), group.config.batch_size)
    return choice.build(stack, _optimizer(pack, stack, lr=TRIAL_RATE)), batches


def _train(
    pack: Pack, device: torch.device, resumption: Resumption
) -> Iterator[Start | Row | Summary | State]:
    """Trains the members of a pack as one program."""
    group, config = pack.group, pack.group.config
    precision.apply(config.precision, device)
    model = group.new_model().train()
    drawn = [factory.draw(run, model, group.task) for run in pack.runs]
    members = [values for values, _ in drawn]
    stack = Stack(model, members, device=device)
    data = group.data.to(device)
    batches = Batches(data, order_seeds(pack.runs), config.batch_size)
    widest = sum(math.prod(layer.shape) for layer in group.layers) or 1
    chunk = max(1, EVALUATION_BUDGET[device.type] // (widest * stack.size))
    choice = group.engine.of(stack.size)
    rows = train(
        choice.build(stack, _optimizer(pack, stack), group.layers),
        batches,
        lambda: data.chunks("test", chunk),
        group.schedule,
        validation=None if data.validation is None else lambda: data.chunks("validation", chunk),
        schema=group.schema,
        start=resumption.state,
        due=resumption.due,
    )
    foreseen = [
        _foresee(group, model, values, at(batches(0, [member])[0], 0))
        for member, values in enumerate(members)
    ]
    if config.probes.preset == "off":
        foreseen = [({}, at_last) for _, at_last in foreseen]
    if config.keeps_first and resumption.state is None:
        for member, values in enumerate(members):
            yield Start(member, {**dict(model.named_buffers()), **values})
    yield from _annotated(rows, [cost for _, cost in drawn], foreseen)


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


def _foresee(
    group: RunGroup, architecture: nn.Module, values: Tensors, inputs: TensorTree
) -> Foreseen:
    """What theory foresees of a run: columns of its first row, and of its summary."""
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        return {}, {}
    try:
        found = predict(architecture, values, second_moment(inputs), len(inputs))
    except NotCoveredError:
        return {}, {}
    first: dict[str, Value] = {}
    for name in found.activations:
        first[f"activation/{name}/theory"] = found.activations[name]
        first[f"activation/{name}/theory_spread"] = found.spreads[name]
        # The theory of gradients begins with that of the cross-entropy of one class per example.
        if group.loss.name == CROSS_ENTROPY.name:
            first[f"gradient/{name}/theory"] = found.gradients[name]
    last: dict[str, Value] = {
        "theory/activation": found.activation,
        "theory/critical_std": found.critical_std,
        "theory/sigma_w2": found.sigma_w2,
        "theory/sigma_b2": found.sigma_b2,
    }
    return first, {key: value for key, value in last.items() if value is not None}


def _optimizer(pack: Pack, stack: Stack, lr: float | None = None) -> Optimizer:
    """The pack's optimizer, with one value per member of what each run sets for itself.

    Args:
        pack: The pack.
        stack: Its members.
        lr: A learning rate for all members, instead of their own.
    """
    group = pack.group
    rates = rates_of(pack.runs, group.rates, group.schedule.steps, stack.device)
    config, how = group.config.optimizer, group.updates
    return optimizer_of(pack.runs, config, how, stack.params, rates, lr=lr)
