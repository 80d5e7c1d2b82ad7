"""One pack: models built, initialized, stacked and trained, as rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import nn

from initstudy.config import Plain
from initstudy.data import Batches, Dataset
from initstudy.ensemble import (
    OPTIMIZERS,
    Probes,
    Row,
    Schedule,
    Stack,
    Summary,
    find_layers,
    not_vectorizable,
    train,
)
from initstudy.sweep import build
from initstudy.sweep.plan import Pack

log = logging.getLogger(__name__)

# Floats of activations that an evaluation may hold at once, over all members.
EVALUATION_BUDGET = {"cpu": 2**22, "cuda": 2**28}


def schedule(config: Plain, batches_per_epoch: int) -> Schedule:
    """How long the runs of a configuration train, and how often they are looked at."""
    steps = config["epochs"] * batches_per_epoch
    if config["max_steps"] is not None:
        steps = min(steps, config["max_steps"])
    probes = Probes(config["probes"]["preset"], config["probes"]["every"])
    return Schedule(steps, config["log_every"], config["eval_every"], probes)


def train_pack(pack: Pack, device: torch.device) -> Iterator[Row | Summary]:
    """Trains a pack; yields rows and summaries by the member's place in `pack.runs`.

    A model with a layer that `vmap` cannot take, or that draws random numbers, trains one member
    after another; the log says why.
    """
    data = build.dataset(pack.runs[0].config)
    architecture = build.model(pack.runs[0].config, data)
    reason = not_vectorizable(architecture, data.normalize(data.train_x[:2]))
    if reason is None:
        yield from _train(pack, data, architecture, device, vectorized=True)
        return
    log.warning("training one by one, since the model cannot be stacked: %s", reason)
    for index, run in enumerate(pack.runs):
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(run.config["seed"])
            alone = Pack(run.id, (run,))
            for row in _train(alone, data, architecture, device, vectorized=False):
                yield type(row)(index, *_rest(row))


def layer_names(pack: Pack) -> list[str]:
    """The names of the layers of a pack's model, in the order in which they run."""
    data = build.dataset(pack.runs[0].config)
    architecture = build.model(pack.runs[0].config, data)
    return [layer.name for layer in find_layers(architecture, data.normalize(data.train_x[:2]))]


def _train(
    pack: Pack, data: Dataset, architecture: nn.Module, device: torch.device, *, vectorized: bool
) -> Iterator[Row | Summary]:
    configs = [run.config for run in pack.runs]
    config = configs[0]
    architecture.train()
    layers = find_layers(architecture, data.normalize(data.train_x[:2]))
    drawn = [build.draw(run, architecture, data) for run in pack.runs]
    members = [values for values, _ in drawn]
    stack = Stack(architecture, members, device=device, vectorized=vectorized)
    on_device = data.to(device)
    batches = Batches(on_device, [c["seed"] for c in configs], config["batch_size"])
    plan = schedule(config, batches.per_epoch)
    widest = sum(torch.Size(layer.shape).numel() for layer in layers) or 1
    chunk = max(1, EVALUATION_BUDGET[device.type] // (widest * stack.size))
    rows = train(
        stack,
        _optimizer(configs, stack),
        batches,
        lambda: on_device.test_chunks(chunk),
        layers,
        plan,
    )
    for row in rows:
        if isinstance(row, Summary):
            row = Summary(row.member, {**row.values, **drawn[row.member][1]})
        yield row


def _optimizer(configs: list[Plain], stack: Stack):  # type: ignore[no-untyped-def]
    """The pack's optimizer; what may differ between members becomes one value a member."""
    shared = dict(configs[0]["optimizer"])
    kind = OPTIMIZERS[shared.pop("name")]
    for key in {"lr", "weight_decay", "momentum"} & set(shared):
        shared[key] = [float(config["optimizer"][key]) for config in configs]
    return kind(list(stack.params.values()), **shared)


def _rest(row: Row | Summary) -> tuple:
    return (row.step, row.values) if isinstance(row, Row) else (row.values,)
